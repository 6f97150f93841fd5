// Are two rings two queues of bytes, whatever is put and taken? And does the page agree with the reference
// page whatever a guest writes on it?

import Testing
import XenStoreTestKit

@Suite struct RingQueueTests {
    /// Two rings against two arrays: random counts, from random places that are often near a wrap.
    @Test(arguments: UInt64(0)..<40) func twoRingsAreTwoQueues(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let page = SharedPage()
        var queues: [Direction: [UInt8]] = [.request: [], .response: []]
        var moved = 0
        for direction in Direction.allCases {
            page.start(direction, at: 0 &- UInt32(random.below(random.chance(50) ? 3000 : 1 << 32)))
        }
        for step in 0..<400 {
            let direction = random.one(of: Direction.allCases)
            let count = random.below(random.chance(30) ? 2100 : 300)
            var queue = queues[direction, default: []]
            if random.chance(50) {
                let bytes = (0..<count).map { _ in UInt8(random.below(256)) }
                let fit = min(count, 1024 - queue.count)
                #expect(direction.put(bytes, page.ring) == .moved(fit), "seed \(seed), step \(step)")
                queue += bytes.prefix(fit)
            } else {
                let expected = Array(queue.prefix(count))
                #expect(direction.take(count, page.ring) == expected, "seed \(seed), step \(step)")
                queue.removeFirst(expected.count)
                moved += expected.count
            }
            queues[direction] = queue
            #expect(page.ring.requestCount == .moved(queues[.request, default: []].count))
        }
        #expect(moved > 5000)
    }

    /// The fuzz target's function on a seeded generator's bytes: a first sieve without a fuzzer.
    @Test(arguments: UInt64(0)..<40) func anyProgramAgreesWithTheReference(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let bytes = (0..<1500).map { _ in UInt8(random.below(256)) }
        bytes.withUnsafeBufferPointer(fuzzRing)
    }
}
