// Transactions: begin, commit, give up; and who may make others wait (specification, section C).

import XenStoreTypes

/// The right of one transaction, `transactions.holder`, to find what it touched unchanged. After two EAGAINs
/// in a row a connection's next transaction gets it, for 20 ms at most; others' changes to what it touched
/// wait until then. It moves its snapshot to now with every request, which is right since nothing that it
/// touched can have changed. (So whatever changes the tree without asking `mustWait` first has to end the
/// reservation.)
struct Reservation {
    /// Longest time, in nanoseconds.
    static let duration: UInt64 = 20_000_000
    /// A domain that held a reservation for some time gets none for nine times as long.
    static let pause: UInt64 = 9
    /// EAGAINs in a row that earn one.
    static let conflicts = 2

    var start: UInt64 = 0
    var deadline: UInt64 = 0
    /// Connections whose next request waits for its end, in the order in which they came. Nobody gets the
    /// next reservation before all of them have gone on.
    var held: [UInt32] = []
}

extension Server {
    func transactionStart(_ request: Request) throws(ErrorName) {
        let connection = request.connection
        if request.transaction != 0 { throw .busy }
        path.clear()
        if !connection.isPrivileged {
            let open = accounts.table[connection.account].transactions.now
            try checkCount(connection, .transactions, open + 1)
            try checkMemory(connection, adding: Self.transactionCost)
        }
        var number = connection.nextTransactionNumber
        while number == 0 || transactions.find(connection.id, number) != 0 { number &+= 1 }
        connection.nextTransactionNumber = number &+ 1
        let transaction = transactions.start(connection.id, number, first: &connection.firstTransaction)
        accounts.count(connection.account, .transactions, 1)
        accounts.count(connection.account, .memory, Self.transactionCost)
        warnOfUse(connection.account, .transactions)
        if connection.conflicts >= Reservation.conflicts { reserve(transaction, connection) }
        traceLife("CREATE", "transaction", number)
        recordTransaction(.transaction, number, of: connection)
        reply(request) {
            $0.append(decimal: UInt64(number))
            $0.append(byte: 0)
        }
    }

    func transactionEnd(_ request: Request) throws(ErrorName) {
        let connection = request.connection
        let word = try argument(request)
        if !word.equals("T") && !word.equals("F") { throw .inval }
        let transaction = request.transaction
        if transaction == 0 { throw .noent }
        if word.equals("F") {
            connection.conflicts = 0
            end(transaction, connection)
        } else {
            try commit(transaction, connection)
        }
        replyOK(request)
    }

    static let transactionCost = MemoryLayout<Transaction>.stride + 32

    /// Makes the transaction's changes part of the tree, or none of them, and ends it.
    ///
    /// Throws ENOSPC when the domain would own more nodes than its quota, EAGAIN when something that the
    /// transaction looked at or changed has been changed by others since it began, a domain to which it gave
    /// a node has ended since, or it is doomed.
    private func commit(_ transaction: TransactionID, _ connection: Connection) throws(ErrorName) {
        defer { end(transaction, connection) }
        let it = transactions.table[transaction]
        if it.isDoomed {
            connection.conflicts += 1
            throw .again
        }
        if it.sequence == 0 {
            connection.conflicts = 0
            return
        }
        path.clear()
        if !connection.isPrivileged && it.nodesDelta > 0 { try checkNodes(connection, adding: it.nodesDelta) }
        try checkRoom(for: transaction)
        if transactions.hasConflict(transaction) || transactions.givesToEnded(transaction) {
            connection.conflicts += 1
            // That somebody has changed something may not be final yet.
            shown = tree.generation
            throw .again
        }
        connection.conflicts = 0
        tree.generation += 1
        apply(transaction, by: connection)
    }

    /// Carries the changes over: removals first, in their order, then what was created and changed, in the
    /// order of the first change.
    private func apply(_ transaction: TransactionID, by connection: Connection) {
        let entries = transactions.entries
        var removed: [EntryID] = []
        var changed: [EntryID] = []
        var entry = transactions.table[transaction].firstEntry
        while entry != 0 {
            if entries[entry].seen.contains(.subtree) { removed.append(entry) }
            if entries[entry].state == .created || entries[entry].state == .changed { changed.append(entry) }
            entry = entries[entry].next
        }
        removed.sort { entries[$0].removedAt < entries[$1].removedAt }
        changed.sort { entries[$0].sequence < entries[$1].sequence }
        // One below another that was removed later may be gone with it already.
        for entry in removed where !tree.nodes[entries[entry].base].isDead { removeLive(entries[entry].base) }
        for entry in changed {
            if entries[entry].state == .changed {
                applyChange(entry)
            } else {
                applyCreation(entry, by: connection)
            }
        }
    }

