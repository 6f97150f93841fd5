// The reference's watches and transactions as requests (specification, sections A, C, D).

import XenStoreTypes

extension ReferenceRequest {
    func watch() throws(ErrorName) {
        let all = try strings(message.payload)
        guard (2...3).contains(all.count) else { throw .inval }
        var depth: Int?
        if all.count == 3 {
            guard let given = number(all[2]), features & 4 != 0 else { throw .inval }
            depth = given
        }
        let made = ReferenceWatch(
            path: try path(all[0], special: true), token: all[1], depth: depth,
            prefix: [0x2F, 0x40].contains(all[0].first) ? "" : home)
        guard !connection.watches.contains(where: { $0.path == made.path && $0.token == made.token }) else {
            throw .exist
        }
        let held = store.connections.values.filter { $0.subject == subject }.map(\.watches.count).reduce(0, +)
        if let limit = store.limit("watches", subject), held >= limit { throw .nospc }
        connection.watches.append(made)
        reply("OK")
        connection.queue(events: [all[0] + [0] + all[1] + [0]], coalescing: false)
    }

    func unwatch() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count == 2 else { throw .inval }
        let path = try path(all[0], special: true)
        guard let index = connection.watches.firstIndex(where: { $0.path == path && $0.token == all[1] })
        else {
            throw .noent
        }
        connection.watches.remove(at: index)
        reply("OK")
    }

    func resetWatches() {
        connection.watches = []
        connection.transactions = [:]
        reply("OK")
    }

    func startTransaction() throws(ErrorName) {
        if message.transactionID != 0 { throw .busy }
        let held = store.connections.values.filter { $0.subject == subject }.map(\.transactions.count)
        if let limit = store.limit("transactions", subject), held.reduce(0, +) >= limit { throw .nospc }
        var id = connection.nextTransaction
        while id == 0 || connection.transactions[id] != nil { id &+= 1 }
        connection.nextTransaction = id &+ 1
        connection.transactions[id] = ReferenceTransaction(snapshot: store.tree)
        reply(String(id))
    }

    func endTransaction() throws(ErrorName) {
        let isCommit = message.payload == [0x54, 0]
        guard isCommit || message.payload == [0x46, 0] else { throw .inval }
        guard message.transactionID != 0 else { throw .noent }
        let transaction = connection.transactions.removeValue(forKey: message.transactionID)!
        if isCommit {
            if transaction.isDoomed { throw .again }
            try checkQuota(transaction)
            if store.isFull && !transaction.changes.isEmpty { throw .nospc }
            if transaction.conflicts(with: store.tree) || transaction.givesToTheDead { throw .again }
            commit(transaction)
        }
        reply("OK")
    }

    private func checkQuota(_ transaction: ReferenceTransaction) throws(ErrorName) {
        guard case .domain(let id) = subject, let limit = store.limit("nodes", subject) else { return }
        let owner = DomainID(id)
        let more = transaction.view.count(ownedBy: owner) - transaction.base.count(ownedBy: owner)
        if more > 0 && store.tree.count(ownedBy: owner) + more > limit { throw .nospc }
    }

    /// Removals first, in their order; then what was created or changed, in the order of the first change.
    /// Each is a change of its own to those who watch, so that what one of them hides is hidden from the next
    /// ones' events.
    private func commit(_ transaction: ReferenceTransaction) {
        for top in transaction.removedTops {
            let before = store.tree
            store.tree.remove(top)
            store.fireRemoval(before.subtree(top), top: top, before: before, after: store.tree)
        }
        for path in transaction.changes {
            let now = transaction.view[path]!
            let before = store.tree
            if store.tree[path] == nil {
                store.tree.create(path, permissions: now.permissions, value: now.value)
            } else {
                store.tree.setValue(path, now.value)
                store.tree.setPermissions(path, now.permissions)
            }
            if transaction.announced.contains(path) { store.fire(path, before: before, after: store.tree) }
        }
    }
}
