// The arithmetic of a comparison: pure functions of lists of numbers.

/// The middle of `values` (the mean of the two middle ones, where their number is even), or nil of none.
func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// The smallest value that at least `share` (0 to 1) of all values do not exceed: the nearest-rank
/// percentile. Nil of no values.
func percentile(_ share: Double, of values: [UInt64]) -> UInt64? {
    guard !values.isEmpty else { return nil }
    let rank = Int((share * Double(values.count)).rounded(.up))
    return values.sorted()[min(max(rank, 1), values.count) - 1]
}

/// The median of first / second, round by round.
///
/// The machine is rarely alone with us: what disturbs one round disturbs both daemons in it, so the ratio of
/// one round is worth more than a ratio of two medians. A round in which one of them is missing, or the
/// second is 0, says nothing; nil if no round says anything.
func medianRatio(_ first: [Double?], _ second: [Double?]) -> Double? {
    var ratios: [Double] = []
    for case (let first?, let second?) in zip(first, second) where second != 0 {
        ratios.append(first / second)
    }
    return median(ratios)
}

/// What a step cost near the end of a long row of steps, as a multiple of what it cost near the start: the
/// mean of the last tenth by the mean of the first. 1 is a flat cost. Nil below 10 steps, or where the first
/// tenth cost nothing.
func lastTenthByFirst(_ costs: [UInt64]) -> Double? {
    let tenth = costs.count / 10
    guard tenth > 0 else { return nil }
    let first = costs.prefix(tenth).reduce(0, +)
    let last = costs.suffix(tenth).reduce(0, +)
    return first == 0 ? nil : Double(last) / Double(first)
}

/// `value` in decimal with `digits` digits behind the point, rounded half away from zero: `fixed(1.25, 1)` is
/// `1.3`.
func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else {
        return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf"
    }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int64((value.magnitude * scale).rounded())
    let sign = value < 0 && scaled != 0 ? "-" : ""
    guard digits > 0 else { return sign + String(scaled) }
    let fraction = String(scaled % Int64(scale))
    let zeros = String(repeating: "0", count: digits - fraction.count)
    return sign + String(scaled / Int64(scale)) + "." + zeros + fraction
}
