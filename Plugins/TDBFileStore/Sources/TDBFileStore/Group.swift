// The batches of some milliseconds, which go to the file in one transaction.
//
// Of the records of one key only the newest is written, and a node whose children come and go is rewritten
// once. The file lists the children in their parent's record, and a node's own record tells whether its
// parent's lists it already. So nodes are written from the deepest to the root: when a parent's turn comes,
// all changes among its children are known.
//
// Invariants: `numbers` has a key's number n if and only if entries[n] is about that key; the entries of one
// depth are linked from levels[depth], each once; keys and names lie in `batches`, which no call but `append`
// and `removeAll` changes.

import XenStorePlugin
import XenStoreTypes

/// Batches that are not in the file yet. Used by one thread at a time.
final class Group {
    private var batches = ByteBuffer(capacity: 1 << 16)
    /// The number of the newest batch in it; 0: nothing is.
    private(set) var last: UInt64 = 0

    private let numbers = KeyTable()
    private var entries: [Entry] = []
    private var levels: [Int32] = []
    private var changes: [Change] = []

    private let value = ByteBuffer()
    private let oldChildren = ByteBuffer()
    private let newChildren = ByteBuffer()
    private let changed = KeyTable()

    /// What is to be done about one key.
    private struct Entry {
        /// Where its newest record lies in `batches`; -1: only its children change.
        var record: Int
        /// The first in `changes`, or -1.
        var firstChange: Int32
        /// The next of the same depth, or -1.
        var next: Int32
    }

    /// A child that has come or gone.
    private struct Change {
        var name: UnsafeRawBufferPointer
        var isThere: Bool
        var next: Int32
    }

    var isEmpty: Bool { last == 0 }
    var byteCount: Int { batches.count }

    /// Takes over what `other` holds, batches up to `sequence`, and leaves it empty. Its memory changes hands
    /// if nothing was here.
    func take(_ other: inout ByteBuffer, through sequence: UInt64) {
        if batches.count == 0 {
            swap(&batches, &other)
        } else {
            batches.append(other.bytes)
        }
        other.removeAll(keeping: 1 << 20)
        last = sequence
    }

    func removeAll() {
        batches.removeAll(keeping: 1 << 20)
        last = 0
    }

    /// Drops what a newer record of the same key makes void: what is left is no more than the tree.
    func compact() {
        index()
        let kept = ByteBuffer(capacity: 1 << 16)
        for entry in entries where entry.record >= 0 {
            if let record = record(at: entry.record) { kept.append(record.bytes) }
        }
        batches = kept
    }

    // MARK: Writing

    /// Writes everything to the file. To be called in a transaction of it.
    ///
    /// Throws where the file is full or damaged; the group stays as it was.
    func apply(to file: TDBFile) throws(PluginFailure) {
        index()
        var depth = levels.count - 1
        while depth >= 0 {
            // Writing one may link more, but only above.
            var at = levels[depth]
            while at >= 0 {
                try write(Int(at), file)
                at = entries[Int(at)].next
            }
            depth -= 1
        }
    }

    private func write(_ number: Int, _ file: TDBFile) throws(PluginFailure) {
        let key = numbers[number]
        let entry = entries[number]
        guard let record = entry.record < 0 ? nil : record(at: entry.record) else {
            if entry.record < 0 { try rewriteChildren(key, entry, file) }
            return
        }
        let existed = try file.fetch(key) { [oldChildren] found in
            oldChildren.removeAll()
            if let found, let old = NodeRecord(found) { oldChildren.append(old.children) }
            return found != nil
        }
        if record.kind == .remove {
            guard existed else { return }
            try file.remove(key)
        } else {
            NodeRecord.encode(record, children: children(entry), into: value)
            try file.store(key, value.bytes, isNew: !existed)
        }
        if existed != (record.kind == .put) { tellParent(of: key, isThere: !existed) }
    }

    /// Rewrites a node only for what has changed among its children; nothing where there is no such node.
    private func rewriteChildren(
        _ key: UnsafeRawBufferPointer, _ entry: Entry, _ file: TDBFile
    ) throws(PluginFailure) {
        let isThere = try file.fetch(key) { [oldChildren, value] found in
            guard let found, let old = NodeRecord(found) else { return false }
            oldChildren.removeAll()
            oldChildren.append(old.children)
            old.encode(children: children(entry), into: value)
            return true
        }
        if isThere { try file.store(key, value.bytes, isNew: false) }
    }

    /// The list in `oldChildren` with the entry's changes.
    private func children(_ entry: Entry) -> UnsafeRawBufferPointer {
        if entry.firstChange < 0 { return oldChildren.bytes }
        changed.removeAll()
        var at = entry.firstChange
        while at >= 0 {
            _ = changed.number(of: changes[Int(at)].name)
            at = changes[Int(at)].next
        }
        newChildren.removeAll()
        forEachName(in: oldChildren.bytes) { name in
            guard !changed.contains(name) else { return }
            newChildren.append(name)
            newChildren.append(byte: 0)
        }
        at = entry.firstChange
        while at >= 0 {
            let change = changes[Int(at)]
            if change.isThere {
                newChildren.append(change.name)
                newChildren.append(byte: 0)
            }
            at = change.next
        }
        return newChildren.bytes
    }

    private func tellParent(of key: UnsafeRawBufferPointer, isThere: Bool) {
        guard let path = parentPath(of: key) else { return }
        let parent = entry(of: path)
        changes.append(
            Change(name: lastName(of: key), isThere: isThere, next: entries[parent].firstChange))
        entries[parent].firstChange = Int32(changes.count - 1)
    }

    // MARK: Finding

    /// Finds the newest record of every key.
    private func index() {
        numbers.removeAll()
        entries.removeAll(keepingCapacity: true)
        levels.removeAll(keepingCapacity: true)
        changes.removeAll(keepingCapacity: true)
        var at = 0
        while at < batches.count, let record = record(at: at) {
            entries[entry(of: record.key)].record = at
            at += record.bytes.count
        }
    }

    private func record(at offset: Int) -> StoreRecord? {
        StoreRecord(UnsafeRawBufferPointer(rebasing: batches.bytes[offset...]))
    }

    /// The number of the entry about `key`, made if there is none.
    private func entry(of key: UnsafeRawBufferPointer) -> Int {
        let number = numbers.number(of: key)
        guard number == entries.count else { return number }
        let depth = Self.depth(of: key)
        while levels.count <= depth { levels.append(-1) }
        entries.append(Entry(record: -1, firstChange: -1, next: levels[depth]))
        levels[depth] = Int32(number)
        return number
    }

    /// 0 for the root and for what is no path; else the number of names in the path.
    private static func depth(of key: UnsafeRawBufferPointer) -> Int {
        guard key.count > 1, key[0] == 0x2F else { return 0 }
        var slashes = 0
        for byte in key where byte == 0x2F { slashes += 1 }
        return slashes
    }
}
