// The keyed hash of paths, watches and permission lists.
//
// Guests choose names, so the key is random and the function one that keeps collisions unknown to who does
// not know the key: SipHash-1-3 (Aumasson and Bernstein), 64 bits.

/// A keyed 64-bit hash of byte strings, chained: the hash of a path is the hash of its parent's hash and its
/// name.
struct KeyedHash {
    let key0: UInt64
    let key1: UInt64

    init(seed: (UInt64, UInt64)) {
        key0 = seed.0
        key1 = seed.1
    }

    private struct State {
        var v0: UInt64
        var v1: UInt64
        var v2: UInt64
        var v3: UInt64

        @inline(__always) mutating func round() {
            v0 = v0 &+ v1
            v2 = v2 &+ v3
            v1 = (v1 << 13 | v1 >> 51) ^ v0
            v3 = (v3 << 16 | v3 >> 48) ^ v2
            v0 = v0 << 32 | v0 >> 32
            v2 = v2 &+ v1
            v0 = v0 &+ v3
            v1 = (v1 << 17 | v1 >> 47) ^ v2
            v3 = (v3 << 21 | v3 >> 43) ^ v0
            v2 = v2 << 32 | v2 >> 32
        }

        @inline(__always) mutating func absorb(_ word: UInt64) {
            v3 ^= word
            round()
            v0 ^= word
        }
    }

    /// The hash of `previous` followed by `bytes`.
    @inline(__always) func callAsFunction(_ previous: UInt64, _ bytes: Bytes) -> UInt64 {
        var state = State(
            v0: key0 ^ 0x736f_6d65_7073_6575, v1: key1 ^ 0x646f_7261_6e64_6f6d,
            v2: key0 ^ 0x6c79_6765_6e65_7261, v3: key1 ^ 0x7465_6462_7974_6573)
        state.absorb(previous)
        var offset = 0
        while offset + 8 <= bytes.count {
            state.absorb(UInt64(bytes.word(at: offset)) | UInt64(bytes.word(at: offset + 4)) << 32)
            offset += 8
        }
        state.absorb(UInt64(truncatingIfNeeded: bytes.count + 8) << 56 | bytes.tail(from: offset))
        state.v2 ^= 0xFF
        state.round()
        state.round()
        state.round()
        return state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }

    /// The hash of two numbers.
    @inline(__always) func callAsFunction(_ first: UInt64, _ second: UInt64) -> UInt64 {
        var state = State(
            v0: key0 ^ 0x736f_6d65_7073_6575, v1: key1 ^ 0x646f_7261_6e64_6f6d,
            v2: key0 ^ 0x6c79_6765_6e65_7261, v3: key1 ^ 0x7465_6462_7974_6573)
        state.absorb(first)
        state.absorb(second)
        state.absorb(16 << 56)
        state.v2 ^= 0xFF
        state.round()
        state.round()
        state.round()
        return state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }
}

extension Bytes {
    /// The bytes from `offset` on, at most seven, as the low end of a number: names are short, and this is
    /// most of what hashing one costs.
    @inline(__always) fileprivate func tail(from offset: Int) -> UInt64 {
        let rest = count - offset
        if rest >= 4 {
            let high = UInt64(word(at: count - 4)) << UInt64(truncatingIfNeeded: 8 * (rest - 4))
            return UInt64(word(at: offset)) | high
        }
        if rest == 0 { return 0 }
        let middle = UInt64(self[offset + rest / 2]) << UInt64(truncatingIfNeeded: 8 * (rest / 2))
        let end = UInt64(self[count - 1]) << UInt64(truncatingIfNeeded: 8 * (rest - 1))
        return UInt64(self[offset]) | middle | end
    }
}
