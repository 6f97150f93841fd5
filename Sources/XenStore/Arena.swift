// Records of one size, addressed by a number, and the index that finds them by hash.
//
// One of the module's three files with unsafe pointers. Invariants:
// - An id is 1 or more; 0 means "none". An id stays valid until it is freed; records never move.
// - Everything hangs on one `let` pointer, so that no access needs an exclusivity check.
// - Memory that a freed record used serves the next one; it is never given back to the system before
//   `destroy`.

/// A growing set of records in chunks of 512.
struct Arena<Record: BitwiseCopyable> {
    private struct Root {
        var chunks: UnsafeMutablePointer<UnsafeMutablePointer<Record>>
        var chunkCount = 0
        var chunkCapacity = 0
        /// The first record of the free list, linked through the records' first four bytes.
        var firstFree: UInt32 = 0
        /// Ids below this have been handed out at some time.
        var limit: UInt32 = 1
        var used = 0
    }

    private static var chunkShift: UInt32 { 9 }
    private static var chunkSize: Int { 512 }

    private let root: UnsafeMutablePointer<Root>

    init() {
        root = .allocate(capacity: 1)
        root.initialize(to: Root(chunks: .allocate(capacity: 8), chunkCapacity: 8))
    }

    /// Gives all memory back. The arena and everything in it must not be used after.
    func destroy() {
        for index in 0..<root.pointee.chunkCount { root.pointee.chunks[index].deallocate() }
        root.pointee.chunks.deallocate()
        root.deallocate()
    }

    /// How many records are in use.
    var count: Int { root.pointee.used }

    /// Bytes of its chunks that the next records will be stored in.
    var spare: Int { memory - root.pointee.used * MemoryLayout<Record>.stride }

    /// The bytes that its chunks occupy.
    var memory: Int { root.pointee.chunkCount * Self.chunkSize * MemoryLayout<Record>.stride }

    @inline(__always) private func pointer(_ id: UInt32) -> UnsafeMutablePointer<Record> {
        assert(id != 0 && id < root.pointee.limit)
        return root.pointee.chunks[Int(id >> Self.chunkShift)] + Int(id) & (Self.chunkSize - 1)
    }

    @inline(__always) subscript(_ id: UInt32) -> Record {
        unsafeAddress { UnsafePointer(pointer(id)) }
        nonmutating unsafeMutableAddress { pointer(id) }
    }

    /// Stores a record and answers its id.
    func insert(_ record: Record) -> UInt32 {
        root.pointee.used += 1
        let free = root.pointee.firstFree
        if free != 0 {
            root.pointee.firstFree = UnsafeRawPointer(pointer(free)).loadUnaligned(as: UInt32.self)
            pointer(free).initialize(to: record)
            return free
        }
        let id = root.pointee.limit
        if Int(id >> Self.chunkShift) == root.pointee.chunkCount { addChunk() }
        root.pointee.limit = id + 1
        pointer(id).initialize(to: record)
        return id
    }

    func remove(_ id: UInt32) {
        UnsafeMutableRawPointer(pointer(id)).storeBytes(of: root.pointee.firstFree, as: UInt32.self)
        root.pointee.firstFree = id
        root.pointee.used -= 1
    }

    private func addChunk() {
        if root.pointee.chunkCount == root.pointee.chunkCapacity {
            let capacity = root.pointee.chunkCapacity * 2
            let chunks = UnsafeMutablePointer<UnsafeMutablePointer<Record>>.allocate(capacity: capacity)
            chunks.update(from: root.pointee.chunks, count: root.pointee.chunkCount)
            root.pointee.chunks.deallocate()
            root.pointee.chunks = chunks
            root.pointee.chunkCapacity = capacity
        }
        root.pointee.chunks[root.pointee.chunkCount] = .allocate(capacity: Self.chunkSize)
        root.pointee.chunkCount += 1
    }
}

