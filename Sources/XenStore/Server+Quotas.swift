// Quotas: who is over one is refused, and the log says who, which, and where (specification, section E).

import XenStoreTypes

extension Server {
    /// Refusals of one domain are logged at most this often, and warnings too, in nanoseconds.
    private static let pause: UInt64 = 5_000_000_000

    /// Throws ENOSPC if `used` of something is more than the connection's domain may have.
    func checkCount(_ connection: Connection, _ quota: QuotaName, _ used: Int) throws(ErrorName) {
        let limit = accounts.limit(connection.account, quota)
        if limit != 0 && used > Int(limit) { throw refused(connection, quota) }
    }

    /// Throws ENOSPC if the domain may not own `number` nodes more.
    func checkNodes(_ connection: Connection, adding number: Int) throws(ErrorName) {
        try checkCount(connection, .nodes, accounts.table[connection.account].nodes.now + number)
    }

    /// Throws ENOSPC if the domain may not use `number` bytes more.
    func checkMemory(_ connection: Connection, adding number: Int) throws(ErrorName) {
        if number <= 0 { return }
        try checkCount(connection, .memory, accounts.table[connection.account].memory.now + number)
    }

    /// Counts and logs a refusal; answers what to throw.
    func refused(_ connection: Connection, _ quota: QuotaName) -> ErrorName {
        refuse(connection, quota)
        // Others may have set the limit, and what a domain has used up, others may have given it.
        let isOthers = quota == .nodes || quota == .memory
        shown = max(shown, isOthers ? tree.generation : domainsGeneration)
        return .nospc
    }

    /// Counts a refusal of the request at hand, and logs it unless there was a line of late. `path` is the
    /// request's, or clear if it has none.
    func refuse(_ connection: Connection, _ quota: QuotaName) {
        let account = connection.account
        accounts.table[account].refusals += 1
        let last = accounts.table[account].refusalLogged
        let isLogged = last == 0 || now >= last + Self.pause
        if !isLogged && !configuration.tracing.contains(.acc) { return }
        var line = Line("quota ")
        line.add(quota.name)
        line.add(" of ")
        line.add(subject: connection.subject)
        line.add(" exceeded: limit ")
        line.add(Int(accounts.limit(account, quota)))
        if !path.text.isEmpty {
            line.add(", path ")
            path.withText { line.add($0.slice(0, min($0.count, 200))) }
        }
        if configuration.tracing.contains(.acc) { world.trace(line.bytes.span) }
        if !isLogged { return }
        line.add(", refusals since the last line ")
        line.add(Int(accounts.table[account].refusals))
        accounts.table[account].refusalLogged = max(now, 1)
        accounts.table[account].refusals = 0
        log(.warning, line)
    }

    /// Warns once when a domain has come to 80 % of a quota, and again only after it has been below; or
    /// later, where there was a warning of late.
    func warnOfUse(_ account: AccountID, _ quota: QuotaName) {
        let record = accounts.table[account]
        if record.isUser || record.number == UInt32(configuration.privilegedDomain.rawValue) { return }
        let used: Int
        var limit = Int(accounts.limit(account, quota)) * 4 / 5
        switch quota {
        case .nodes: used = record.nodes.now
        case .watches: used = record.watches.now
        case .transactions: used = record.transactions.now
        case .memory:
            used = record.memory.now
            limit = Int(accounts.limits.softMemory)
        default: return
        }
        let bit: UInt16 = 1 << UInt16(quota.rawValue)
        if limit == 0 || used < limit {
            if record.warned & bit != 0 { accounts.table[account].warned &= ~bit }
            return
        }
        if record.warned & bit != 0 { return }
        if record.warnedAt != 0 && now < record.warnedAt + Self.pause { return }
        accounts.table[account].warned |= bit
        accounts.table[account].warnedAt = max(now, 1)
        var line = Line("domain ")
        line.add(Int(record.number))
        line.add(" uses ")
        line.add(used)
        line.add(" of its quota ")
        line.add(quota.name)
        line.add(", ")
        line.add(Int(accounts.limit(account, quota)))
        log(.warning, line)
    }

    // MARK: Requests

    /// `` (names), `quota|` (the global limit) or `domid|quota|` (the limit that holds for a domain).
    func getQuota(_ request: Request) throws(ErrorName) {
        if request.payload.isEmpty {
            return reply(request) { connection in
                for quota in QuotaName.allCases {
                    if quota != .nodes { connection.append(byte: 0x20) }
                    connection.append(Bytes(quota.name))
                }
                connection.append(byte: 0)
            }
        }
        let strings = try arguments(request, 1, 2)
        let quota = try quotaName(strings[strings.count - 1])
        var limit = accounts.limits[quota]
        if strings.count == 2 {
            let domain = try existingDomain(strings[0], request)
            if let account = accounts.known(domain) { limit = accounts.limit(account, quota) }
        }
        reply(request) {
            $0.append(decimal: UInt64(limit))
            $0.append(byte: 0)
        }
    }

    /// `quota|value|` (for all) or `domid|quota|value|` (for one domain).
    func setQuota(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 2, 3)
        let quota = try quotaName(strings[strings.count - 2])
        guard let value = strings[strings.count - 1].decimal else { throw .inval }
        if strings.count == 2 {
            setLimit(quota, value)
        } else {
            let domain = try existingDomain(strings[0], request, noting: true)
            let account = accounts.account(of: domain)
            accounts.setLimit(account, quota, value)
            noteChange(account)
        }
        replyOK(request)
    }

    /// Sets a limit for all domains that have none of their own.
    func setLimit(_ quota: QuotaName, _ value: UInt32) {
        accounts.limits[quota] = value
        // Whom it refuses what from now on shows it.
        tree.generation += 1
        domainsGeneration = tree.generation
        if sessions.isRecording { sessions.quota(quota, value) }
        configuration.quotas[quota] = value
    }

    func quotaName(_ text: Bytes) throws(ErrorName) -> QuotaName {
        guard let quota = text.withSpan({ QuotaName(name: $0) }) else { throw .inval }
        return quota
    }
}
