// Going on with the sessions that another daemon left behind (specification, section B, "Start of the
// daemon").
//
// A domain that is the same as then is attached again: its watches stand, and each fires once, so that no
// change goes unseen; its open transactions are doomed; what its buffers held is there. Whoever is gone, or
// another by now, is ended as if it had ended just now.

import XenStoreTypes

extension Server {
    /// Takes up the sessions. To be called after the tree has been recovered, before any other input. What
    /// waits in the rings' buffers is carried out by `proceed`.
    public func restore(_ image: SessionImage) {
        for quota in QuotaName.allCases {
            if let limit = image.quotas[quota] { setLimit(quota, limit) }
        }
        var gone: [UInt16] = []
        for number in image.domains.keys.sorted() {
            guard let recorded = image.domains[number] else { continue }
            if !restore(DomainID(number), recorded) { gone.append(number) }
        }
        for number in image.domains.keys.sorted() {
            if let account = accounts.known(DomainID(number)) { fireRestored(account) }
        }
        forgetTargets()
        for number in gone {
            let domain = DomainID(number)
            log(.notice, line("domain ", domain, " has ended while the daemon was down"))
            endDomain(
                accounts.account(of: domain),
                wasIntroduced: image.domains[number]?.isIntroduced ?? false)
        }
        endUnknown()
        domainsChanged()
    }

    /// What the restored rings have sent already, and could not be carried out then, is.
    public func proceed() {
        let rings = accounts.all.filter { accounts.table[$0].ring != nil }
        for id in rings.sorted(by: { accounts.table[$0].number < accounts.table[$1].number }) {
            guard let ring = accounts.table[id].ring else { continue }
            let connection = self[ring]
            if !connection.input.isEmpty { carryOutWaiting(connection) }
            recharge(connection)
            list(connection)
        }
        finish()
    }

    private func line(_ before: StaticString, _ domain: DomainID, _ after: StaticString) -> Line {
        var line = Line(before)
        line.add(UInt32(domain.rawValue))
        line.add(after)
        return line
    }

    /// Targets that are introduced no more are none.
    private func forgetTargets() {
        for id in accounts.all {
            guard let target = accounts.table[id].target else { continue }
            let domain = DomainID(UInt16(truncatingIfNeeded: accounts.table[id].number))
            if isIntroduced(target) && isIntroduced(domain) { continue }
            accounts.table[id].target = nil
            noteChange(id)
        }
    }

    /// False: the domain is no more, or its ring cannot be had.
    private func restore(_ domain: DomainID, _ recorded: SessionImage.Domain) -> Bool {
        let state = world.domain(domain)
        if !isEverlasting(domain) {
            guard let state, !state.isDying, state.uniqueID == recorded.uniqueID else { return false }
        }
        let account = accounts.account(of: domain)
        accounts.table[account].identity = state
        accounts.table[account].features = recorded.features
        accounts.table[account].target = recorded.target
        accounts.table[account].isShutdown = recorded.isShutdown
        for quota in QuotaName.allCases where recorded.ownLimits >> UInt16(quota.rawValue) & 1 != 0 {
            accounts.setLimit(account, quota, recorded.limits[Int(quota.rawValue)])
        }
        accounts.table[account].gfn = recorded.gfn
        accounts.table[account].port = recorded.port
        note(account)
        return !recorded.isIntroduced || restoreRing(domain, account, recorded)
    }

    private func restoreRing(
        _ domain: DomainID, _ account: AccountID, _ recorded: SessionImage.Domain
    ) -> Bool {
        let id = connect(.domain(domain), isSocket: false)
        let connection = self[id]
        connection.isBroken = recorded.isDeactivated
        let isIntact: Bool
        do throws(ErrorName) {
            isIntact = try world.resume(
                domain, connection: id, gfn: recorded.gfn, port: recorded.port,
                features: recorded.features, slot: recorded.slot, isActive: !recorded.isDeactivated)
        } catch {
            log(.error, line("domain ", domain, " cannot be attached again, and is released"))
            drop(connection)
            return false
        }
        connection.nextTransactionNumber = recorded.nextTransaction
        for number in recorded.transactions where transactions.find(connection.id, number) == 0 {
            restoreTransaction(connection, number)
        }
        for watch in recorded.watches { if let watch { restoreWatch(connection, watch) } }
        if isIntact { connection.restore(input: recorded.input, output: recorded.output) }
        connection.unreadSince = now
        recharge(connection)
        list(connection)
        return true
    }

    private func restoreTransaction(_ connection: Connection, _ number: UInt32) {
        let transaction = transactions.start(connection.id, number, first: &connection.firstTransaction)
        transactions.doom(transaction)
        accounts.count(connection.account, .transactions, 1)
        accounts.count(connection.account, .memory, Self.transactionCost)
        recordTransaction(.transaction, number, of: connection)
    }

    private func restoreWatch(_ connection: Connection, _ recorded: SessionImage.WatchRecord) {
        let isRight = recorded.path.withBytes { text in
            do throws(ErrorName) {
                if text[0] != 0x2F && text[0] != 0x40 { throw .inval }
                try path.parse(text, home: .zero, allowSpecial: true)
                return Int(recorded.homeCount) < text.count
            } catch {
                return false
            }
        }
        if !isRight { return log(.warning, Line("a recorded watch has no path: it is left out")) }
        recorded.token.withBytes { token in
            if watches.find(connection.id, path, token) != 0 { return }
            let watch = watches.insert(
                connection.id, path, token, depth: recorded.depth, first: &connection.firstWatch)
            watches.table[watch].homeCount = recorded.homeCount
            accounts.count(connection.account, .watches, 1)
            accounts.count(connection.account, .memory, watches.cost(watch))
            recordWatch(.watch, watch, of: connection)
        }
    }

    /// Each watch of the domain's ring fires.
    private func fireRestored(_ account: AccountID) {
        guard let ring = accounts.table[account].ring else { return }
        let connection = self[ring]
        var all: [WatchID] = []
        var watch = connection.firstWatch
        while watch != 0 {
            all.append(watch)
            watch = watches.table[watch].nextOfConnection
        }
        for watch in all.reversed() {
            eventPath.load(canonical: watches.path(watch))
            let home = Int(watches.table[watch].homeCount)
            eventPath.withText {
                queue(connection, watch, $0.dropFirst(home), eventPath.hash(at: eventPath.depth), showing: 0)
            }
        }
    }

    /// Domains of which the tree speaks and nobody knows which ones they were: released. Others have accounts
    /// only because the store's older records spoke of them.
    private func endUnknown() {
        if !world.hasHypervisor { return }
        var named: Set<DomainID> = []
        permissions.forEachNamed {
            named.insert($0)
            _ = accounts.account(of: $0)
        }
        for id in accounts.all where !accounts.table[id].isUser {
            if accounts.table[id].isEverlasting || accounts.table[id].identity != nil { continue }
            let domain = DomainID(UInt16(truncatingIfNeeded: accounts.table[id].number))
            if !named.contains(domain) && accounts.table[id].firstOwned == 0 {
                accounts.close(id)
                continue
            }
            log(.notice, line("domain ", domain, " is not known from before: what it had is removed"))
            endDomain(id)
        }
    }
}
