// What a transaction's commit must find as it was, and what a reservation keeps as it is (specification,
// section C).

import XenStoreTypes

extension Transactions {
    /// Whether something that the transaction looked at or changed has been changed by others since it began.
    func hasConflict(_ id: TransactionID) -> Bool {
        var entry = table[id].firstEntry
        while entry != 0 {
            if hasConflict(id, entry) { return true }
            entry = entries[entry].next
        }
        return false
    }

    private func hasConflict(_ id: TransactionID, _ entry: EntryID) -> Bool {
        let generation = table[id].generation
        let seen = entries[entry].seen
        let base = entries[entry].base
        if base == 0 { return seen.contains(.absence) && hasAppeared(entry) }
        if seen.isEmpty { return false }
        if tree.nodes[base].isDead { return true }
        if seen.contains(.node) && tree.nodes[base].modified > generation { return true }
        if seen.contains(.children) && tree.nodes[base].childrenChanged > generation { return true }
        if seen.contains(.anchor) && tree.nodes[base].modified > generation {
            let before = tree.state(base, at: generation)!.permissions
            if !permissions.areEqual(before, tree.nodes[base].permissions) { return true }
        }
        return seen.contains(.subtree) && hasChanged(below: base, since: generation)
    }

    /// Whether the commit would make a node whose owner has ended since.
    func givesToEnded(_ id: TransactionID) -> Bool {
        var entry = table[id].firstEntry
        while entry != 0 {
            let list = entries[entry].permissions
            if list != 0 && permissions.entry(list, 0).ignored && !isUndone(id, entry) { return true }
            entry = entries[entry].next
        }
        return false
    }

    /// Whether something above the entry was removed after its change.
    private func isUndone(_ id: TransactionID, _ entry: EntryID) -> Bool {
        let sequence = entries[entry].sequence
        var above = entry
        while entries[above].base == 0 {
            above = entries[above].parent
            if entries[above].removedAt > sequence { return true }
        }
        var node = tree.nodes[entries[above].base].parent
        while node != 0 {
            let entry = self.entry(id, base: node)
            if entry != 0 && entries[entry].removedAt > sequence { return true }
            node = tree.nodes[node].parent
        }
        return false
    }

    /// Whether a node that was absent in the snapshot exists now.
    private func hasAppeared(_ entry: EntryID) -> Bool {
        let parent = entries[entries[entry].parent].base
        if parent == 0 || tree.nodes[parent].isDead { return false }
        return tree.child(of: parent, named: name(entry), hash: entries[entry].hash, at: live) != 0
    }

    private func hasChanged(below top: NodeID, since generation: UInt64) -> Bool {
        var hasChanged = false
        tree.forEachFromLeaves(top) { node in
            if tree.nodes[node].modified > generation || tree.nodes[node].childrenChanged > generation {
                hasChanged = true
            }
        }
        return hasChanged
    }

    /// What a request is about to do to a path.
    enum Change { case value, permissions, removal }

    /// What the commit of a changed entry does to its path. A node that is removed and created anew is gone
    /// with all below it.
    func change(_ entry: EntryID) -> Change {
        if entries[entry].state == .removed || entries[entry].seen.contains(.subtree) { return .removal }
        return entries[entry].state == .changed && entries[entry].permissions != 0 ? .permissions : .value
    }

    /// Gives the reservation to a transaction, which has touched nothing yet.
    func reserve(_ id: TransactionID) { holder = id }

    /// Nobody has the reservation from here on.
    func endReservation() {
        holder = 0
        heldNodes.removeAll()
    }

    /// Remembers that the one with the reservation has touched a node, and with it all above.
    func hold(_ node: NodeID) {
        var node = node
        while node != 0 && !isHeld(node) {
            heldNodes.insert(tree.nodes[node].hash, node)
            node = tree.nodes[node].parent
        }
    }

    /// Whether the one with the reservation has touched the node or anything below it.
    private func isHeld(_ node: NodeID) -> Bool { heldNodes.first(tree.nodes[node].hash) { $0 == node } != 0 }

    /// Whether that would make the transaction with the reservation conflict.
    func isTouched(_ path: ParsedPath, by change: Change) -> Bool {
        let found = tree.nearest(path, at: live)
        if table[holder].hasRemovals && isRemoved(holder, path) { return true }
        if found.level < path.depth {
            // Nothing is removed from where nothing is.
            if change != .value || (found.level == 0 && path.isSpecial) { return false }
            return seen(path, found.level).contains(.children)
                || seen(path, found.level + 1).contains(.absence)
        }
        let seen = seen(path, path.depth)
        switch change {
        case .value: return seen.contains(.node)
        case .permissions: return seen.contains(.node) || seen.contains(.anchor)
        case .removal:
            if path.depth > 0 && self.seen(path, path.depth - 1).contains(.children) { return true }
            return isHeld(found.node)
        }
    }

    /// Whether the transaction removed the node, or one above it, at some time.
    private func isRemoved(_ id: TransactionID, _ path: ParsedPath) -> Bool {
        var place = top(id, path)
        var level = path.isSpecial ? 1 : 0
        while !place.isNone {
            if place.entry != 0 && entries[place.entry].seen.contains(.subtree) { return true }
            if level == path.depth { return false }
            level += 1
            place = self.place(id, path, level, below: place)
        }
        return false
    }

    private func seen(_ path: ParsedPath, _ level: Int) -> Entry.Seen {
        let entry = entry(holder, path, level)
        return entry == 0 ? [] : entries[entry].seen
    }
}
