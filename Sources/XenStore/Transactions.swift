// The open transactions, and the tree as each of them sees it. The rules are at the head of
// Transaction.swift.
//
// Invariants: entries of one transaction are in the index exactly once, under their path's hash; transactions
// stand in the order in which they began; one that is not doomed holds its snapshot.

import XenStoreTypes

final class Transactions {
    let table = Arena<Transaction>()
    let entries = Arena<Entry>()
    let tree: Tree
    private let index = HashIndex()
    private let numbers = HashIndex()
    let bytes: ByteStore
    let permissions: PermissionLists
    private let hash: KeyedHash
    private(set) var oldest: TransactionID = 0
    private var youngest: TransactionID = 0
    /// The transaction with the reservation, or 0; and the nodes that it has touched, with all above them.
    @exclusivity(unchecked) var holder: TransactionID = 0
    let heldNodes = HashIndex()

    init(_ tree: Tree, _ hash: KeyedHash) {
        self.tree = tree
        bytes = tree.bytes
        permissions = tree.permissions
        self.hash = hash
    }

    deinit {
        table.destroy()
        entries.destroy()
        index.destroy()
        numbers.destroy()
        heldNodes.destroy()
    }

    var count: Int { table.count }

    /// What an entry is counted with, besides its name and value.
    static let entryCost = MemoryLayout<Entry>.stride + 16

    // MARK: Life

    private func numberKey(_ connection: UInt32, _ number: UInt32) -> UInt64 {
        hash(2, UInt64(connection) << 32 | UInt64(number))
    }

    /// The transaction that this connection knows under this number, or 0.
    func find(_ connection: UInt32, _ number: UInt32) -> TransactionID {
        numbers.first(numberKey(connection, number)) {
            table[$0].connection == connection && table[$0].number == number
        }
    }

    /// Begins a transaction; `first` is the head of its connection's list.
    func start(_ connection: UInt32, _ number: UInt32, first: inout TransactionID) -> TransactionID {
        let id = table.insert(
            Transaction(
                number: number, connection: connection, snapshot: tree.takeSnapshot(),
                generation: tree.generation, nextOfConnection: first, older: youngest))
        numbers.insert(numberKey(connection, number), id)
        if first != 0 { table[first].previousOfConnection = id }
        first = id
        if youngest == 0 { oldest = id } else { table[youngest].younger = id }
        youngest = id
        return id
    }

    /// Forgets a transaction and all that it did.
    func end(_ id: TransactionID, first: inout TransactionID) {
        dropEntries(id)
        if table[id].snapshot != 0 { tree.release(table[id].snapshot) }
        let it = table[id]
        numbers.remove(numberKey(it.connection, it.number), id)
        if it.previousOfConnection == 0 {
            first = it.nextOfConnection
        } else {
            table[it.previousOfConnection].nextOfConnection = it.nextOfConnection
        }
        if it.nextOfConnection != 0 {
            table[it.nextOfConnection].previousOfConnection = it.previousOfConnection
        }
        if it.older == 0 { oldest = it.younger } else { table[it.older].younger = it.younger }
        if it.younger == 0 { youngest = it.older } else { table[it.younger].older = it.older }
        table.remove(id)
    }

    /// Frees what a transaction keeps; it can only end in EAGAIN from here on.
    func doom(_ id: TransactionID) {
        dropEntries(id)
        tree.release(table[id].snapshot)
        table[id].snapshot = 0
        table[id].nodesDelta = 0
    }

    /// Moves the snapshot to now. Only right if nothing that the transaction touched has changed since.
    func renew(_ id: TransactionID) {
        let old = table[id].snapshot
        table[id].snapshot = tree.takeSnapshot()
        table[id].generation = tree.generation
        tree.release(old)
    }

    private func dropEntries(_ id: TransactionID) {
        var entry = table[id].firstEntry
        while entry != 0 {
            let next = entries[entry].next
            dropChanges(entry)
            index.remove(entryKey(id, entries[entry].hash), entry)
            bytes.remove(entries[entry].name, Int(entries[entry].nameCount))
            entries.remove(entry)
            entry = next
        }
        table[id].firstEntry = 0
        table[id].lastEntry = 0
        table[id].bytes = 0
    }

    private func dropChanges(_ entry: EntryID) {
        table[entries[entry].transaction].bytes -= Int(entries[entry].valueCount)
        bytes.remove(entries[entry].value, Int(entries[entry].valueCount))
        if entries[entry].permissions != 0 { permissions.release(entries[entry].permissions) }
        entries[entry].value = 0
        entries[entry].valueCount = 0
        entries[entry].hasValue = false
        entries[entry].permissions = 0
    }

    // MARK: Entries

    @inline(__always) private func entryKey(_ id: TransactionID, _ hash: UInt64) -> UInt64 {
        hash ^ UInt64(id) &* 0x9E37_79B9_7F4A_7C15
    }

