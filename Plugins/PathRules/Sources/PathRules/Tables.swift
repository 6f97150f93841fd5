// Tables that are made once and then only read: names by their numbers, and pairs of words to numbers.

/// The names in patterns, numbered.
struct PatternNames {
    private var bytes: [UInt8] = []
    private var ends: [Int32] = []
    /// The names by hash: number + 1, or 0; a power of two long, and at most half full.
    private var slots: [UInt32] = [UInt32](repeating: 0, count: 64)

    static let seed: UInt64 = 0xCBF2_9CE4_8422_2325

    @inline(__always) static func mix(_ hash: UInt64, _ byte: UInt8) -> UInt64 {
        (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }

    @inline(__always) private func slot(_ hash: UInt64) -> Int {
        Int(truncatingIfNeeded: hash ^ hash >> 29) & (slots.count - 1)
    }

    private func equals(_ name: Int, _ other: UnsafeRawBufferPointer) -> Bool {
        let start = name == 0 ? 0 : Int(ends[name - 1])
        if Int(ends[name]) - start != other.count { return false }
        for index in 0..<other.count where bytes[start + index] != other[index] { return false }
        return true
    }

    /// The number of a name that is in a pattern; -1: it is in none.
    @inline(__always) func find(_ name: UnsafeRawBufferPointer, _ hash: UInt64) -> Int32 {
        var at = slot(hash)
        while slots[at] != 0 {
            if equals(Int(slots[at]) - 1, name) { return Int32(slots[at]) - 1 }
            at = (at + 1) & (slots.count - 1)
        }
        return -1
    }

    mutating func add(_ name: [UInt8]) -> Int32 {
        let hash = name.reduce(Self.seed) { Self.mix($0, $1) }
        let there = name.withUnsafeBytes { find($0, hash) }
        if there >= 0 { return there }
        bytes.append(contentsOf: name)
        ends.append(Int32(bytes.count))
        if 2 * ends.count > slots.count { grow() }
        place(ends.count - 1, hash)
        return Int32(ends.count - 1)
    }

    private mutating func place(_ name: Int, _ hash: UInt64) {
        var at = slot(hash)
        while slots[at] != 0 { at = (at + 1) & (slots.count - 1) }
        slots[at] = UInt32(name) + 1
    }

    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: 2 * slots.count)
        for name in 0..<ends.count - 1 {
            let start = name == 0 ? 0 : Int(ends[name - 1])
            place(name, bytes[start..<Int(ends[name])].reduce(Self.seed) { Self.mix($0, $1) })
        }
    }
}

/// Keys of two words to numbers: what neither guests nor requests add to.
struct PairTable {
    private var keys: [UInt64] = [UInt64](repeating: .max, count: 64)
    private var values: [Int32] = [Int32](repeating: -1, count: 64)
    private(set) var count = 0

    @inline(__always) private func slot(_ key: UInt64) -> Int {
        let hash = key &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: hash >> 32) & (keys.count - 1)
    }

    /// -1: there is none.
    @inline(__always) func find(_ high: UInt32, _ low: UInt32) -> Int32 {
        let key = UInt64(high) << 32 | UInt64(low)
        var at = slot(key)
        while keys[at] != .max {
            if keys[at] == key { return values[at] }
            at = (at + 1) & (keys.count - 1)
        }
        return -1
    }

    /// `high` is not the largest number.
    mutating func set(_ high: UInt32, _ low: UInt32, _ value: Int32) {
        let key = UInt64(high) << 32 | UInt64(low)
        if 2 * count >= keys.count { grow() }
        var at = slot(key)
        while keys[at] != .max && keys[at] != key { at = (at + 1) & (keys.count - 1) }
        if keys[at] == .max { count += 1 }
        keys[at] = key
        values[at] = value
    }

    private mutating func grow() {
        let (oldKeys, oldValues) = (keys, values)
        keys = [UInt64](repeating: .max, count: 2 * oldKeys.count)
        values = [Int32](repeating: -1, count: 2 * oldKeys.count)
        for (key, value) in zip(oldKeys, oldValues) where key != .max {
            var at = slot(key)
            while keys[at] != .max { at = (at + 1) & (keys.count - 1) }
            keys[at] = key
            values[at] = value
        }
    }
}
