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
        checkConnections(expect)
        checkMemory(expect)
        return findings
    }

    private typealias Expect = (_ holds: Bool, _ what: StaticString, _ id: UInt32) -> Void

    /// Structure of the tree, its index, and what accounts say of nodes.
    private func checkTree(_ expect: Expect) {
        var nodes = 0
        var living = 0
        var owned = tally()
        for top in [tree.root] + specialNodes() {
            var node = top
            while node != 0 {
                nodes += 1
                checkNode(node, expect)
                if !tree.nodes[node].isDead {
                    living += 1
                    // Special nodes are counted to nobody: their owners need not have an account.
                    if top == tree.root { owned[Int(owner(node))] += 1 }
                }
                node = nextInTree(node)
            }
        }
        expect(nodes == tree.nodes.count, "nodes that hang in no list of children", UInt32(tree.nodes.count))
        expect(nodes == tree.index.count, "nodes and the index differ", UInt32(tree.index.count))
        expect(living == tree.liveCount, "the number of living nodes is wrong", UInt32(tree.liveCount))
        for account in accounts.all {
            let count = accounts.table[account].nodes.now
            expect(count == owned[Int(account)], "an account's nodes are miscounted", account)
        }
    }

    /// A zero for each account, by its id.
    private func tally() -> [Int] { [Int](repeating: 0, count: accounts.all.count + 1) }

    private func specialNodes() -> [NodeID] {
        var found: [NodeID] = []
        for name in [Bytes("@introduceDomain"), Bytes("@releaseDomain")] {
            eventPath.load(canonical: name)
            found.append(tree.find(eventPath, 1, at: live))
        }
        return found
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

    /// Watches and transactions of each connection, and what accounts say of them.
    private func checkConnections(_ expect: Expect) {
        var watched = tally()
        var begun = tally()
        for case .some(let connection) in connections {
            var watch = connection.firstWatch
            while watch != 0 {
                watched[Int(connection.account)] += 1
                expect(
                    watches.table[watch].connection == connection.id, "a watch of another connection", watch)
                watch = watches.table[watch].nextOfConnection
            }
            var transaction = connection.firstTransaction
            while transaction != 0 {
                begun[Int(connection.account)] += 1
                let owner = transactions.table[transaction].connection
                expect(owner == connection.id, "a transaction of another connection", transaction)
                transaction = transactions.table[transaction].nextOfConnection
            }
            let isHeld = reservation.held.contains(connection.id)
            expect(isHeld == connection.isHeld, "a connection waits for nothing", connection.id)
        }
        expect(transactions.holder != 0 || reservation.held.isEmpty, "a reservation of nobody", 0)
        expect(watched.reduce(0, +) == watches.count, "watches of nobody", UInt32(watches.count))
        expect(begun.reduce(0, +) == transactions.count, "transactions of nobody", 0)
        expect(transactions.holder != 0 || transactions.heldNodes.count == 0, "nodes held for nobody", 0)
        for account in accounts.all {
            let record = accounts.table[account]
            expect(record.watches.now == watched[Int(account)], "watches are miscounted", account)
            expect(record.transactions.now == begun[Int(account)], "transactions are miscounted", account)
        }
    }

    /// The bytes that accounts count, replies that are not sent, and what is kept for transactions only.
    private func checkMemory(_ expect: Expect) {
        var used = tally()
        var outstanding = tally()
        var kept = 0
        for top in [tree.root] + specialNodes() {
            var node = top
            while node != 0 {
                kept += keptFor(node)
                if top == tree.root && !tree.nodes[node].isDead {
                    used[Int(owner(node))] += cost(node)
                }
                node = nextInTree(node)
            }
        }
        for case .some(let connection) in connections {
            let account = Int(connection.account)
            used[account] += connection.charged
            outstanding[account] += connection.replyEnds.count
            var watch = connection.firstWatch
            while watch != 0 {
                used[account] += watches.cost(watch)
                watch = watches.table[watch].nextOfConnection
            }
            var transaction = connection.firstTransaction
            while transaction != 0 {
                used[account] += Self.transactionCost + bytes(of: transaction)
                transaction = transactions.table[transaction].nextOfConnection
            }
        }
        expect(kept == tree.keptBytes, "what is kept for transactions is miscounted", 0)
        for account in accounts.all {
            let record = accounts.table[account]
            expect(record.memory.now == used[Int(account)], "an account's bytes are miscounted", account)
            let isRight = record.outstanding.now == outstanding[Int(account)]
            expect(isRight, "outstanding requests are miscounted", account)
        }
    }

    /// What a transaction's entries are counted with.
    private func bytes(of transaction: TransactionID) -> Int {
        var bytes = 0
        var entry = transactions.table[transaction].firstEntry
        while entry != 0 {
            let it = transactions.entries[entry]
            bytes += Transactions.entryCost + Int(it.nameCount) + Int(it.valueCount)
            entry = it.next
        }
        return bytes
    }

    /// What a node keeps for transactions only: itself, if it is dead, and its versions.
    private func keptFor(_ node: NodeID) -> Int {
        var kept = tree.nodes[node].isDead ? Tree.deadCost + tree.nodes[node].nameCount : 0
        var version = tree.nodes[node].older
        while version != 0 {
            kept += Tree.versionCost + Int(tree.versions[version].valueCount)
            version = tree.versions[version].older
        }
        return kept
    }
}