    private func applyChange(_ entry: EntryID) {
        let entries = transactions.entries
        let node = entries[entry].base
        if tree.nodes[node].isDead { return }
        loadEventPath(node)
        let list = entries[entry].permissions
        if list != 0 {
            permissions.retain(list)
            set(node, eventPath, permissions: list)
        }
        if entries[entry].hasValue {
            let value = bytes.bytes(entries[entry].value, Int(entries[entry].valueCount))
            set(node, eventPath, value: value)
        }
    }

    private func applyCreation(_ entry: EntryID, by connection: Connection) {
        let entries = transactions.entries
        let above = entries[entry].parent
        // A parent that was created anew after this one is not live yet: this went with the parent before it.
        let parent = entries[above].state == .created ? entries[above].live : entries[above].base
        if parent == 0 || tree.nodes[parent].isDead { return }
        let list = entries[entry].permissions
        permissions.retain(list)
        let value = bytes.bytes(entries[entry].value, Int(entries[entry].valueCount))
        let node = create(
            parent: parent, transactions.name(entry), entries[entry].hash, value, list,
            user: connection.creatingUser)
        transactions.entries[entry].live = node
        if entries[entry].isImplicit && !commits.isRecording { return }
        loadEventPath(node)
        record(node, eventPath, eventPath.depth)
        if entries[entry].isImplicit { return }
        fire(eventPath, .init(after: list, node, tree), isExact: false)
    }

    func loadEventPath(_ node: NodeID) {
        scratch.removeAll(keepingCapacity: true)
        tree.appendPath(node, to: &scratch)
        scratch.withBytes { eventPath.load(canonical: $0) }
    }

    // MARK: Ending

    private func end(_ transaction: TransactionID, _ connection: Connection) {
        let charge = Self.transactionCost + transactions.table[transaction].bytes
        accounts.count(connection.account, .transactions, -1)
        accounts.count(connection.account, .memory, -charge)
        traceLife("DESTROY", "transaction", transactions.table[transaction].number)
        recordTransaction(.transactionEnd, transactions.table[transaction].number, of: connection)
        if transactions.holder == transaction { endReservation() }
        transactions.end(transaction, first: &connection.firstTransaction)
    }

    func dropTransactions(of connection: Connection) {
        while connection.firstTransaction != 0 { end(connection.firstTransaction, connection) }
    }

    /// Charges the domain for what a request has added to the transaction, if that still is there.
    func chargeTransaction(_ transaction: TransactionID, _ request: Request, _ before: Int) {
        let connection = request.connection
        if transactions.find(connection.id, request.header.transactionID) != transaction { return }
        accounts.count(connection.account, .memory, transactions.table[transaction].bytes - before)
    }

    /// Dooms transactions, oldest first and unprivileged ones before others, until what is kept for them is
    /// within its bounds.
    func boundSnapshots() {
        if tree.keptBytes <= configuration.snapshotMemory { return }
        for isPrivileged in [false, true] {
            var transaction = transactions.oldest
            while transaction != 0 && tree.keptBytes > configuration.snapshotMemory {
                let next = transactions.table[transaction].younger
                if let connection = connections[Int(transactions.table[transaction].connection)],
                    connection.isPrivileged == isPrivileged, !transactions.table[transaction].isDoomed
                {
                    doom(transaction, connection)
                }
                transaction = next
            }
        }
    }

    private func doom(_ transaction: TransactionID, _ connection: Connection) {
        var line = Line("too much is kept for open transactions: transaction ")
        line.add(transactions.table[transaction].number)
        line.add(" of ")
        line.add(subject: connection.subject)
        line.add(" will end in EAGAIN")
        log(.warning, line)
        accounts.count(connection.account, .memory, -transactions.table[transaction].bytes)
        transactions.doom(transaction)
        if transactions.holder == transaction { endReservation() }
    }