/// Finds record ids by a 64-bit hash: open addressing, linear probing, no tombstones.
///
/// An entry is `hash's upper half << 32 | id`; 0 is free. So neither probing nor growing touches the records
/// themselves. The caller decides which of the records with an equal upper half is the one.
struct HashIndex {
    private struct Root {
        var entries: UnsafeMutablePointer<UInt64>
        var mask: Int
        var used = 0
    }

    private let root: UnsafeMutablePointer<Root>

    init() {
        root = .allocate(capacity: 1)
        root.initialize(to: Root(entries: Self.table(16), mask: 15))
    }

    func destroy() {
        root.pointee.entries.deallocate()
        root.deallocate()
    }

    private static func table(_ size: Int) -> UnsafeMutablePointer<UInt64> {
        let entries = UnsafeMutablePointer<UInt64>.allocate(capacity: size)
        entries.initialize(repeating: 0, count: size)
        return entries
    }

    var count: Int { root.pointee.used }
    var memory: Int { (root.pointee.mask + 1) * 8 }

    /// Bytes of the table that it will need when some thousand ids more have come; 0: the one it has will do.
    var nextGrowth: Int {
        let size = root.pointee.mask + 1
        return (root.pointee.used + 2048) * 4 > size * 3 ? size * 16 : 0
    }

    @inline(__always) private func home(_ entry: UInt64) -> Int { Int(entry >> 32) & root.pointee.mask }

    /// The first id with this hash that `isWanted`, or 0.
    @inline(__always) func first(_ hash: UInt64, where isWanted: (UInt32) -> Bool) -> UInt32 {
        let entries = root.pointee.entries
        let mask = root.pointee.mask
        var slot = Int(hash >> 32) & mask
        while true {
            let entry = entries[slot]
            if entry == 0 { return 0 }
            if entry >> 32 == hash >> 32 {
                let id = UInt32(truncatingIfNeeded: entry)
                if isWanted(id) { return id }
            }
            slot = (slot + 1) & mask
        }
    }

    func insert(_ hash: UInt64, _ id: UInt32) {
        if (root.pointee.used + 1) * 4 > (root.pointee.mask + 1) * 3 { resize((root.pointee.mask + 1) * 2) }
        root.pointee.used += 1
        place(hash & 0xFFFF_FFFF_0000_0000 | UInt64(id))
    }

    @inline(__always) private func place(_ entry: UInt64) {
        let mask = root.pointee.mask
        var slot = home(entry)
        while root.pointee.entries[slot] != 0 { slot = (slot + 1) & mask }
        root.pointee.entries[slot] = entry
    }

    /// Forgets an id, which must be there under this hash.
    func remove(_ hash: UInt64, _ id: UInt32) {
        let entries = root.pointee.entries
        let mask = root.pointee.mask
        let wanted = hash & 0xFFFF_FFFF_0000_0000 | UInt64(id)
        var slot = home(wanted)
        while entries[slot] != wanted {
            precondition(entries[slot] != 0, "an id that is not in the index")
            slot = (slot + 1) & mask
        }
        root.pointee.used -= 1
        // Later entries of the run move up, so that no gap parts one from its home.
        var next = (slot + 1) & mask
        while entries[next] != 0 {
            if (next - home(entries[next])) & mask >= (next - slot) & mask {
                entries[slot] = entries[next]
                slot = next
            }
            next = (next + 1) & mask
        }
        entries[slot] = 0
        if mask >= 4096 && root.pointee.used * 8 < mask { resize((mask + 1) / 4) }
    }

    /// Forgets all ids, and gives a large table back.
    func removeAll() {
        root.pointee.used = 0
        if root.pointee.mask > 15 {
            root.pointee.entries.deallocate()
            root.pointee.entries = Self.table(16)
            root.pointee.mask = 15
        } else {
            root.pointee.entries.update(repeating: 0, count: 16)
        }
    }

    private func resize(_ newSize: Int) {
        let old = root.pointee.entries
        let size = root.pointee.mask + 1
        root.pointee.entries = Self.table(newSize)
        root.pointee.mask = newSize - 1
        for slot in 0..<size where old[slot] != 0 { place(old[slot]) }
        old.deallocate()
    }
}
