// Does the index of queued events answer with the position that still counts, and only with that?

import Testing
import XenStoreTestKit

@testable import XenStore

@Suite struct EventIndexTests {
    @Test(arguments: seeds) func findsTheValidPosition(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var index = EventIndex()
        var expected: [UInt64: UInt64] = [:]
        var (position, valid): (UInt64, UInt64) = (0, 0)
        for step in 0..<20_000 {
            // Few slots, so that keys collide in them; the lower half tells them apart.
            let spread = step / 5000 % 2 == 0 ? 8 : 2000
            let key = UInt64(random.below(spread)) << 32 | UInt64(random.below(3))
            let earlier = expected[key].flatMap { $0 >= valid ? $0 : nil }
            let found = index.insert(key, position, valid: valid)
            try demand(found == earlier, seed, step, "\(found as Any) for \(earlier as Any)")
            if earlier == nil { expected[key] = position }
            position += UInt64(random.below(40))
            if random.chance(5) { valid = max(valid, position - min(position, UInt64(random.below(3000)))) }
            if random.chance(1) {
                // Only when everything is sent.
                valid = position
                position += 1
                index.shrink()
            }
        }
    }

    /// The position 0, of the first event ever, is one like others.
    @Test func positionZero() {
        var index = EventIndex()
        #expect(index.insert(5, 0, valid: 0) == nil)
        #expect(index.insert(5, 20, valid: 0) == 0)
        #expect(index.insert(5, 20, valid: 1) == nil)
        #expect(index.insert(5, 40, valid: 20) == 20)
        #expect(index.insert(5, 40, valid: 21) == nil)
    }
}
