// Does the byte store keep every string as it was given, apart from all others, in bounded memory?

import Testing
import XenStoreTestKit

@testable import XenStore

@Suite struct ByteStoreTests {
    private struct Stored {
        var blob: Blob
        var bytes: [UInt8]
    }

    private static func insert(_ store: ByteStore, _ bytes: [UInt8]) -> Stored {
        Stored(blob: bytes.withBytes { store.insert($0) }, bytes: bytes)
    }

    /// The places of two blobs of which one begins within the other, if there are any.
    private static func overlap(_ store: ByteStore, _ all: [Stored]) -> String? {
        let spans = all.filter { !$0.bytes.isEmpty }.map { stored in
            (start: UInt(bitPattern: store.bytes(stored.blob, 1).start), count: UInt(stored.bytes.count))
        }.sorted { $0.start < $1.start }
        for (one, next) in zip(spans, spans.dropFirst()) where one.start + one.count > next.start {
            return "\(one) and \(next) overlap"
        }
        return nil
    }

    /// A length: often small, sometimes near a border between sizes, up to 8192.
    private static func length(_ random: inout SplitMix64) -> Int {
        switch random.below(4) {
        case 0: return random.below(80)
        case 1: return random.below(8193)
        case 2: return min(8192, max(0, (1 << random.below(14)) + random.below(5) - 2))
        default: return random.below(600)
        }
    }

    @Test(arguments: seeds) func keepsWhatArraysKeep(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let store = ByteStore()
        defer { store.destroy() }
        var all: [Stored] = []
        for step in 0..<6000 {
            let isGrowing = step / 1500 % 2 == 0
            if all.isEmpty || random.chance(isGrowing ? 55 : 20) {
                let stored = Self.insert(store, random.bytes(Self.length(&random)))
                try demand((stored.blob == 0) == stored.bytes.isEmpty, seed, step, "blob \(stored.blob)")
                all.append(stored)
            } else {
                let at = random.below(all.count)
                let count = all[at].bytes.count
                if random.chance(40) {
                    let bytes = random.bytes(
                        random.chance(50)
                            ? Self.length(&random) : max(0, min(8192, count + random.below(9) - 4)))
                    all[at].blob = bytes.withBytes { store.replace(all[at].blob, count, with: $0) }
                    all[at].bytes = bytes
                } else {
                    store.remove(all[at].blob, count)
                    all.swapAt(at, all.count - 1)
                    all.removeLast()
                }
            }
            if step % 300 != 299 { continue }
            for stored in all {
                let kept = store.bytes(stored.blob, stored.bytes.count).array
                try demand(kept == stored.bytes, seed, step, "blob \(stored.blob) of \(stored.bytes.count)")
            }
            let overlap = Self.overlap(store, all)
            try demand(overlap == nil, seed, step, overlap ?? "")
            let bytes = all.reduce(0) { $0 + $1.bytes.count }
            try demand(store.used >= bytes, seed, step, "used \(store.used) of \(bytes)")
            try demand(store.memory >= store.used, seed, step, "memory \(store.memory)")
        }
        for stored in all { store.remove(stored.blob, stored.bytes.count) }
        #expect(store.used == 0, "seed \(seed)")
    }

    /// Rounding: to a multiple of 8 up to 64 bytes, and by at most an eighth over that.
    @Test func roundsByAnEighthAtMost() throws {
        for count in 1...8192 {
            let store = ByteStore()
            defer { store.destroy() }
            let stored = Self.insert(store, [UInt8](repeating: 1, count: count))
            let bound = count <= 64 ? (count + 7) / 8 * 8 : count + count / 8
            #expect(store.used >= count && store.used <= bound, "\(count) bytes take \(store.used)")
            store.remove(stored.blob, count)
            #expect(store.used == 0)
        }
    }

    /// With nothing freed, only the last page of a size has room for one more.
    @Test func fillsItsPages() {
        for count in [1, 8, 9, 64, 65, 100, 500, 1000, 2048, 3000, 4096, 5632, 8192] {
            let store = ByteStore()
            defer { store.destroy() }
            _ = Self.insert(store, [UInt8](repeating: 1, count: count))
            let perPage = 16384 / store.used
            for _ in 1..<perPage * 10 { _ = Self.insert(store, [UInt8](repeating: 1, count: count)) }
            #expect(store.memory == 10 * 16384, "\(count) bytes")
            _ = Self.insert(store, [1, 2, 3])
            #expect(store.memory <= 11 * 16384)
        }
    }

    /// A page of which nothing is used serves any size again, so that memory is bounded by the most that was
    /// used at once; and when all is removed, most of it goes back.
    @Test func emptyPagesServeOtherSizes() {
        let store = ByteStore()
        defer { store.destroy() }
        var most = 0
        for count in [8, 3000, 17, 8192, 64, 700, 1, 4096] {
            var all: [Stored] = []
            while store.used + count <= 400_000 {
                all.append(Self.insert(store, [UInt8](repeating: 7, count: count)))
            }
            most = max(most, store.memory)
            for stored in all { store.remove(stored.blob, count) }
            #expect(store.used == 0)
        }
        #expect(most <= 600_000)
        #expect(store.memory <= 12 * 16384)
        #expect(store.spare == store.memory)
    }

    /// A value that fits the same piece stays in its place.
    @Test func replacesInPlace() {
        let store = ByteStore()
        defer { store.destroy() }
        let stored = Self.insert(store, Array("twelve bytes".utf8))
        let longer = Array("sixteen bytes ok".utf8)
        #expect(longer.withBytes { store.replace(stored.blob, 12, with: $0) } == stored.blob)
        #expect(store.bytes(stored.blob, 16).array == longer)
        #expect(store.replace(stored.blob, 16, with: .empty) == 0)
        #expect(store.used == 0)
    }
}
