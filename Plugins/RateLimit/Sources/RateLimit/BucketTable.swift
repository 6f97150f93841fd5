// Who has used tokens, by key: a hash table of our own, since a kernel has no seed for Swift's.
//
// Invariant: `slots` is a power of two long and at most half full; between the slot that a key's hash names
// and the one that it stands in none is empty. The keys are domain ids and uids: guests do not choose them,
// so they cannot make them collide.

/// When somebody's buckets will be full.
struct Buckets {
    var requests: UInt64 = 0
    var transactions: UInt64 = 0
    var events: UInt64 = 0

    func areFull(_ now: UInt64) -> Bool { max(requests, transactions, events) <= now }
}

struct BucketTable {
    private struct Slot {
        /// The largest number is no key.
        var key = UInt64.max
        var buckets = Buckets()
    }

    private var slots = [Slot](repeating: Slot(), count: 64)
    private(set) var count = 0

    private func start(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & (slots.count - 1)
    }

    /// The slot of the key, or the empty one where it would be.
    private func find(_ key: UInt64) -> Int {
        var at = start(key)
        while slots[at].key != key && slots[at].key != .max { at = (at + 1) & (slots.count - 1) }
        return at
    }

    /// Nil: all of them are full.
    func buckets(_ key: UInt64) -> Buckets? {
        let at = find(key)
        return slots[at].key == key ? slots[at].buckets : nil
    }

    mutating func set(_ key: UInt64, _ buckets: Buckets) {
        var at = find(key)
        if slots[at].key != key {
            if 2 * (count + 1) > slots.count {
                rebuild(2 * slots.count, fullBy: 0)
                at = find(key)
            }
            count += 1
        }
        slots[at] = Slot(key: key, buckets: buckets)
    }

    mutating func remove(_ key: UInt64) {
        var hole = find(key)
        if slots[hole].key != key { return }
        count -= 1
        let mask = slots.count - 1
        // Those behind it move up, unless their place is behind the hole.
        var at = (hole + 1) & mask
        while slots[at].key != .max {
            if (at - start(slots[at].key)) & mask >= (at - hole) & mask {
                slots[hole] = slots[at]
                hole = at
            }
            at = (at + 1) & mask
        }
        slots[hole] = Slot()
    }

    /// Forgets whose buckets are full, and gives back what the others do not need.
    mutating func sweep(_ now: UInt64) {
        var left = 0
        for slot in slots where slot.key != .max && !slot.buckets.areFull(now) { left += 1 }
        var size = 64
        while size < 4 * left { size *= 2 }
        rebuild(size, fullBy: now)
    }

    private mutating func rebuild(_ size: Int, fullBy now: UInt64) {
        let old = slots
        slots = [Slot](repeating: Slot(), count: size)
        count = 0
        for slot in old where slot.key != .max && !slot.buckets.areFull(now) {
            slots[find(slot.key)] = slot
            count += 1
        }
    }
}
