// What a restart of the daemon, or of its host, does to the reference's state (specification, section B,
// "Start of the daemon"). Decisions where the specification leaves room:
//
// - Whoever is connected by a socket is gone.
// - A domain that is the same as it was is still introduced, each of its watches fires once, in the order in
//   which they were set, before anything else is told; no event is merged with one from before.
// - Transactions stay open, and end in EAGAIN.
// - Then it is looked at all domains.

import XenStoreTypes

extension ReferenceStore {
    /// The same state, once more.
    public func copy() -> ReferenceStore {
        let other = ReferenceStore()
        other.quotas = quotas
        other.domains = domains
        other.hasHypervisor = hasHypervisor
        other.isFull = isFull
        other.attachFailure = attachFailure
        other.notes = notes
        other.tree = tree
        other.connections = connections.mapValues { $0.copy() }
        return other
    }

    /// A new daemon goes on with what this one had kept.
    public func restart() {
        for key in connections.keys where key >= 0 { connections[key] = nil }
        for (key, connection) in connections {
            connection.lostCount = 0
            for number in connection.transactions.keys { connection.transactions[number]!.isDoomed = true }
            connection.restartOutput()
            let domain = UInt16(-1 - key)
            if domain != 0, domains?[domain]?.uniqueID != notes[domain]?.uniqueID { continue }
            for watch in connection.watches {
                let shown = String(watch.path.dropFirst(watch.prefix.count))
                connection.queue(
                    events: [Array(shown.utf8) + [0] + watch.token + [0]],
                    coalescing: !watch.path.hasPrefix("@"))
            }
        }
        domainsChanged()
    }

    /// The host has been started anew: nothing is left but what stands at and below `kept`, which is the
    /// control domain's from now on.
    public func reboot(keeping kept: [String], quotas: [String: Int]) {
        let old = tree
        tree = ReferenceTree()
        notes = [:]
        connections = [:]
        self.quotas = quotas
        var above: Set<String> = []
        for top in kept where old[top] != nil {
            var path = top
            while let parent = ReferenceTree.parent(path) {
                above.insert(parent)
                path = parent
            }
        }
        func isKept(_ path: String) -> Bool {
            above.contains(path) || kept.contains { ReferenceTree.depth(of: path, below: $0) != nil }
        }
        for (path, node) in old.nodes.sorted(by: { $0.key.count < $1.key.count })
        where path.hasPrefix("/") && isKept(path) {
            if above.contains(path)
                && !kept.contains(where: { ReferenceTree.depth(of: path, below: $0) != nil })
            {
                if tree[path] == nil { tree.create(path, permissions: [Permission(.none, .zero)]) }
                continue
            }
            var list = node.permissions
            list[0].domain = .zero
            for position in list.indices.dropFirst()
            where list[position].domain != .zero && list[position].domain != .any {
                list[position].ignored = true
            }
            if tree[path] == nil {
                tree.create(path, permissions: list, value: node.value)
            } else {
                tree.setPermissions(path, list)
                tree.setValue(path, node.value)
            }
        }
    }

    /// Takes over the order of a node's children, which a restart does not keep. False: they are others.
    public func reorder(_ path: String, _ children: [String]) -> Bool { tree.reorder(path, children) }

    public func addUnsent(_ key: Int, _ messages: [Message]) { connections[key]?.keepUnsent(messages) }

    public func sent(_ key: Int, _ count: Int) { connections[key]?.sent(count) }
}

extension ReferenceStore {
    /// How many messages of the connection are not sent.
    func unsentCount(_ key: Int) -> Int { connections[key]?.unsent.count ?? 0 }

    /// So many messages are not sent, none of which a later event is merged with.
    func setUnsent(_ key: Int, _ count: Int) { connections[key]?.setUnsent(count) }
}
