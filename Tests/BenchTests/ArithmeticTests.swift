// Do the benchmark's numbers say what they claim: statistics, bounds, and how they are written down.

import Testing

@testable import xenstore_bench

@Test func medianTakesTheMiddle() {
    #expect(median([]) == nil)
    #expect(median([7]) == 7)
    #expect(median([9, 1, 5]) == 5)
    #expect(median([4, 1, 3, 2]) == 2.5)
}

@Test func percentileIsNearestRank() {
    let hundred = (1...100).reversed().map { UInt64($0) }
    #expect(percentile(0.5, of: hundred) == 50)
    #expect(percentile(0.99, of: hundred) == 99)
    #expect(percentile(1, of: hundred) == 100)
    #expect(percentile(0, of: hundred) == 1)
    #expect(percentile(0.99, of: [3, 8]) == 8)
    #expect(percentile(0.5, of: []) == nil)
}

@Test func ratiosAreTakenRoundByRound() {
    // The second round was disturbed for both: the medians' ratio would be 40 / 100.
    #expect(medianRatio([10, 40, 50], [20, 80, 100]) == 0.5)
    #expect(medianRatio([10, nil, 30], [20, 5, nil]) == 0.5)
    #expect(medianRatio([10], [0]) == nil)
    #expect(medianRatio([nil], [1]) == nil)
}

@Test func tenthsAreComparedByTheirMeans() {
    #expect(lastTenthByFirst([UInt64](repeating: 3, count: 40)) == 1)
    #expect(lastTenthByFirst((1...20).map { UInt64($0) }) == 13)
    #expect(lastTenthByFirst([1, 2, 3]) == nil)
    #expect(lastTenthByFirst([UInt64](repeating: 0, count: 10)) == nil)
}

@Test func decimalsAreRounded() {
    #expect(fixed(1.25, 1) == "1.3")
    #expect(fixed(0.05, 2) == "0.05")
    #expect(fixed(-0.001, 2) == "0.00")
    #expect(fixed(-12.5, 0) == "-13")
    #expect(fixed(999.999, 2) == "1000.00")
    #expect(fixed(.infinity, 2) == "inf")
    #expect(fixed(.nan, 2) == "nan")
}

@Test func unitsScale() {
    #expect(Unit.nanoseconds.text(4210) == "4.21 µs")
    #expect(Unit.nanoseconds.text(1.5e9) == "1.50 s")
    #expect(Unit.nanoseconds.text(90e9) == "90.0 s")
    #expect(Unit.perSecond.text(118_400) == "118 k/s")
    #expect(Unit.bytes.text(2048) == "2.00 KiB")
    #expect(Unit.count.text(1_000_000) == "1000000")
    #expect(Unit.count.text(13.96) == "14.0")
    #expect(Unit.multiple.text(1.2) == "1.20×")
}

@Test func boundsAreInclusiveAndNeedWhatTheySpeakOf() {
    #expect(Bound.ratioAtMost(0.65).isMet(value: 9, ratio: 0.65) == true)
    #expect(Bound.ratioAtMost(0.65).isMet(value: 9, ratio: 0.66) == false)
    #expect(Bound.ratioAtMost(0.65).isMet(value: 9, ratio: nil) == nil)
    #expect(Bound.ratioAtLeast(3).isMet(value: nil, ratio: 2.9) == false)
    #expect(Bound.atMost(20).isMet(value: 20, ratio: nil) == true)
    #expect(Bound.atMost(20).isMet(value: .nan, ratio: nil) == false)
    #expect(Bound.atLeast(1).isMet(value: 0.5, ratio: 7) == false)
}

@Test func findingsKeepRoundsAndTargetsApart() {
    var found = Findings("scenario", targets: 2, rounds: 3)
    for (round, value) in [10.0, 40, 50].enumerated() {
        found.add([Figure("cost", .count, value, asked: .ratioAtMost(0.5))], target: 0, round: round)
        if round != 1 { found.add([Figure("cost", .count, 2 * value)], target: 1, round: round) }
    }
    #expect(found.lines.count == 1)
    #expect(found.lines[0].value(of: 0) == 40)
    #expect(found.lines[0].value(of: 1) == 60)
    #expect(found.lines[0].ratio == 0.5)
    #expect(found.lines[0].isMet == true)
}

@Test func aRatioWithoutAPeerIsNotComparable() {
    var found = Findings("scenario", targets: 1, rounds: 1)
    found.add([Figure("cost", .count, 1, asked: .ratioAtMost(0.5))], target: 0, round: 0)
    #expect(!found.lines[0].isComparable)
    #expect(found.lines[0].ratio == nil)
}

@Test func tablesAlign() {
    var table = Table(header: ["", "figure", "A"])
    table.numeric = [2]
    table.rows = [["read", "p50", "4.21 µs"], ["", "calls", "7"]]
    #expect(
        table.text(markdown: false) == """
                  figure        A
            ----  ------  -------
            read  p50     4.21 µs
                  calls         7
            """)
    #expect(
        table.text(markdown: true) == """
            |      | figure |       A |
            | ---- | ------ | ------: |
            | read | p50    | 4.21 µs |
            |      | calls  |       7 |
            """)
}
