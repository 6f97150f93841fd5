// Writing down the sessions (SessionRecords.swift). Only rings have any: a socket ends with the daemon.

import XenStoreTypes

extension Server {
    /// From now on, or no more, sessions are recorded.
    public func recordSessions(_ on: Bool) { sessions.isRecording = on }

    public var hasSessions: Bool { !sessions.frame.isEmpty || !sessions.noted.isEmpty }

    /// Hands over the records of the turn, and forgets them.
    public func takeSessions<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        writeNoted()
        defer { sessions.frame.removeAll(keepingCapacity: sessions.frame.capacity <= 1 << 20) }
        return sessions.frame.withBytes { $0.withSpan(body) }
    }

    /// What is known of the account's domain is to be recorded at the turn's end.
    func note(_ account: AccountID) {
        if !sessions.isRecording || accounts.table[account].isUser || accounts.table[account].isNoted {
            return
        }
        accounts.table[account].isNoted = true
        sessions.noted.append(account)
    }

    /// The domain has ended: what was recorded of it counts no more.
    func noteEnd(_ account: AccountID) {
        if !sessions.isRecording || accounts.table[account].isUser { return }
        sessions.bare(.ended, accounts.table[account].number)
        if accounts.table[account].isNoted {
            accounts.table[account].isNoted = false
            sessions.noted.removeAll { $0 == account }
        }
    }

    private func writeNoted() {
        for account in sessions.noted where accounts.table[account].isNoted {
            accounts.table[account].isNoted = false
            writeDomain(account)
        }
        sessions.noted.removeAll(keepingCapacity: true)
    }

    private func writeDomain(_ account: AccountID) {
        let it = accounts.table[account]
        let ring = it.ring.map { self[$0] }
        var flags: UInt8 = 0
        if ring != nil { flags |= 1 }
        if it.isShutdown { flags |= 2 }
        if ring?.isBroken == true { flags |= 4 }
        let start = sessions.begin(.domain, it.number, flags: flags)
        sessions.append(long: it.identity?.uniqueID ?? 0)
        sessions.append(long: it.gfn)
        sessions.append(it.port)
        sessions.append(it.features)
        sessions.append(it.target.map { UInt32($0.rawValue) } ?? Sessions.noTarget)
        sessions.append(ring?.nextTransactionNumber ?? 1)
        sessions.append(UInt32(it.ownLimits))
        withUnsafeBytes(of: it.limits) { sessions.frame.append(contentsOf: $0) }
        sessions.end(start)
    }

    // MARK: Of a connection

    /// The number of the domain whose ring this is, if its session is to be recorded.
    @inline(__always) func session(of connection: Connection) -> UInt32? {
        if !sessions.isRecording || connection.isSocket { return nil }
        return accounts.table[connection.account].number
    }

    func recordWatch(_ kind: SessionKind, _ watch: WatchID, of connection: Connection) {
        guard let domain = session(of: connection) else { return }
        sessions.watch(
            kind, domain, watches.table[watch], path: watches.path(watch), token: watches.token(watch))
    }

    func recordTransaction(_ kind: SessionKind, _ number: UInt32, of connection: Connection) {
        guard let domain = session(of: connection) else { return }
        sessions.transaction(kind, domain, number)
        // The next number is the account's record's.
        if kind == .transaction { note(connection.account) }
    }

    func recordReset(_ connection: Connection) {
        guard let domain = session(of: connection) else { return }
        sessions.bare(.reset, domain)
        connection.forgetRecorded()
    }

    /// Records a ring's slot: where its streams will stand, and what its buffers hold beyond that. To be
    /// called once everything that this turn sends has been told by `sent`.
    public func recordRing(_ id: ConnectionID, _ slot: RingSlot) {
        let connection = self[id]
        guard let domain = session(of: connection) else { return }
        connection.slot = slot
        let (gone, fresh) = connection.takeUnrecorded()
        sessions.ring(
            domain, slot, gone: gone, input: connection.input, outputCount: fresh
        ) { connection.appendLast(fresh, to: &$0) }
    }

    // MARK: All

    /// Records all sessions, as the first frame of a new journal. The records of this turn so far are
    /// contained in it.
    public func recordAll(_ boot: Span<UInt8>) {
        sessions.frame.removeAll(keepingCapacity: true)
        for account in sessions.noted { accounts.table[account].isNoted = false }
        sessions.noted.removeAll(keepingCapacity: true)
        let start = sessions.begin(.boot, 0)
        boot.withBytes { sessions.frame.append($0) }
        sessions.end(start)
        for quota in QuotaName.allCases { sessions.quota(quota, accounts.limits[quota]) }
        for account in accounts.all where !accounts.table[account].isUser {
            writeDomain(account)
            if let ring = accounts.table[account].ring { recordAll(self[ring]) }
        }
    }

    private func recordAll(_ connection: Connection) {
        // Set first, recorded first: they fire in this order.
        var all: [WatchID] = []
        var watch = connection.firstWatch
        while watch != 0 {
            all.append(watch)
            watch = watches.table[watch].nextOfConnection
        }
        for watch in all.reversed() { recordWatch(.watch, watch, of: connection) }
        var transaction = connection.firstTransaction
        while transaction != 0 {
            recordTransaction(.transaction, transactions.table[transaction].number, of: connection)
            transaction = transactions.table[transaction].nextOfConnection
        }
        connection.forgetRecorded()
        if let slot = connection.slot { recordRing(ConnectionID(rawValue: connection.id), slot) }
    }
}