    // MARK: Reservation

    private func reserve(_ transaction: TransactionID, _ connection: Connection) {
        if transactions.holder != 0 || !reservation.held.isEmpty { return }
        if now < accounts.table[connection.account].mayReserveAt { return }
        transactions.reserve(transaction)
        reservation.start = now
        reservation.deadline = now + Reservation.duration
        if configuration.tracing.contains(.wrl) { traceLife("RESERVE", "transaction", connection.id) }
    }

    /// Whoever waits may go on, at the next `finish`.
    func endReservation() {
        let connection = connections[Int(transactions.table[transactions.holder].connection)]
        if let connection {
            let used = now - reservation.start
            accounts.table[connection.account].mayReserveAt = now + used * Reservation.pause
        }
        transactions.endReservation()
    }

    /// Whether the request would change what the transaction with the reservation has touched.
    func mustWait(_ request: Request) -> Bool {
        let connection = request.connection
        let number = request.header.transactionID
        if number != 0 {
            let transaction = transactions.find(connection.id, number)
            if transaction == transactions.holder || transaction == 0 { return false }
            let isCommit =
                request.header.type == MessageType.transactionEnd.rawValue && request.payload.equals("T\0")
            return isCommit && !transactions.table[transaction].isDoomed
                && wouldChange(transaction)
        }
        guard let change = change(request), let end = request.payload.firstIndex(of: 0) else { return false }
        do throws(ErrorName) {
            try path.parse(request.payload.slice(0, end), home: connection.home, allowSpecial: true)
        } catch {
            return false
        }
        return mayChange(connection, change) && transactions.isTouched(path, by: change)
    }

    /// What a request would do to its path; nil: it changes none.
    private func change(_ request: Request) -> Transactions.Change? {
        switch MessageType(rawValue: request.header.type) {
        case .write, .makeDirectory: .value
        case .setPermissions: .permissions
        case .remove: .removal
        default: nil
        }
    }

    /// A policy has granted the request. Node permissions alone say who waits (`mayChange`), so this one may
    /// be about to change what is reserved: then nobody has it reserved any more.
    func yieldReservation(_ request: Request) {
        if transactions.holder == 0 || request.view != 0 { return }
        guard let change = change(request), transactions.isTouched(path, by: change) else { return }
        endReservation()
    }

    /// Whether the connection may change the path at all: who will be refused does not wait, or waiting would
    /// tell of nodes that it may not see.
    private func mayChange(_ connection: Connection, _ change: Transactions.Change) -> Bool {
        if connection.isReadOnly { return false }
        if connection.isPrivileged { return true }
        let found = tree.nearest(path, at: live)
        if found.node == 0 { return false }
        let right: Rights = change == .permissions ? .owner : .write
        return rights(connection, tree.nodes[found.node].permissions).contains(right)
    }

    /// Whether the commit of a transaction would change what the one with the reservation has touched.
    private func wouldChange(_ transaction: TransactionID) -> Bool {
        let entries = transactions.entries
        var entry = transactions.table[transaction].firstEntry
        while entry != 0 {
            if entries[entry].state != .unchanged {
                scratch.removeAll(keepingCapacity: true)
                transactions.appendPath(entry, to: &scratch)
                scratch.withBytes { path.load(canonical: $0) }
                if transactions.isTouched(path, by: transactions.change(entry)) { return true }
            }
            entry = entries[entry].next
        }
        return false
    }

    /// Puts a connection's next request off until the reservation ends.
    func hold(_ connection: Connection) {
        connection.isHeld = true
        reservation.held.append(connection.id)
    }

    /// Lets go on all who waited, in the order in which they came.
    private func release() {
        for id in reservation.held { connections[Int(id)]?.isHeld = false }
        for id in reservation.held {
            guard let connection = connections[Int(id)] else { continue }
            carryOutWaiting(connection)
            recharge(connection)
            list(connection)
        }
        reservation.held.removeAll()
    }

    /// Ends every input: what is kept for transactions is brought within its bounds, which may end the
    /// reservation, and those who waited for one go on once nobody has it.
    func finish() {
        boundSnapshots()
        if transactions.holder != 0 || reservation.held.isEmpty { return }
        release()
        boundSnapshots()
    }
}
