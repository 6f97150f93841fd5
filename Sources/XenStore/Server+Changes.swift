// Changes of the live tree: accounts follow, and watches fire. Nothing here can fail, and nothing is checked
// any more.
//
// The caller has taken a new generation, one for all that becomes visible together.

import XenStoreTypes

extension Server {
    /// What a node is counted with against its owner's memory.
    static func nodeCost(name: Int, value: Int) -> Int { 96 + name + value }

    func owner(_ node: NodeID) -> AccountID {
        accounts.account(of: permissions.owner(tree.nodes[node].permissions))
    }

    /// Who is charged for a node: its owner, or the socket's user who has created it, since he can own none.
    func payer(_ node: NodeID) -> AccountID {
        let user = userNodes.user(of: node)
        return user == 0 ? owner(node) : user
    }

    /// What a node is counted with.
    func cost(_ node: NodeID) -> Int {
        Self.nodeCost(name: tree.nodes[node].nameCount, value: Int(tree.nodes[node].valueCount))
    }

    func isSpecial(_ node: NodeID) -> Bool { tree.nodes[node].parent == 0 && node != tree.root }

    /// Creates one node and counts it, as the `user`'s if there is one. Takes over one reference to `list`.
    /// Fires nothing.
    func create(
        parent: NodeID, _ name: Bytes, _ hash: UInt64, _ value: Bytes, _ list: PermissionsID,
        user: AccountID = 0
    ) -> NodeID {
        let node = tree.create(parent: parent, name: name, hash: hash, value: value, permissions: list)
        charge(node, user: user)
        return node
    }

    /// Counts a node as its owner's, or as the `user`'s.
    private func charge(_ node: NodeID, user: AccountID) {
        if user != 0 { userNodes.insert(node, of: user) }
        let owner = owner(node)
        let payer = user == 0 ? owner : user
        accounts.count(payer, .nodes, 1)
        accounts.count(payer, .memory, cost(node))
        warnOfUse(payer, .nodes)
        warnOfUse(payer, .memory)
        if accounts.table[owner].isEverlasting { return }
        let first = accounts.table[owner].firstOwned
        tree.nodes[node].nextOwned = first
        tree.nodes[node].previousOwned = 0
        if first != 0 { tree.nodes[first].previousOwned = node }
        accounts.table[owner].firstOwned = node
    }

    /// Counts a node no more.
    private func discharge(_ node: NodeID) {
        let owner = owner(node)
        let user = userNodes.remove(node)
        let payer = user == 0 ? owner : user
        accounts.count(payer, .nodes, -1)
        accounts.count(payer, .memory, -cost(node))
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
    func createLive(
        below found: (place: Place, level: Int), _ value: Bytes, by connection: Connection
    ) {
        var node = found.place.node
        for level in found.level + 1...path.depth {
            let list = permissions.inherited(
                tree.nodes[node].permissions, creator: connection.creatingDomain)
            let value = level == path.depth ? value : .empty
            node = path.withName(level) {
                create(
                    parent: node, $0, path.hash(at: level), value, list, user: connection.creatingUser)
            }
            record(node, path, level)
        }
        fire(path, .init(after: tree.nodes[node].permissions, node, tree), isExact: false)
    }

    /// Gives a node a value and fires the watches of its path.
    func set(_ node: NodeID, _ path: ParsedPath, value: Bytes) {
        let payer = payer(node)
        accounts.count(payer, .memory, value.count - Int(tree.nodes[node].valueCount))
        tree.setValue(node, value)
        record(node, path, path.depth)
        warnOfUse(payer, .memory)
        fire(path, .init(after: tree.nodes[node].permissions, node, tree), isExact: false)
    }

    /// Gives a node a permission list, to which it takes over one reference, and fires the watches of its
    /// path. A special node's fire none: they tell of domains, not of permissions. A node that is given to
    /// another owner is no user's any more.
    func set(_ node: NodeID, _ path: ParsedPath, permissions list: PermissionsID) {
        let before = tree.nodes[node].permissions
        if isSpecial(node) {
            tree.setPermissions(node, list)
            return record(node, path, path.depth)
        }
        permissions.retain(before)
        let isGiven = permissions.owner(before) != permissions.owner(list)
        let user = isGiven ? 0 : userNodes.user(of: node)
        discharge(node)
        tree.setPermissions(node, list)
        record(node, path, path.depth)
        charge(node, user: user)
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
