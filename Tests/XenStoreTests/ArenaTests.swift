// Does an arena keep every record, and use the place of a removed one again?

import Testing
import XenStoreTestKit

@testable import XenStore

@Suite struct ArenaTests {
    struct Pair: BitwiseCopyable, Equatable {
        var first: UInt64
        var second: UInt64
    }

    @Test(arguments: seeds) func keepsWhatADictionaryKeeps(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let arena = Arena<Pair>()
        defer { arena.destroy() }
        var expected: [UInt32: Pair] = [:]
        var ids: [UInt32] = []
        var most = 0
        for step in 0..<20_000 {
            let isGrowing = step / 4000 % 2 == 0
            if expected.isEmpty || random.chance(isGrowing ? 70 : 30) {
                let pair = Pair(first: random.next(), second: random.next())
                let id = arena.insert(pair)
                try demand(id != 0 && expected[id] == nil, seed, step, "id \(id) is in use")
                expected[id] = pair
                ids.append(id)
            } else {
                let at = random.below(ids.count)
                let id = ids[at]
                if random.chance(30) {
                    arena[id].second = random.next()
                    expected[id]?.second = arena[id].second
                } else {
                    arena.remove(id)
                    expected[id] = nil
                    ids.swapAt(at, ids.count - 1)
                    ids.removeLast()
                }
            }
            most = max(most, expected.count)
            try demand(arena.count == expected.count, seed, step, "count \(arena.count)")
            if step % 500 == 0 {
                for (id, pair) in expected { try demand(arena[id] == pair, seed, step, "record \(id)") }
            }
        }
        // One chunk of 512 more than the most that were there at once (id 0 is nobody's).
        #expect(arena.memory <= (most / 512 + 1) * 512 * MemoryLayout<Pair>.stride, "seed \(seed)")
        #expect(arena.memory > most * MemoryLayout<Pair>.stride)
    }

    @Test func idsBeginAtOne() {
        let arena = Arena<UInt32>()
        defer { arena.destroy() }
        #expect((0..<600).map { arena.insert(UInt32($0)) } == Array(1...600))
        arena.remove(5)
        arena.remove(9)
        #expect([arena.insert(1), arena.insert(2), arena.insert(3)] == [9, 5, 601])
        #expect(arena[513] == 512)
    }

    /// Its list of chunks grows, and records do not move.
    @Test func recordsDoNotMove() {
        let arena = Arena<UInt64>()
        defer { arena.destroy() }
        let id = arena.insert(77)
        let before = withUnsafePointer(to: &arena[id]) { UInt(bitPattern: $0) }
        for number in 0..<20_000 { _ = arena.insert(UInt64(number)) }
        #expect(withUnsafePointer(to: &arena[id]) { UInt(bitPattern: $0) } == before)
        #expect(arena[id] == 77)
    }
}
