// Is nothing lost and nothing done twice, whenever the daemon is killed?
//
//     XENSTORE_SEED=0x...   one seed only
//     XENSTORE_SEEDS=N      how many seeds (default 100)
//     XENSTORE_KILL_STEPS=N steps for each (default 300)

import Foundation
import Testing
import XenStoreTestKit

private let stepCount = Int(
    ProcessInfo.processInfo.environment["XENSTORE_KILL_STEPS"].flatMap { UInt64($0) } ?? 300)

private func failure(_ seed: UInt64, _ steps: [DurableStep]) -> Disagreement? {
    do {
        try DurableSimulation(seed: seed).run(steps)
        return nil
    } catch {
        return error as? Disagreement
    }
}

@Test(arguments: seeds)
func whateverIsKilledComesBackAsItWas(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let steps = (0..<stepCount).map { _ in DurableStep(from: &random) }
    guard let found = failure(seed, steps) else { return }
    let cut = Array(steps.prefix(found.step < 0 ? steps.count : found.step + 1))
    let short = shrink(cut) { failure(seed, $0) != nil }
    let hex = "0x" + String(seed, radix: 16)
    Issue.record(
        """
        \(failure(seed, short) ?? found)
        shortest run found (\(short.count) steps):
        \(short.map { "  \($0)" }.joined(separator: "\n"))
        repeat: XENSTORE_SEED=\(hex) XENSTORE_KILL_STEPS=\(stepCount) swift test --filter whateverIsKilled
        """)
}
