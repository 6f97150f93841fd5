// Does the server answer as the reference store does, whatever comes, in whatever order?
//
//     XENSTORE_SEED=0x...   one seed only
//     XENSTORE_SEEDS=N      how many seeds (default 100)
//     XENSTORE_STEPS=N      steps for each (default 400)

import Foundation
import Testing
import XenStoreTestKit

/// A number of the environment, decimal or 0x...
private func setting(_ name: String) -> UInt64? {
    guard let text = ProcessInfo.processInfo.environment[name] else { return nil }
    return text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
}

let seeds: [UInt64] = {
    if let one = setting("XENSTORE_SEED") { return [one] }
    var random = SplitMix64(seed: 0x5EED)
    return (0..<(setting("XENSTORE_SEEDS") ?? 100)).map { _ in random.next() }
}()

private let stepCount = Int(setting("XENSTORE_STEPS") ?? 400)

private func failure(_ seed: UInt64, _ steps: [Step]) -> Disagreement? {
    do {
        try Simulation(seed: seed).run(steps)
        return nil
    } catch {
        return error as? Disagreement
    }
}

/// Hundreds of guests are born and die in one run, forty at a time.
@Test(arguments: seeds.prefix(2))
func hundredsOfGuestsAreBornAndDie(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let simulation = Simulation(seed: seed, guests: 40)
    try simulation.prepare()
    var last: [Step] = []
    do {
        for _ in 0..<2000 {
            let step =
                random.chance(75)
                ? Step(lifeFrom: &random, guests: 40)
                : Step(from: &random, slots: Simulation.hostSlots + 40, guests: 40)
            last = last.suffix(9) + [step]
            try simulation.take(step)
        }
        try simulation.compareTrees()
    } catch {
        Issue.record("\(error)\nlast steps:\n\(last.map { "  \($0)" }.joined(separator: "\n"))")
    }
    #expect(simulation.births >= 300)
}

@Test(arguments: seeds)
func serverAgreesWithTheReference(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let steps = (0..<stepCount).map { _ in Step(from: &random, slots: Simulation.slotCount) }
    guard let found = failure(seed, steps) else { return }
    let cut = Array(steps.prefix(found.step < 0 ? steps.count : found.step + 1))
    let short = shrink(cut) { failure(seed, $0) != nil }
    let hex = "0x" + String(seed, radix: 16)
    Issue.record(
        """
        \(failure(seed, short) ?? found)
        shortest run found (\(short.count) steps):
        \(short.map { "  \($0)" }.joined(separator: "\n"))
        repeat: XENSTORE_SEED=\(hex) XENSTORE_STEPS=\(stepCount) swift test --filter SimulationTests
        """)
}