    /// The transaction's entry for the first `level` components of the path, or 0.
    @inline(__always) func entry(_ id: TransactionID, _ path: ParsedPath, _ level: Int) -> EntryID {
        if table[id].firstEntry == 0 { return 0 }
        let key = path.hash(at: level)
        return index.first(entryKey(id, key)) {
            entries[$0].transaction == id && entries[$0].hash == key && isNamed($0, path, level)
        }
    }

    /// The transaction's entry for a node of its snapshot, or 0.
    func entry(_ id: TransactionID, base: NodeID) -> EntryID {
        let key = tree.nodes[base].hash
        return index.first(entryKey(id, key)) { entries[$0].transaction == id && entries[$0].base == base }
    }

    /// What the transaction knows of the path's first component, "/" or a special name.
    func top(_ id: TransactionID, _ path: ParsedPath) -> Place {
        let level = path.isSpecial ? 1 : 0
        return Place(
            node: tree.find(path, level, at: table[id].generation), entry: entry(id, path, level))
    }

    /// What the transaction knows of the path's first `level` components, if `above` is that of one less: the
    /// snapshot's node and its own entry, whether or not they exist in the view. Costs the same at every
    /// depth.
    func place(_ id: TransactionID, _ path: ParsedPath, _ level: Int, below above: Place) -> Place {
        let key = path.hash(at: level)
        let entry = index.first(entryKey(id, key)) {
            if entries[$0].transaction != id || entries[$0].hash != key { return false }
            let base = entries[$0].base
            let isBelow =
                base == 0 ? entries[$0].parent == above.entry : tree.nodes[base].parent == above.node
            let name = name($0)
            return isBelow && path.withName(level) { $0 == name }
        }
        if entry != 0 { return Place(node: entries[entry].base, entry: entry) }
        let node = above.node == 0 ? 0 : tree.child(of: above.node, path, level, at: table[id].generation)
        return Place(node: node, entry: 0)
    }

    private func isNamed(_ entry: EntryID, _ path: ParsedPath, _ level: Int) -> Bool {
        var entry = entry
        var level = level
        while entries[entry].base == 0 {
            if level == 0 || path.withName(level, { $0 != name(entry) }) { return false }
            entry = entries[entry].parent
            level -= 1
        }
        return tree.isNamed(entries[entry].base, path, level)
    }

    func name(_ entry: EntryID) -> Bytes {
        let base = entries[entry].base
        return base != 0 ? tree.name(base) : bytes.bytes(entries[entry].name, Int(entries[entry].nameCount))
    }

    /// Appends the absolute path of an entry.
    func appendPath(_ entry: EntryID, to text: inout [UInt8]) {
        // Names are met from the leaf up: make room for those that no node has first.
        var count = 0
        var above = entry
        while entries[above].base == 0 {
            count += Int(entries[above].nameCount) + 1
            above = entries[above].parent
        }
        let base = entries[above].base
        if base != tree.root || count == 0 { tree.appendPath(base, to: &text) }
        var end = text.count + count
        text.append(contentsOf: repeatElement(0x2F, count: count))
        above = entry
        while entries[above].base == 0 {
            let name = self.name(above)
            end -= name.count
            for position in 0..<name.count { text[end + position] = name[position] }
            end -= 1
            above = entries[above].parent
        }
    }

    /// The entry of a place, made if there is none.
    func entry(_ id: TransactionID, _ path: ParsedPath, _ level: Int, of place: Place) -> EntryID {
        if place.entry != 0 { return place.entry }
        return insert(id, path, level, base: place.node, parent: 0)
    }

    /// The entry of a path that is absent in the transaction's view, made if there is none. `parent` is the
    /// entry of what stands above it.
    private func absentEntry(
        _ id: TransactionID, _ path: ParsedPath, _ level: Int, parent: EntryID
    ) -> EntryID {
        // The snapshot may have a node here, below one that the transaction has removed.
        let known = place(id, path, level, below: Place(node: entries[parent].base, entry: parent))
        return known.entry != 0 ? known.entry : insert(id, path, level, base: known.node, parent: parent)
    }

    private func insert(
        _ id: TransactionID, _ path: ParsedPath, _ level: Int, base: NodeID, parent: EntryID
    ) -> EntryID {
        var name: Blob = 0
        var nameCount: UInt16 = 0
        if base == 0 {
            path.withName(level) {
                name = bytes.insert($0)
                nameCount = UInt16($0.count)
            }
        }
        let new = entries.insert(
            Entry(
                transaction: id, hash: path.hash(at: level), base: base, parent: parent, name: name,
                nameCount: nameCount))
        index.insert(entryKey(id, path.hash(at: level)), new)
        table[id].bytes += Self.entryCost + Int(nameCount)
        let last = table[id].lastEntry
        if last == 0 { table[id].firstEntry = new } else { entries[last].next = new }
        table[id].lastEntry = new
        if id == holder && base != 0 { hold(base) }
        return new
    }

    private func mark(_ id: TransactionID, _ entry: EntryID, _ seen: Entry.Seen) {
        let before = isTouched(entry)
        entries[entry].seen.formUnion(seen)
        if !before && isTouched(entry) { table[id].touched += 1 }
    }

