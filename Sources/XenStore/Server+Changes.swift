// Changes of the live tree: accounts follow, and watches fire. Nothing here can fail, and nothing is checked
// any more.
//
// The caller has taken a new generation, one for all that becomes visible together.

import XenStoreTypes

extension Server {
    /// What a node is counted with against its owner's memory.
    static func nodeCost(name: Int, value: Int) -> Int { 96 + name + value }

    /// Who is charged for a node.
    func owner(_ node: NodeID) -> AccountID {
        accounts.account(of: permissions.owner(tree.nodes[node].permissions))
    }

    /// What a node is counted with.
    func cost(_ node: NodeID) -> Int {
        Self.nodeCost(name: tree.nodes[node].nameCount, value: Int(tree.nodes[node].valueCount))
    }

    func isSpecial(_ node: NodeID) -> Bool { tree.nodes[node].parent == 0 && node != tree.root }

    /// Creates one node and counts it. Takes over one reference to `list`. Fires nothing.
    func create(
        parent: NodeID, _ name: Bytes, _ hash: UInt64, _ value: Bytes, _ list: PermissionsID
    ) -> NodeID {
        let node = tree.create(parent: parent, name: name, hash: hash, value: value, permissions: list)
        charge(node)
        return node
    }

    /// Counts a node as its owner's.
    private func charge(_ node: NodeID) {
        let owner = owner(node)
        accounts.count(owner, .nodes, 1)
        accounts.count(owner, .memory, cost(node))
        warnOfUse(owner, .nodes)
        warnOfUse(owner, .memory)
        if accounts.table[owner].isEverlasting { return }
        let first = accounts.table[owner].firstOwned
        tree.nodes[node].nextOwned = first
        tree.nodes[node].previousOwned = 0
        if first != 0 { tree.nodes[first].previousOwned = node }
        accounts.table[owner].firstOwned = node
    }

    /// Counts a node as its owner's no more.
    private func discharge(_ node: NodeID) {
        let owner = owner(node)
        accounts.count(owner, .nodes, -1)
        accounts.count(owner, .memory, -cost(node))
        if accounts.table[owner].isEverlasting { return }
        let next = tree.nodes[node].nextOwned
        let previous = tree.nodes[node].previousOwned
        if next != 0 { tree.nodes[next].previousOwned = previous }
        if previous != 0 {
            tree.nodes[previous].nextOwned = next
        } else {
            accounts.table[owner].firstOwned = next
        }
    }

    /// Creates the request's path below the existing `found`, its last node with a value, and fires its
    /// watches.
    func createLive(below found: (place: Place, level: Int), _ value: Bytes, creator: DomainID?) {
        var node = found.place.node
        for level in found.level + 1...path.depth {
            let list = permissions.inherited(tree.nodes[node].permissions, creator: creator)
            node = path.withName(level) {
                create(parent: node, $0, path.hash(at: level), level == path.depth ? value : .empty, list)
            }
            record(node, path, level)
        }
        fire(path, .init(after: tree.nodes[node].permissions, node, tree), isExact: false)
    }

    /// Gives a node a value and fires the watches of its path.
    func set(_ node: NodeID, _ path: ParsedPath, value: Bytes) {
        let owner = owner(node)
        accounts.count(owner, .memory, value.count - Int(tree.nodes[node].valueCount))
        tree.setValue(node, value)
        record(node, path, path.depth)
        warnOfUse(owner, .memory)
        fire(path, .init(after: tree.nodes[node].permissions, node, tree), isExact: false)
    }

    /// Gives a node a permission list, to which it takes over one reference, and fires the watches of its
    /// path. A special node's fire none: they tell of domains, not of permissions.
    func set(_ node: NodeID, _ path: ParsedPath, permissions list: PermissionsID) {
        let before = tree.nodes[node].permissions
        if isSpecial(node) {
            tree.setPermissions(node, list)
            return record(node, path, path.depth)
        }
        permissions.retain(before)
        discharge(node)
        tree.setPermissions(node, list)
        record(node, path, path.depth)
        charge(node)
        fire(path, .init(after: list, before: before, node, tree), isExact: false)
        permissions.release(before)
    }

    /// Removes a node and all below it, from the leaves up, and fires their watches.
    func removeLive(_ top: NodeID) {
        tree.forEachFromLeaves(top) { node in
            if commits.isRecording || node == top || watches.mayBeWatched(tree.nodes[node].hash) {
                scratch.removeAll(keepingCapacity: true)
                tree.appendPath(node, to: &scratch)
                scratch.withBytes { eventPath.load(canonical: $0) }
                recordRemoval(eventPath)
                fire(eventPath, .init(before: tree.nodes[node].permissions, node, tree), isExact: node != top)
            }
            discharge(node)
            tree.remove(node)
        }
    }
}
