// Writing down the sessions (SessionRecords.swift). Only rings have any: a socket ends with the daemon.

import XenStoreTypes

extension Server {
    /// From now on, or no more, sessions are recorded.
    public func recordSessions(_ on: Bool) { sessions.isRecording = on }

    public var hasSessions: Bool { !sessions.frame.isEmpty || !sessions.noted.isEmpty }

    /// Hands over the records of the turn, to be kept before `commit`, and forgets them: `body` is called
    /// once with those that count in any case, under the number 0, and once with those that count only if the
    /// store has the batch of this number, as far as there are such.
    public func takeSessions(_ body: (_ frame: Span<UInt8>, _ sequence: UInt64) -> Void) {
        writeNoted()
        let sequence = nextSequence ?? lastSequence
        if commits.final >= tree.generation || isPromiseGivenUp {
            if !sessions.frame.isEmpty { sessions.frame.withBytes { $0.withSpan { body($0, 0) } } }
        } else {
            splitFrame()
            if !sessions.free.isEmpty { sessions.free.withBytes { $0.withSpan { body($0, 0) } } }
            if !sessions.frame.isEmpty { sessions.frame.withBytes { $0.withSpan { body($0, sequence) } } }
        }
        sessions.free.removeAll(keepingCapacity: sessions.free.capacity <= 1 << 20)
        sessions.frame.removeAll(keepingCapacity: sessions.frame.capacity <= 1 << 20)
    }

    /// Moves the records of domains that wait for nothing from the frame to `free`. What is recorded of the
    /// others from now on waits for all that this frame does, so that no later frame counts without it.
    private func splitFrame() {
        sessions.frame.withBytes { all in
            var at = 0
            while at < all.count {
                let end = at + Int(all.word(at: at))
                let kind = SessionKind(rawValue: UInt8(truncatingIfNeeded: all.word(at: at + 4)))
                let domain = DomainID(UInt16(truncatingIfNeeded: all.word(at: at + 4) >> 16))
                // A quota is no domain's, whatever stands for its number.
                let account = kind == .quota ? nil : accounts.known(domain)
                let ring = account.flatMap { accounts.table[$0].ring }.map { self[$0] }
                if let ring, ring.barrier <= commits.final {
                    sessions.free.append(all.slice(at, end))
                } else {
                    ring?.wait(for: tree.generation)
                    sessions.bound.append(all.slice(at, end))
                }
                at = end
            }
        }
        swap(&sessions.frame, &sessions.bound)
        sessions.bound.removeAll(keepingCapacity: sessions.bound.capacity <= 1 << 20)
    }

    /// Others than its own ring have changed what is known of the account's domain, in a generation of its
    /// own: it is to be recorded, and the ring waits until that is final.
    func noteChange(_ account: AccountID) {
        tree.generation += 1
        domainsGeneration = tree.generation
        note(account)
        if let ring = accounts.table[account].ring { self[ring].wait(for: tree.generation) }
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
        let isBound = connection.barrier > commits.final && !isPromiseGivenUp
        connection.record(slot, dependingOn: isBound ? tree.generation : 0)
        guard let domain = session(of: connection) else { return }
        let (gone, fresh) = connection.takeUnrecorded()
        sessions.ring(
            domain, slot, gone: gone, input: connection.input, outputCount: fresh
        ) { connection.appendLast(fresh, to: &$0) }
    }

    // MARK: All

    /// Hands over all sessions as they are now, in one frame that stands for all before it, and that counts
    /// only if the store has the batch `nextSequence`, or, where there is none, `lastSequence`. What the turn
    /// has recorded so far is contained in it. Each ring's slot must have been recorded before.
    public func takeAllSessions<Result>(
        _ boot: Span<UInt8>, _ body: (Span<UInt8>) -> Result
    ) -> Result {
        let frame = copyAllSessions(boot)
        sessions.frame.removeAll(keepingCapacity: true)
        for account in sessions.noted { accounts.table[account].isNoted = false }
        sessions.noted.removeAll(keepingCapacity: true)
        for account in accounts.all {
            guard let ring = accounts.table[account].ring else { continue }
            _ = self[ring].takeUnrecorded()
            // What is recorded from now on adds to this frame.
            if commits.final < tree.generation { self[ring].wait(for: tree.generation) }
        }
        return frame.withBytes { $0.withSpan(body) }
    }

    /// All sessions as they are now, as `takeAllSessions` would hand them over. Nothing changes by it.
    public func copyAllSessions(_ boot: Span<UInt8>) -> [UInt8] {
        let frame = sessions.frame
        sessions.frame = []
        let start = sessions.begin(.boot, 0)
        boot.withBytes { sessions.frame.append($0) }
        sessions.end(start)
        for quota in QuotaName.allCases { sessions.quota(quota, accounts.limits[quota]) }
        for account in accounts.all where !accounts.table[account].isUser && hasSession(account) {
            writeDomain(account)
            if let ring = accounts.table[account].ring {
                writeAll(self[ring], accounts.table[account].number)
            }
        }
        defer { sessions.frame = frame }
        return sessions.frame
    }

    /// Whether anything is known of the domain that is not said of every one.
    private func hasSession(_ account: AccountID) -> Bool {
        let it = accounts.table[account]
        return it.ring != nil || it.identity != nil || it.target != nil || it.ownLimits != 0
            || it.isShutdown || it.features != Self.features
    }

    private func writeAll(_ connection: Connection, _ domain: UInt32) {
        // Set first, recorded first: they fire in this order.
        var all: [WatchID] = []
        var watch = connection.firstWatch
        while watch != 0 {
            all.append(watch)
            watch = watches.table[watch].nextOfConnection
        }
        for watch in all.reversed() {
            sessions.watch(
                .watch, domain, watches.table[watch], path: watches.path(watch),
                token: watches.token(watch))
        }
        var transaction = connection.firstTransaction
        while transaction != 0 {
            sessions.transaction(.transaction, domain, transactions.table[transaction].number)
            transaction = transactions.table[transaction].nextOfConnection
        }
        guard let slot = connection.slot else { return }
        sessions.ring(
            domain, slot, gone: 0, input: connection.input, outputCount: connection.unsentCount
        ) { connection.appendLast(connection.unsentCount, to: &$0) }
    }
}
