// The tree as a transaction sees it: its snapshot with its own changes on top. The rules are at the head of
// Transaction.swift.

import XenStoreTypes

extension Transactions {
    /// About how many bytes of records its changes are; 0 if all that it does is to remove.
    func growthMax(_ id: TransactionID) -> Int {
        var bytes = 0
        var entry = table[id].firstEntry
        while entry != 0 {
            if entries[entry].isWritten { bytes += StoreRecord.headSize + 2 * StoreRecord.keyMax + 65536 }
            entry = entries[entry].next
        }
        return bytes
    }

    /// The node that the path names in the transaction's view (0: the live tree) and the path's depth, or the
    /// nearest ancestor that exists there and its depth; for an absent special node, no place and depth 0.
    @inline(__always) func nearest(_ id: TransactionID, _ path: ParsedPath) -> (place: Place, level: Int) {
        if id == 0 || table[id].firstEntry == 0 {
            let found = tree.nearest(path, at: id == 0 ? live : table[id].generation)
            return (Place(node: found.node, entry: 0), found.level)
        }
        return table[id].hasRemovals ? nearestFromRoot(id, path) : nearestFromLeaf(id, path)
    }

    private func nearestFromLeaf(_ id: TransactionID, _ path: ParsedPath) -> (place: Place, level: Int) {
        var level = path.depth
        while level > 0 || !path.isSpecial {
            let entry = entry(id, path, level)
            if entry != 0 {
                if entries[entry].state == .created || entries[entry].base != 0 {
                    return (Place(node: entries[entry].base, entry: entry), level)
                }
            } else {
                let node = tree.find(path, level, at: table[id].generation)
                if node != 0 { return (Place(node: node, entry: 0), level) }
            }
            level -= 1
        }
        return (.none, 0)
    }

    /// With removals, whether an entry holds depends on those above it.
    private func nearestFromRoot(_ id: TransactionID, _ path: ParsedPath) -> (place: Place, level: Int) {
        var found = (place: Place.none, level: 0)
        var lastRemoval: UInt64 = 0
        var isInSnapshot = true
        var place = top(id, path)
        var level = path.isSpecial ? 1 : 0
        while true {
            let entry = place.entry
            if entry == 0 {
                if !isInSnapshot || place.node == 0 { return found }
            } else {
                switch entries[entry].state {
                case .removed: return found
                case .created:
                    if entries[entry].sequence < lastRemoval { return found }
                    isInSnapshot = false
                case .unchanged, .changed:
                    if !isInSnapshot || place.node == 0 { return found }
                }
                lastRemoval = max(lastRemoval, entries[entry].removedAt)
            }
            found = (place, level)
            if level == path.depth { return found }
            level += 1
            place = self.place(id, path, level, below: place)
        }
    }

    /// Value and permissions of a place that exists in the view.
    @inline(__always) func state(_ id: TransactionID, _ place: Place) -> NodeState {
        let entry = place.entry
        if entry == 0 || entries[entry].state == .unchanged {
            return tree.state(place.node, at: id == 0 ? live : table[id].generation)!
        }
        let own = bytes.bytes(entries[entry].value, Int(entries[entry].valueCount))
        if entries[entry].hasValue && entries[entry].permissions != 0 {
            return NodeState(value: own, permissions: entries[entry].permissions)
        }
        var state = tree.state(place.node, at: table[id].generation)!
        if entries[entry].hasValue { state.value = own }
        if entries[entry].permissions != 0 { state.permissions = entries[entry].permissions }
        return state
    }

    /// Calls `body` with each child of a place that exists in the view, until it answers false.
    func forEachChild(_ id: TransactionID, _ place: Place, _ body: (Place, Bytes) -> Bool) {
        let generation = id == 0 ? live : table[id].generation
        let hasChanges = id != 0 && table[id].sequence > 0
        if place.entry == 0 || entries[place.entry].state != .created {
            var child = tree.nodes[place.node].firstChild
            while child != 0 {
                let entry = hasChanges ? entry(id, base: child) : 0
                let isHidden =
                    entry != 0 && (entries[entry].state == .removed || entries[entry].state == .created)
                if !isHidden && tree.exists(child, at: generation) {
                    if !body(Place(node: child, entry: entry), tree.name(child)) { return }
                }
                child = tree.nodes[child].next
            }
        }
        var added = place.entry == 0 ? 0 : entries[place.entry].firstAdded
        while added != 0 {
            if !body(Place(node: entries[added].base, entry: added), name(added)) { return }
            added = entries[added].nextAdded
        }
    }

    /// How many nodes of the subtree at a place in the view are some that `isCounted`.
    func count(_ id: TransactionID, _ top: Place, where isCounted: (Place) -> Bool) -> Int {
        var count = 0
        var waiting = [top]
        while let place = waiting.popLast() {
            if isCounted(place) { count += 1 }
            forEachChild(id, place) { child, _ in
                waiting.append(child)
                return true
            }
        }
        return count
    }
}