    // MARK: Noting and changing. What is asked of the live tree (0) or a doomed transaction never comes here.

    /// How many nodes the transaction would newly count as touched, if it touched the path from the component
    /// below `found` down to `last`; or `found` itself where that is all of the path.
    func newlyTouched(
        _ id: TransactionID, _ path: ParsedPath, _ found: (place: Place, level: Int), to last: Int
    ) -> Int {
        var (place, level) = found
        var number = 0
        if level == path.depth { return isTouched(place.entry) ? 0 : 1 }
        while level < last {
            level += 1
            place = self.place(id, path, level, below: place)
            if !isTouched(place.entry) { number += 1 }
        }
        return number
    }

    private func isTouched(_ entry: EntryID) -> Bool {
        entry != 0 && !entries[entry].seen.subtracting(.anchor).isEmpty
    }

    /// Notes that a request looked at the path, whose nearest existing node is `found`.
    func note(
        _ id: TransactionID, _ path: ParsedPath, _ found: (place: Place, level: Int), _ seen: Entry.Seen
    ) {
        if found.place.isNone { return }
        let entry = entry(id, path, found.level, of: found.place)
        if found.level == path.depth {
            mark(id, entry, seen)
        } else {
            mark(id, entry, .anchor)
            mark(id, absentEntry(id, path, found.level + 1, parent: entry), .absence)
        }
    }

    private func countChange(_ id: TransactionID) -> UInt64 {
        table[id].sequence += 1
        return table[id].sequence
    }

    private func change(_ id: TransactionID, _ path: ParsedPath, _ place: Place) -> EntryID {
        let entry = entry(id, path, path.depth, of: place)
        mark(id, entry, .node)
        entries[entry].isImplicit = false
        if entries[entry].state == .unchanged {
            entries[entry].state = .changed
            entries[entry].sequence = countChange(id)
        }
        return entry
    }

    func setValue(_ id: TransactionID, _ path: ParsedPath, _ place: Place, _ value: Bytes) {
        let entry = change(id, path, place)
        table[id].bytes += value.count - Int(entries[entry].valueCount)
        entries[entry].value = bytes.replace(
            entries[entry].value, Int(entries[entry].valueCount), with: value)
        entries[entry].valueCount = UInt16(value.count)
        entries[entry].hasValue = true
    }

    /// Takes over one reference to `list`.
    func setPermissions(_ id: TransactionID, _ path: ParsedPath, _ place: Place, _ list: PermissionsID) {
        let entry = change(id, path, place)
        if entries[entry].permissions != 0 { permissions.release(entries[entry].permissions) }
        entries[entry].permissions = list
    }

    /// Creates the path with all that is missing above it, below the existing `found`.
    func create(
        _ id: TransactionID, _ path: ParsedPath, _ found: (place: Place, level: Int), _ value: Bytes,
        creator: DomainID?
    ) {
        var parent = entry(id, path, found.level, of: found.place)
        var list = state(id, found.place).permissions
        mark(id, parent, .anchor)
        for level in found.level + 1...path.depth {
            let entry = absentEntry(id, path, level, parent: parent)
            mark(id, entry, .absence)
            entries[entry].state = .created
            entries[entry].isImplicit = level != path.depth
            entries[entry].parent = parent
            entries[entry].sequence = countChange(id)
            list = permissions.inherited(list, creator: creator)
            // A stale entry of an earlier creation may still have its own.
            dropChanges(entry)
            entries[entry].permissions = list
            entries[entry].hasValue = true
            if level == path.depth {
                entries[entry].value = bytes.insert(value)
                entries[entry].valueCount = UInt16(value.count)
                table[id].bytes += value.count
            }
            entries[entry].firstAdded = 0
            entries[entry].lastAdded = 0
            append(entry, to: parent)
            table[id].nodesDelta += 1
            parent = entry
        }
    }

    private func append(_ entry: EntryID, to parent: EntryID) {
        let last = entries[parent].lastAdded
        entries[entry].nextAdded = 0
        entries[entry].previousAdded = last
        if last == 0 { entries[parent].firstAdded = entry } else { entries[last].nextAdded = entry }
        entries[parent].lastAdded = entry
    }

    func remove(_ id: TransactionID, _ path: ParsedPath, _ place: Place) {
        let entry = entry(id, path, path.depth, of: place)
        if entries[entry].state == .created {
            unlink(entry)
        } else {
            mark(id, entry, [.node, .subtree])
        }
        dropChanges(entry)
        entries[entry].firstAdded = 0
        entries[entry].lastAdded = 0
        entries[entry].state = .removed
        entries[entry].sequence = countChange(id)
        entries[entry].removedAt = entries[entry].sequence
        table[id].hasRemovals = true
    }

    private func unlink(_ entry: EntryID) {
        let parent = entries[entry].parent
        let next = entries[entry].nextAdded
        let previous = entries[entry].previousAdded
        if previous == 0 { entries[parent].firstAdded = next } else { entries[previous].nextAdded = next }
        if next == 0 { entries[parent].lastAdded = previous } else { entries[next].previousAdded = previous }
    }
}
