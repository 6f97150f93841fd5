// The invariants, all of them, checked (CONTROL `check`, the simulation and the fuzzers call it). Costs what
// there is.

import XenStoreTypes

extension Server {
    /// How many invariants do not hold; each is logged as an error.
    public func checkInvariants() -> Int {
        var findings = 0
        func expect(_ holds: Bool, _ what: StaticString, _ id: UInt32 = 0) {
            if holds { return }
            findings += 1
            var line = Line("invariant broken: ")
            line.add(what)
            line.add(" ")
            line.add(id)
            log(.error, line)
        }
        checkTree(expect)
        checkSnapshots(expect)
        checkKept(expect)
        checkConnections(expect)
        checkAccounts(expect)
        return findings
    }

    /// Structure of the tree and its index.
    private func checkTree(_ expect: Expect) {
        var nodes = 0
        var living = 0
        forEachNode { node in
            nodes += 1
            checkNode(node, expect)
            if !tree.nodes[node].isDead { living += 1 }
        }
        expect(nodes == tree.nodes.count, "nodes that hang in no list of children", UInt32(tree.nodes.count))
        expect(nodes == tree.index.count, "nodes and the index differ", UInt32(tree.index.count))
        expect(living == tree.liveCount, "the number of living nodes is wrong", UInt32(tree.liveCount))
    }

    /// Every node, dead ones too, parents before their children.
    func forEachNode(_ body: (NodeID) -> Void) {
        for top in [tree.root, introduceNode, releaseNode] {
            var node = top
            while node != 0 {
                body(node)
                node = nextInTree(node)
            }
        }
    }

    /// The next node, dead ones too, parents before their children; 0 after the last.
    private func nextInTree(_ node: NodeID) -> NodeID {
        if tree.nodes[node].firstChild != 0 { return tree.nodes[node].firstChild }
        var node = node
        while node != 0 && tree.nodes[node].next == 0 { node = tree.nodes[node].parent }
        return node == 0 ? 0 : tree.nodes[node].next
    }

    private func checkNode(_ id: NodeID, _ expect: Expect) {
        let node = tree.nodes[id]
        let parent = node.parent
        if parent != 0 {
            expect(
                hash(tree.nodes[parent].hash, tree.name(id)) == node.hash, "a node's hash is not its path's",
                id)
            expect(node.isDead || !tree.nodes[parent].isDead, "a living node below a dead one", id)
            let previous = node.previous
            let isLinked =
                previous == 0 ? tree.nodes[parent].firstChild == id : tree.nodes[previous].next == id
            expect(isLinked, "a node is not linked with the one before it", id)
            if node.next == 0 {
                expect(tree.nodes[parent].lastChild == id, "a last child is not the last", id)
            }
        }
        expect(tree.index.first(node.hash) { $0 == id } == id, "a node is not in the index", id)
        expect(node.modified <= tree.generation, "a node from the future", id)
        expect(!node.isDead || node.older != 0 || node.firstChild != 0, "a dead node that nobody needs", id)
        var last = node.modified
        var version = node.older
        while version != 0 {
            expect(tree.versions[version].node == id, "a version of another node", id)
            expect(tree.versions[version].modified < last, "versions are not in order", id)
            last = tree.versions[version].modified
            version = tree.versions[version].older
        }
    }

    /// Each version hangs on the newest snapshot that sees it.
    private func checkSnapshots(_ expect: Expect) {
        var snapshot = tree.oldestSnapshot
        var last: UInt64 = 0
        var versions = 0
        var users: UInt32 = 0
        while snapshot != 0 {
            let it = tree.snapshots[snapshot]
            expect(it.generation > last, "snapshots are not in order", snapshot)
            last = it.generation
            users += it.users
            var version = it.firstKept
            while version != 0 {
                versions += 1
                expect(
                    tree.versions[version].modified <= it.generation, "a version that is not seen", version)
                version = tree.versions[version].nextKept
            }
            snapshot = it.newer
        }
        expect(
            versions == tree.versions.count, "versions that no snapshot keeps", UInt32(tree.versions.count))
        var open: UInt32 = 0
        var transaction = transactions.oldest
        while transaction != 0 {
            if !transactions.table[transaction].isDoomed { open += 1 }
            transaction = transactions.table[transaction].younger
        }
        expect(open == users, "snapshots that nobody uses", users)
    }

    /// What is kept for transactions only: dead nodes, and versions.
    private func checkKept(_ expect: Expect) {
        var kept = 0
        forEachNode { node in
            if tree.nodes[node].isDead { kept += Tree.deadCost + tree.nodes[node].nameCount }
            var version = tree.nodes[node].older
            while version != 0 {
                kept += Tree.versionCost + Int(tree.versions[version].valueCount)
                version = tree.versions[version].older
            }
        }
        expect(kept == tree.keptBytes, "what is kept for transactions is miscounted", 0)
    }

    /// Watches and transactions of each connection.
    private func checkConnections(_ expect: Expect) {
        var watched = 0
        var begun = 0
        for case .some(let connection) in connections {
            var watch = connection.firstWatch
            while watch != 0 {
                watched += 1
                expect(
                    watches.table[watch].connection == connection.id, "a watch of another connection", watch)
                watch = watches.table[watch].nextOfConnection
            }
            var transaction = connection.firstTransaction
            while transaction != 0 {
                begun += 1
                let owner = transactions.table[transaction].connection
                expect(owner == connection.id, "a transaction of another connection", transaction)
                transaction = transactions.table[transaction].nextOfConnection
            }
            let isHeld =
                reservation.held.contains(connection.id) || postponed.contains { $0.id == connection.id }
            expect(isHeld == connection.isHeld, "a connection waits for nothing", connection.id)
        }
        expect(postponed.allSatisfy { nextPostponed <= $0.at }, "a request is put off for ever", 0)
        expect(transactions.holder != 0 || reservation.held.isEmpty, "a reservation of nobody", 0)
        expect(transactions.holder != 0 || transactions.heldNodes.count == 0, "nodes held for nobody", 0)
        expect(watched == watches.count, "watches of nobody", UInt32(watches.count))
        expect(begun == transactions.count, "transactions of nobody", 0)
    }
}
