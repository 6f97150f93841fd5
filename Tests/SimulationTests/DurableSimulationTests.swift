// Is nothing lost and nothing done twice, whenever the daemon is killed?
//
//     XENSTORE_SEED=0x...   one seed only
//     XENSTORE_SEEDS=N      how many seeds (default 100)
//     XENSTORE_KILL_STEPS=N steps for each (default 300)
//     XENSTORE_TRACE=1      a failing run also prints what it did

import Foundation
import Testing
import XenStoreTestKit

private let stepCount = Int(
    ProcessInfo.processInfo.environment["XENSTORE_KILL_STEPS"].flatMap { UInt64($0) } ?? 300)

private let isTraced = ProcessInfo.processInfo.environment["XENSTORE_TRACE"] != nil

/// What steps do in all runs together.
private struct Totals {
    var kills = 0
    var repeated = 0
    var lostBatches = 0
}

private func failure(
    _ seed: UInt64, _ steps: [DurableStep], _ totals: inout Totals, trace: ((String) -> Void)? = nil
) -> Disagreement? {
    do {
        let simulation = try DurableSimulation(seed: seed, trace: trace)
        try simulation.run(steps)
        totals.kills += simulation.kills
        totals.repeated += simulation.repeated
        totals.lostBatches += simulation.lostBatches
        return nil
    } catch {
        return error as? Disagreement
    }
}

@Test(arguments: seeds)
func whateverIsKilledComesBackAsItWas(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let steps = (0..<stepCount).map { _ in DurableStep(from: &random) }
    var totals = Totals()
    guard let found = failure(seed, steps, &totals) else {
        // A run in which nothing was at stake shows nothing.
        if stepCount >= 200 { #expect(totals.kills > 0) }
        return
    }
    let cut = Array(steps.prefix(found.step < 0 ? steps.count : found.step + 1))
    let short = shrink(cut) { failure(seed, $0, &totals) != nil }
    let hex = "0x" + String(seed, radix: 16)
    let last = failure(seed, short, &totals, trace: isTraced ? { print($0) } : nil) ?? found
    Issue.record(
        """
        \(last)
        shortest run found (\(short.count) steps):
        \(short.map { "  \($0)" }.joined(separator: "\n"))
        repeat: XENSTORE_SEED=\(hex) XENSTORE_KILL_STEPS=\(stepCount) swift test --filter whateverIsKilled
        """)
}
