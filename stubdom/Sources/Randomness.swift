// The seed of the core's hash tables, which guests must not know.
//
// The processor's random numbers where it has them. Where not, what the time stamp counter shows around some
// hundred calls into Xen, which caches, other domains and Xen disturb: weaker, and said so on the console.

import CMachine

enum Randomness {
    static func seed() -> (UInt64, UInt64) {
        let hasInstruction = machine_cpuid(1).ecx & 1 << 30 != 0
        var pool = Pool()
        // Four looks for each bit of the pool. Each leaves the domain, which takes its time.
        for round in 0..<(hasInstruction ? 16 : 256) {
            pool.absorb(machine_time_stamp() ^ UInt64(round))
            _ = machine_cpuid(0)
        }
        if hasInstruction {
            for _ in 0..<16 { pool.absorb(machine_random()) }
        } else {
            Console.beginLine("notice")
            Console.put("the processor has no random numbers: the seed is of its clock's jitter")
            Console.endLine()
        }
        return (pool.take(), pool.take())
    }

    /// Bytes that are hard to guess, of the clock alone.
    static func fill(_ place: UnsafeMutableRawPointer, _ count: Int) {
        var pool = Pool()
        for offset in 0..<count {
            pool.absorb(machine_time_stamp())
            place.storeBytes(of: UInt8(truncatingIfNeeded: pool.take()), toByteOffset: offset, as: UInt8.self)
        }
    }
}

/// Mixes numbers so that each bit of what is taken depends on every bit that was absorbed (the finishing
/// steps of SplitMix64, by Steele, Lea and Flood).
private struct Pool {
    private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

    mutating func absorb(_ word: UInt64) {
        state = mixed(state ^ word) &+ 0x9E37_79B9_7F4A_7C15
    }

    mutating func take() -> UInt64 {
        state = state &+ 0x9E37_79B9_7F4A_7C15
        return mixed(state)
    }

    private func mixed(_ word: UInt64) -> UInt64 {
        var word = word
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}
