// An open-addressing table from runs of bytes to numbers.
//
// Guests choose the bytes, so that the hash is keyed with a seed that they cannot know. Unsafe code: keys are
// pointers into memory that the table's owner keeps in place.

import CLinux

/// Keys and the numbers 0, 1, 2 ... in the order in which they came.
final class KeyTable {
    private static let seed: (UInt64, UInt64) = {
        var words: (UInt64, UInt64) = (0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03)
        withUnsafeMutableBytes(of: &words) { _ = getrandom($0.baseAddress, $0.count, 0) }
        return (words.0, words.1 | 1)
    }()

    private struct Slot {
        var number: Int32
        var hash: UInt32
    }

    private var slots: UnsafeMutableBufferPointer<Slot>
    private var keys: [UnsafeRawBufferPointer] = []

    init() {
        slots = .allocate(capacity: 64)
        clear()
    }

    deinit { slots.deallocate() }

    var count: Int { keys.count }

    /// The key that came as the `number`th.
    subscript(number: Int) -> UnsafeRawBufferPointer { keys[number] }

    /// Empties it, keeping its memory unless that is far more than what was in it.
    func removeAll() {
        if slots.count > 4096, keys.count < slots.count / 16 {
            slots.deallocate()
            slots = .allocate(capacity: 64)
            keys = []
        }
        keys.removeAll(keepingCapacity: true)
        clear()
    }

    /// The key's number: an old one, or the next. The bytes must stay where they are.
    func number(of key: UnsafeRawBufferPointer) -> Int {
        if keys.count * 2 >= slots.count { grow() }
        let hash = Self.hash(key)
        var at = Int(hash) & (slots.count - 1)
        while slots[at].number >= 0 {
            if slots[at].hash == hash, keys[Int(slots[at].number)].isEqual(to: key) {
                return Int(slots[at].number)
            }
            at = (at + 1) & (slots.count - 1)
        }
        slots[at] = Slot(number: Int32(keys.count), hash: hash)
        keys.append(key)
        return keys.count - 1
    }

    func contains(_ key: UnsafeRawBufferPointer) -> Bool {
        let hash = Self.hash(key)
        var at = Int(hash) & (slots.count - 1)
        while slots[at].number >= 0 {
            if slots[at].hash == hash, keys[Int(slots[at].number)].isEqual(to: key) { return true }
            at = (at + 1) & (slots.count - 1)
        }
        return false
    }

    private func clear() { slots.initialize(repeating: Slot(number: -1, hash: 0)) }

    private func grow() {
        let before = slots
        slots = .allocate(capacity: before.count * 2)
        clear()
        for slot in before where slot.number >= 0 {
            var at = Int(slot.hash) & (slots.count - 1)
            while slots[at].number >= 0 { at = (at + 1) & (slots.count - 1) }
            slots[at] = slot
        }
        before.deallocate()
    }

    /// Eight bytes at a time, each folded into what came before by a multiplication.
    static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var state = seed.0 ^ UInt64(truncatingIfNeeded: bytes.count)
        var at = 0
        while at + 8 <= bytes.count {
            state = fold(state ^ bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            at += 8
        }
        var last: UInt64 = 0
        while at < bytes.count {
            last = last << 8 | UInt64(bytes[at])
            at += 1
        }
        return UInt32(truncatingIfNeeded: fold(fold(state ^ last)))
    }

    private static func fold(_ word: UInt64) -> UInt64 {
        let (high, low) = (word ^ seed.0).multipliedFullWidth(by: seed.1)
        return high ^ low
    }
}
