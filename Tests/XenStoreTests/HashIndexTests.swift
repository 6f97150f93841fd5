// Does the index find what a dictionary finds, whatever collides in it?

import Testing
import XenStoreTestKit

@testable import XenStore

@Suite struct HashIndexTests {
    /// Hashes of which many share their slot, their upper half, or all: the width says how many bits differ.
    private static func hash(_ random: inout SplitMix64, _ width: Int) -> UInt64 {
        let upper = UInt64(random.below(1 << width)) << 32
        // The upper half's high bits do not choose a small table's slot.
        let far = UInt64(random.below(4)) << 60
        return upper | far | UInt64(random.below(4))
    }

    /// Every id of `hash` that the index has, in any order.
    private static func ids(_ index: HashIndex, _ hash: UInt64) -> Set<UInt32> {
        var found: Set<UInt32> = []
        _ = index.first(hash) { id in
            found.insert(id)
            return false
        }
        return found
    }

    @Test(arguments: seeds, [3, 8, 20]) func findsWhatADictionaryFinds(seed: UInt64, width: Int) throws {
        var random = SplitMix64(seed: seed)
        let index = HashIndex()
        defer { index.destroy() }
        var expected: [UInt64: Set<UInt32>] = [:]
        var all: [(hash: UInt64, id: UInt32)] = []
        var nextID: UInt32 = 1
        // With few slots to choose from, runs are long: keep it small.
        let steps = width == 20 ? 12_000 : 1200
        for step in 0..<steps {
            let isGrowing = step < steps / 2
            if all.isEmpty || random.chance(isGrowing ? 85 : 10) {
                let hash = Self.hash(&random, width)
                index.insert(hash, nextID)
                expected[hash >> 32, default: []].insert(nextID)
                all.append((hash, nextID))
                nextID += 1
            } else {
                let position = random.below(all.count)
                let gone = all[position]
                all[position] = all[all.count - 1]
                all.removeLast()
                index.remove(gone.hash, gone.id)
                expected[gone.hash >> 32]?.remove(gone.id)
            }
            try demand(index.count == all.count, seed, step, "count \(index.count)")
            let hash = all.isEmpty || random.chance(20) ? Self.hash(&random, width) : random.one(of: all).hash
            try demand(
                Self.ids(index, hash) == expected[hash >> 32] ?? [], seed, step, "ids of \(hash >> 32)")
        }
        for (upper, ids) in expected {
            try demand(Self.ids(index, upper << 32) == ids, seed, steps, "ids of \(upper)")
        }
    }

    @Test func choosesByThePredicate() {
        let index = HashIndex()
        defer { index.destroy() }
        for id: UInt32 in 1...5 { index.insert(0xABCD_0000_0000, id) }
        #expect(index.first(0xABCD_0000_0000) { $0 == 4 } == 4)
        #expect(index.first(0xABCD_0000_0000) { $0 == 6 } == 0)
        #expect(index.first(0xABCE_0000_0000) { _ in true } == 0)
    }

    /// At most three quarters are used while it grows; what a burst took is given back.
    @Test func growsAndShrinks() {
        let index = HashIndex()
        defer { index.destroy() }
        #expect(index.memory == 16 * 8)
        var random = SplitMix64(seed: 9)
        let hashes = (0..<100_000).map { _ in random.next() }
        for (number, hash) in hashes.enumerated() { index.insert(hash, UInt32(number + 1)) }
        #expect(index.memory >= 100_000 * 8 * 4 / 3)
        #expect(index.memory <= 100_000 * 8 * 3)
        for (number, hash) in hashes.enumerated().dropFirst(10) { index.remove(hash, UInt32(number + 1)) }
        #expect(index.memory <= 4096 * 8)
        for (number, hash) in hashes.enumerated().prefix(10) {
            #expect(index.first(hash) { _ in true } == UInt32(number + 1))
        }
    }

    /// A run that goes over the table's end into its beginning, with entries removed from its middle.
    @Test func runsGoAroundTheEnd() {
        let index = HashIndex()
        defer { index.destroy() }
        let homes: [UInt64] = [14, 15, 14, 15, 0, 1, 14, 0]
        for (number, home) in homes.enumerated() { index.insert(home << 32, UInt32(number + 1)) }
        for (number, home) in homes.enumerated() {
            index.remove(home << 32, UInt32(number + 1))
            for (later, home) in homes.enumerated().dropFirst(number + 1) {
                #expect(index.first(home << 32) { $0 == UInt32(later + 1) } == UInt32(later + 1))
            }
        }
        #expect(index.count == 0)
    }
}
