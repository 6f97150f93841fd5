// Which records of a log are the newest of their keys: what compaction keeps.
//
// A record stands at a multiple of 8, so its place is a number of 32 bits in a log of up to 32 GiB. One
// open-addressing table leads from a key to the place of its newest record, and a bit for each place says
// whether a record there is the newest, and a put. Keys are compared where they stand; hashes are seeded for
// each process, since guests choose keys.

import Glibc
import XenStoreLog
import XenStoreTypes

struct NewestRecords: ~Copyable {
    /// Bytes of logs beyond this are too much for it.
    static var countMax: Int { 1 << 35 }

    private struct Slot {
        var hash: UInt32
        /// The record's place and 1; 0: the slot is free.
        var place: UInt32
    }

    private let log: UnsafeRawBufferPointer
    private let bits: UnsafeMutablePointer<UInt64>
    private var slots: UnsafeMutablePointer<Slot>
    private var mask: UInt32
    private var used = 0
    /// Bytes of the records that are kept.
    private(set) var bytes = 0

    init(_ log: UnsafeRawBufferPointer) throws(LogFailure) {
        let words = log.count / 512 + 1
        mask = (1 << 12) - 1
        guard log.count < Self.countMax, let bits = calloc(words, 8), let slots = calloc(Int(mask) + 1, 8)
        else { throw LogFailure(ENOMEM, "no memory to compact a log of \(log.count) bytes") }
        self.log = log
        self.bits = bits.assumingMemoryBound(to: UInt64.self)
        self.slots = slots.assumingMemoryBound(to: Slot.self)
    }

    deinit {
        free(bits)
        free(slots)
    }

    /// Takes the records of one batch, which stands in this range of the log. False: it is no batch.
    mutating func add(_ batch: Range<Int>) throws(LogFailure) -> Bool {
        var at = batch.lowerBound
        while at < batch.upperBound {
            guard let record = StoreRecord(UnsafeRawBufferPointer(rebasing: log[at..<batch.upperBound])),
                at & 7 == 0
            else { return false }
            try add(record, at)
            at += record.bytes.count
        }
        return true
    }

    private mutating func add(_ record: StoreRecord, _ at: Int) throws(LogFailure) {
        if used * 4 > Int(mask) * 3 { try grow() }
        let place = UInt32(at / 8)
        let hash = Self.hash(record.key)
        var index = hash & mask
        while slots[Int(index)].place != 0 {
            let old = Int(slots[Int(index)].place - 1)
            if slots[Int(index)].hash == hash, let other = self.record(old * 8),
                Self.equal(other.key, record.key)
            {
                if isNewest(old) { bytes -= other.bytes.count }
                bits[old / 64] &= ~(1 << UInt64(old % 64))
                break
            }
            index = (index &+ 1) & mask
        }
        if slots[Int(index)].place == 0 { used += 1 }
        slots[Int(index)] = Slot(hash: hash, place: place + 1)
        if record.kind == .put {
            bits[Int(place) / 64] |= 1 << UInt64(place % 64)
            bytes += record.bytes.count
        }
    }

    /// Hands over each record that is kept, in the log's order, as a range of the log.
    func walk(_ body: (Range<Int>) throws(LogFailure) -> Void) throws(LogFailure) {
        for word in 0...log.count / 512 {
            var rest = bits[word]
            while rest != 0 {
                let at = (word * 64 + rest.trailingZeroBitCount) * 8
                rest &= rest &- 1
                guard let record = record(at) else {
                    throw LogFailure(EUCLEAN, "what was a record is none any more")
                }
                try body(at..<at + record.bytes.count)
            }
        }
    }

    private func isNewest(_ place: Int) -> Bool { bits[place / 64] >> UInt64(place % 64) & 1 != 0 }

    private func record(_ at: Int) -> StoreRecord? {
        StoreRecord(UnsafeRawBufferPointer(rebasing: log[at...]))
    }

    private static func equal(_ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer) -> Bool {
        guard one.count == other.count, let first = one.baseAddress, let second = other.baseAddress else {
            return false
        }
        return memcmp(first, second, one.count) == 0
    }

    private static func hash(_ key: UnsafeRawBufferPointer) -> UInt32 {
        var hasher = Hasher()
        hasher.combine(bytes: key)
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }

    private mutating func grow() throws(LogFailure) {
        let largerMask = mask * 2 + 1
        guard largerMask < 1 << 31, let memory = calloc(Int(largerMask) + 1, 8) else {
            throw LogFailure(ENOMEM, "no memory to compact a log of \(used) keys")
        }
        let larger = memory.assumingMemoryBound(to: Slot.self)
        for slot in UnsafeBufferPointer(start: slots, count: Int(mask) + 1) where slot.place != 0 {
            var index = slot.hash & largerMask
            while larger[Int(index)].place != 0 { index = (index &+ 1) & largerMask }
            larger[Int(index)] = slot
        }
        free(slots)
        slots = larger
        mask = largerMask
    }
}
