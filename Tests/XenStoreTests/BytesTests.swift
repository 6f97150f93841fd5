// Do views of bytes compare and search as the bytes one by one would?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct BytesTests {
    @Test(arguments: seeds) func comparesAsItsBytes(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for step in 0..<2000 {
            let left = random.bytes(random.below(40))
            var right = left
            // One byte is another, or some are missing, or nothing is.
            if random.below(3) == 0, !right.isEmpty {
                right[random.below(right.count)] ^= 1 << UInt8(random.below(8))
            }
            if random.below(3) == 0 { right = Array(right.prefix(random.below(right.count + 1))) }
            let shared = zip(left, right).prefix { $0 == $1 }.count
            left.withBytes { left in
                right.withBytes { right in
                    #expect((left == right) == (left.array == right.array), "seed \(seed), step \(step)")
                    #expect(left.sharedCount(right) == shared, "seed \(seed), step \(step)")
                }
            }
        }
    }

    @Test(arguments: seeds) func findsTheFirst(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for step in 0..<2000 {
            // Neighbours of what is sought, to whose bits an addition could carry.
            let sought = random.one(of: [UInt8](arrayLiteral: 0, 1, 0x2F, 0x7F, 0x80, 0xFF))
            let near = [sought, sought &+ 1, sought &- 1, sought ^ 0x80]
            let bytes = (0..<random.below(40)).map { _ in
                random.below(20) == 0 ? sought : random.one(of: near)
            }
            let from = random.below(bytes.count + 2)
            let expected = from < bytes.count ? bytes[from...].firstIndex(of: sought) : nil
            #expect(
                bytes.withBytes { $0.firstIndex(of: sought, from: from) } == expected,
                "seed \(seed), step \(step)")
        }
    }
}

@Suite struct ReusedListTests {
    @Test(arguments: seeds) func isAnArray(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var list = ReusedList<UInt32>()
        var array: [UInt32] = []
        for step in 0..<2000 {
            switch random.below(12) {
            case 0:
                list.removeAll(keeping: random.below(16))
                array = []
            case 1:
                let count = random.below(array.count + 1)
                list.keepFirst(count)
                array = Array(array.prefix(count))
            case 2:
                let count = random.below(array.count + 1)
                list.removeFirst(count)
                array.removeFirst(count)
            case 3 where !array.isEmpty:
                let index = random.below(array.count)
                list[index] = 7
                array[index] = 7
            default:
                list.append(UInt32(step))
                array.append(UInt32(step))
            }
            try demand(list.count == array.count && list.isEmpty == array.isEmpty, seed, step, "count")
            try demand((0..<list.count).map { list[$0] } == array, seed, step, "\(array)")
        }
    }
}
