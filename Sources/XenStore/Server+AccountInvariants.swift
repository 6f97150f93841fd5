// The invariants of accounts and domains: what each has in use is what there is, and what is noted of a
// domain hangs together (Server+Invariants.swift calls these). Costs what there is.

import XenStoreTypes

/// A count for each number that comes up.
struct Tally {
    private var counts: [Int] = []

    subscript(_ id: UInt32) -> Int {
        get { Int(id) < counts.count ? counts[Int(id)] : 0 }
        set {
            if Int(id) >= counts.count {
                counts.append(contentsOf: repeatElement(0, count: Int(id) + 1 - counts.count))
            }
            counts[Int(id)] = newValue
        }
    }

    /// All numbers with a count are below this.
    var limit: Int { counts.count }
    /// How many numbers have a count.
    var used: Int { counts.reduce(0) { $1 == 0 ? $0 : $0 + 1 } }
}

/// What accounts must say, counted anew.
private struct Use {
    /// Nodes that name it as their owner.
    var owned = Tally()
    var nodes = Tally()
    var watches = Tally()
    var transactions = Tally()
    var outstanding = Tally()
    var memory = Tally()
}

extension Server {
    typealias Expect = (_ holds: Bool, _ what: StaticString, _ id: UInt32) -> Void

    func checkAccounts(_ expect: Expect) {
        var use = Use()
        countNodes(&use, expect)
        countConnections(&use)
        for (position, id) in accounts.all.enumerated() {
            let account = accounts.table[id]
            expect(account.position == position, "an account is not where it says", id)
            expect(account.nodes.now == use.nodes[id], "an account's nodes are miscounted", id)
            expect(account.watches.now == use.watches[id], "watches are miscounted", id)
            expect(account.transactions.now == use.transactions[id], "transactions are miscounted", id)
            expect(account.outstanding.now == use.outstanding[id], "outstanding requests are miscounted", id)
            expect(account.memory.now == use.memory[id], "an account's bytes are miscounted", id)
            checkOwned(id, use.owned[id], expect)
            checkDomain(id, expect)
        }
        checkPermissions(expect)
    }

    private func countNodes(_ use: inout Use, _ expect: Expect) {
        var usersNodes = 0
        forEachNode { node in
            if tree.nodes[node].isDead || isSpecial(node) { return }
            let list = tree.nodes[node].permissions
            guard let owner = accounts.known(permissions.owner(list)) else {
                return expect(false, "a node whose owner has no account", node)
            }
            expect(!permissions.entry(list, 0).ignored, "a node whose owner has ended", node)
            use.owned[owner] += 1
            use.nodes[payer(node)] += 1
            use.memory[payer(node)] += cost(node)
            if userNodes.user(of: node) != 0 {
                usersNodes += 1
                expect(accounts.table[payer(node)].isUser, "a domain's node is counted as a user's", node)
            }
        }
        expect(usersNodes == userNodes.count, "nodes that are gone are counted as users'", 0)
    }

    private func countConnections(_ use: inout Use) {
        for case .some(let connection) in connections {
            let account = connection.account
            use.outstanding[account] += connection.replyEnds.count
            use.memory[account] += connection.charged
            var watch = connection.firstWatch
            while watch != 0 {
                use.watches[account] += 1
                use.memory[account] += watches.cost(watch)
                watch = watches.table[watch].nextOfConnection
            }
            var transaction = connection.firstTransaction
            while transaction != 0 {
                use.transactions[account] += 1
                use.memory[account] += Self.transactionCost + bytes(of: transaction)
                transaction = transactions.table[transaction].nextOfConnection
            }
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

    /// The chain of what a domain owns has all its nodes, `owned` of them, and no others.
    private func checkOwned(_ id: AccountID, _ owned: Int, _ expect: Expect) {
        let account = accounts.table[id]
        if account.isEverlasting || account.isUser {
            return expect(account.firstOwned == 0, "a chain of nodes that nobody needs", id)
        }
        var count = 0
        var previous: NodeID = 0
        var node = account.firstOwned
        while node != 0 && count <= owned {
            expect(tree.nodes[node].previousOwned == previous, "a chain of owned nodes is broken", node)
            expect(!tree.nodes[node].isDead && !isSpecial(node), "a node that nobody can own is owned", node)
            if tree.nodes[node].isDead { break }
            let owner = permissions.owner(tree.nodes[node].permissions)
            expect(accounts.known(owner) == id, "a node in the chain of another owner", node)
            count += 1
            previous = node
            node = tree.nodes[node].nextOwned
        }
        expect(count == owned, "a chain of owned nodes has not all of them", id)
    }

    /// The ring of a domain is its own connection, its target is introduced, and a broken ring has nothing
    /// left.
    private func checkDomain(_ id: AccountID, _ expect: Expect) {
        let account = accounts.table[id]
        if account.isUser { return }
        let domain = DomainID(UInt16(truncatingIfNeeded: account.number))
        expect(accounts.known(domain) == id, "a domain's account is not the one that is found", id)
        expect(account.isEverlasting == isEverlasting(domain), "a domain that cannot end", id)
        if let target = account.target {
            expect(isIntroduced(target), "a target that is not introduced", id)
            expect(isIntroduced(domain), "one who is not introduced has a target", id)
        }
        guard let ring = account.ring else { return }
        guard Int(ring.rawValue) < connections.count, let connection = connections[Int(ring.rawValue)] else {
            return expect(false, "a ring without a connection", id)
        }
        expect(connection.account == id && !connection.isSocket, "a ring that is another's connection", id)
        if connection.isBroken {
            let isBare =
                connection.firstWatch == 0 && connection.firstTransaction == 0 && connection.input.isEmpty
                && connection.unsentCount == 0
            expect(isBare, "a broken ring that has something left", connection.id)
        }
    }

    /// Each list of permissions has as many references as holders, and is found by the domains that it
    /// names, of each of which it is known which one it is, so that its end will be noticed.
    private func checkPermissions(_ expect: Expect) {
        var held = Tally()
        forEachNode { node in
            if !tree.nodes[node].isDead { held[tree.nodes[node].permissions] += 1 }
            var version = tree.nodes[node].older
            while version != 0 {
                held[tree.versions[version].permissions] += 1
                version = tree.versions[version].older
            }
        }
        var transaction = transactions.oldest
        while transaction != 0 {
            var entry = transactions.table[transaction].firstEntry
            while entry != 0 {
                let list = transactions.entries[entry].permissions
                if list != 0 { held[list] += 1 }
                entry = transactions.entries[entry].next
            }
            transaction = transactions.table[transaction].younger
        }
        expect(
            held.used == permissions.count, "permission lists that nobody holds", UInt32(permissions.count))
        permissions.check(held, expect)
        if !world.hasHypervisor { return }
        permissions.forEachNamed { domain in
            if isEverlasting(domain) { return }
            let isKnown = accounts.known(domain).map { accounts.table[$0].identity != nil } == true
            expect(isKnown, "a list names a domain whose end would not be noticed", UInt32(domain.rawValue))
        }
    }
}
