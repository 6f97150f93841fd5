// Measures the targets by turns and sets their figures beside each other.

import Glibc

/// What one scenario found: for each figure the values of every target, round by round.
struct Findings {
    struct Line {
        var name: String
        var unit: Unit
        var bound: Bound?
        /// `values[target][round]`; nil where the measurement failed.
        var values: [[Double?]]
        /// How many of the targets are measured; the others stay out.
        var measured: Int
    }

    var title: String
    private(set) var lines: [Line] = []
    private let targets: Int
    /// How many of them take part.
    private let measured: Int
    private let rounds: Int

    init(_ title: String, targets: Int, measured: Int? = nil, rounds: Int) {
        self.title = title
        self.targets = targets
        self.measured = measured ?? targets
        self.rounds = rounds
    }

    mutating func add(_ figures: [Figure], target: Int, round: Int) {
        for figure in figures {
            let index = lines.firstIndex { $0.name == figure.name }
            if index == nil {
                let none = [Double?](repeating: nil, count: rounds)
                lines.append(
                    Line(
                        name: figure.name, unit: figure.unit, bound: figure.bound,
                        values: [[Double?]](repeating: none, count: targets), measured: measured))
            }
            lines[index ?? lines.count - 1].values[target][round] = figure.value
        }
    }
}

extension Findings.Line {
    func text(of target: Int) -> String {
        target < measured ? value(of: target).map(unit.text) ?? "failed" : ""
    }

    func value(of target: Int) -> Double? { median(values[target].compactMap { $0 }) }

    /// The first target's by the second's.
    var ratio: Double? { values.count < 2 ? nil : medianRatio(values[0], values[1]) }

    /// Whether what is asked is met; nil if nothing is asked.
    var isMet: Bool? {
        bound.map { $0.isMet(value: value(of: 0), ratio: ratio) ?? false }
    }

    /// A bound on a ratio says nothing where there is nothing to compare with.
    var isComparable: Bool {
        switch bound {
        case .ratioAtMost, .ratioAtLeast: values.count > 1
        default: true
        }
    }
}

struct Comparison {
    var targets: [TargetArgument]
    /// Where the daemons run; nil leaves it to the kernel.
    var cpu: Int?
    var scale: Scale
    var rounds: Int
    private(set) var findings: [Findings] = []
    private(set) var failures: [String] = []

    init(_ targets: [TargetArgument], cpu: Int?, scale: Scale, rounds: Int) {
        self.targets = targets
        self.cpu = cpu
        self.scale = scale
        self.rounds = rounds
    }

    /// Whether something that is asked is not met.
    var fallsShort: Bool {
        findings.contains { $0.lines.contains { $0.isComparable && $0.isMet == false } }
    }

    /// The targets by turns, `rounds` times (A B A B). A failure is kept, and ends its target's rounds.
    mutating func run(_ scenario: Scenario) {
        let rounds = min(rounds, scenario.mostRounds)
        var failed: Set<Int> = []
        let measured = scenario.isOursAlone ? targets.prefix(1) : targets[...]
        var found = Findings(
            scenario.title, targets: targets.count, measured: measured.count, rounds: rounds)
        for round in 0..<rounds {
            for (index, target) in measured.enumerated() where !failed.contains(index) {
                say("\(scenario.name) \(round + 1)/\(rounds): \(target.name)")
                do throws(Failure) {
                    let daemon = try Daemon(target.source, cpu: cpu)
                    defer { daemon.stop() }
                    found.add(try scenario.measure(daemon, scale), target: index, round: round)
                } catch {
                    failed.insert(index)
                    failures.append("\(scenario.name), round \(round + 1), \(target.name): \(error)")
                }
            }
        }
        findings.append(found)
    }

    func table() -> Table {
        var table = Table(header: ["", "figure"] + targets.map(\.name) + ["ratio", "asked", "verdict"])
        table.numeric = Set(2...(targets.count + 2))
        for found in findings {
            for (index, line) in found.lines.enumerated() {
                let values = targets.indices.map { line.text(of: $0) }
                let verdict = line.isComparable ? line.isMet.map { $0 ? "met" : "NOT MET" } : "no peer"
                table.rows.append(
                    [index == 0 ? found.title : "", line.name] + values
                        + [
                            line.ratio.map(significant) ?? "", line.bound?.text(line.unit) ?? "",
                            verdict ?? "",
                        ])
            }
        }
        return table
    }

    /// Progress, on standard error.
    private func say(_ text: String) {
        let line = Array((text + "\n").utf8)
        _ = Glibc.write(2, line, line.count)
    }
}
