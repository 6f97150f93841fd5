// `xenstore-bench`: measures any xenstored through its socket and through rings, and compares two.

import ArgumentParser
import Glibc

@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstore-bench",
        abstract: "Measures xenstored daemons through their sockets and rings, by turns, and compares them.",
        discussion: """
            The first target is the one that bounds are asked of, the second the one that it is compared \
            with. A daemon that is given as a command is started afresh for every measurement, with \
            XENSTORED_RUNDIR set to an empty directory, and ended after it. All nodes are made below \
            \(Daemon.root), which is removed, also before a daemon that runs already is measured.

            The scenarios with rings and domains need a simulated Xen host: SIMXEN_DIR names its directory \
            to a daemon that is started, and for one that runs the directory follows the socket. They make \
            domains from 1 on, with nodes below /local/domain, /vm and /libxl, and remove them.

            The policed scenarios compare a daemon with access policies, the first target, with the same \
            without; they are measured only where they are named.

            Scenarios: \(Scenario.all.map(\.name).joined(separator: " ")).
            """)

    @Option(
        name: .customLong("target"),
        help: ArgumentHelp(
            "A running daemon, or a command that starts one (default: the xenstored beside this program).",
            valueName: "name=pid:socket[:directory]|name=command"))
    var targets: [TargetArgument] = []

    @Option(help: "The CPU for the daemons, and for the benchmark too unless --client-cpu names another.")
    var cpu: Int?

    @Option(help: "The CPU for the benchmark; needs --cpu.")
    var clientCPU: Int?

    @Option(help: "How many times each target is measured; some scenarios take fewer.")
    var rounds = 5

    @Option(name: .customLong("scenario"), help: "Measure only this one (repeatable).")
    var scenarios: [String] = []

    @Option(help: "How much of everything: full, or small for a look whether it runs.")
    var scale = ScaleName.full

    @Option(
        name: .customLong("write-rules"),
        help: ArgumentHelp(
            "Write a thousand rules for the policed scenarios to this file, measure nothing.",
            valueName: "file"))
    var rulesFile: String?

    @Flag(help: "Print a Markdown table.")
    var markdown = false

    @Flag(help: "Exit with status 1 also where a bound is not met, not only where measuring failed.")
    var check = false

    enum ScaleName: String, ExpressibleByArgument, CaseIterable {
        case small, full
    }

    func validate() throws {
        guard Set(targets.map(\.name)).count == targets.count else {
            throw ValidationError("two targets of one name")
        }
        guard rounds > 0 else { throw ValidationError("--rounds must be at least 1") }
        guard clientCPU == nil || cpu != nil else { throw ValidationError("--client-cpu needs --cpu") }
        let names = Scenario.all.map(\.name)
        for name in scenarios where !names.contains(name) {
            throw ValidationError("no scenario '\(name)'; there are: \(names.joined(separator: " "))")
        }
    }

    func run() throws {
        if let rulesFile { return try PolicyRules.write(to: rulesFile) }
        Process.allowManyFiles()
        if let client = clientCPU ?? cpu { try Process.own.pin(to: client) }
        var comparison = Comparison(
            targets.isEmpty ? [.besideThisProgram()] : targets, cpu: cpu,
            scale: scale == .full ? .full : .small, rounds: rounds)
        for scenario in Scenario.all
        where scenarios.isEmpty ? !scenario.isSpecial : scenarios.contains(scenario.name) {
            comparison.run(scenario)
        }
        print(conditions + "\n")
        print(comparison.table().text(markdown: markdown))
        for failure in comparison.failures { print("\nFailed: \(failure)") }
        if !comparison.failures.isEmpty || (check && comparison.fallsShort) { throw ExitCode(1) }
    }

    private var conditions: String {
        let place =
            cpu.map { "daemons on CPU \($0), client on CPU \(clientCPU ?? $0)" } ?? "everything on any CPU"
        return "Scale \(scale.rawValue), up to \(rounds) rounds, \(place). Medians of the rounds."
    }
}
