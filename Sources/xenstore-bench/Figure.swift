// What a scenario measures, what is asked of it, and how both are written down.

/// What a figure's number counts.
enum Unit: Sendable {
    case nanoseconds
    case perSecond
    case bytes
    case count
    /// A multiple of another figure of the same daemon.
    case multiple

    /// `value` with about three significant digits and the unit's name: `4.21 µs`, `118 k/s`, `9.4`.
    func text(_ value: Double) -> String {
        switch self {
        case .nanoseconds:
            scaled(value, 1000, ["ns", "µs", "ms", "s"])
        case .perSecond:
            scaled(value, 1000, ["/s", "k/s", "M/s"])
        case .bytes:
            scaled(value, 1024, ["B", "KiB", "MiB", "GiB"])
        case .count:
            value == value.rounded() ? fixed(value, 0) : significant(value)
        case .multiple:
            significant(value) + "×"
        }
    }

    private func scaled(_ value: Double, _ step: Double, _ names: [String]) -> String {
        var value = value
        var rank = 0
        while value.magnitude >= step, rank < names.count - 1 {
            value /= step
            rank += 1
        }
        return significant(value) + " " + names[rank]
    }
}

/// Three significant digits, but every digit in front of the point.
func significant(_ value: Double) -> String {
    switch value.magnitude {
    case ..<0.0005: "0"
    case ..<1: fixed(value, 3)
    case ..<10: fixed(value, 2)
    case ..<100: fixed(value, 1)
    default: fixed(value, 0)
    }
}

/// What is asked of a figure of the first target.
enum Bound: Equatable, Sendable {
    /// As a multiple of the second target's, the median over the rounds.
    case ratioAtMost(Double)
    case ratioAtLeast(Double)
    /// Of the first target alone, the median over the rounds.
    case atMost(Double)
    case atLeast(Double)

    /// Whether it is met; nil where what it speaks of was not measured.
    func isMet(value: Double?, ratio: Double?) -> Bool? {
        switch self {
        case .ratioAtMost(let limit): ratio.map { $0 <= limit }
        case .ratioAtLeast(let limit): ratio.map { $0 >= limit }
        case .atMost(let limit): value.map { $0 <= limit }
        case .atLeast(let limit): value.map { $0 >= limit }
        }
    }

    func text(_ unit: Unit) -> String {
        switch self {
        case .ratioAtMost(let limit): "ratio ≤ " + significant(limit)
        case .ratioAtLeast(let limit): "ratio ≥ " + significant(limit)
        case .atMost(let limit): "≤ " + unit.text(limit)
        case .atLeast(let limit): "≥ " + unit.text(limit)
        }
    }
}

/// One number that a scenario found out about one daemon in one round.
struct Figure: Sendable {
    /// Stands for the figure in its scenario: the same in every round and for every daemon.
    var name: String
    var unit: Unit
    var value: Double
    /// What is asked of it, if anything is.
    var bound: Bound?

    init(_ name: String, _ unit: Unit, _ value: Double, asked bound: Bound? = nil) {
        self.name = name
        self.unit = unit
        self.value = value
        self.bound = bound
    }
}
