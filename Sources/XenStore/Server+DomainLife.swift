// Domains: introduced, shut down, dead (specification, section B).
//
// A domain has an account from when it first owns or does something. It is introduced while the account has a
// ring, which is a connection that the server makes itself. When the domain ends, all that was its own goes:
// watches first, so that it hears nothing of its own end, then transactions and the connection, the nodes
// that it owns with all below them, its place in others' permission lists and as a target, its account. That
// costs what it had, not what there is.
//
// A domain is told from a later one of the same number by its identity: whatever was noted of the first is
// not the second's (XSA-322).

import XenStoreTypes

extension Server {
    /// Maps a domain's ring and listens to it, or, for one that is introduced already, resets the ring and
    /// listens anew.
    ///
    /// Throws EINVAL if there is no such domain, and what `World` throws where mapping or binding fails. A
    /// domain that was not introduced before is not then; one that was stays, deactivated.
    public func introduce(_ domain: DomainID, gfn: UInt64, port: UInt32) throws(ErrorName) {
        defer { finish() }
        try attach(domain, gfn: gfn, port: port)
    }

    /// As `introduce`, within another input.
    func attach(_ domain: DomainID, gfn: UInt64, port: UInt32) throws(ErrorName) {
        if !exists(domain, noting: true) { throw .inval }
        let account = accounts.account(of: domain)
        noteChange(account)
        let features = accounts.table[account].features
        if let ring = accounts.table[account].ring {
            let connection = self[ring]
            reset(connection)
            connection.isBroken = true
            try world.reattach(domain, port: port, features: features)
            connection.isBroken = false
            accounts.table[account].port = port
            return
        }
        let connection = connect(.domain(domain), isSocket: false)
        self[connection].wait(for: tree.generation)
        do throws(ErrorName) {
            try world.attach(domain, connection: connection, gfn: gfn, port: port, features: features)
        } catch {
            drop(self[connection])
            throw error
        }
        accounts.table[account].gfn = gfn
        accounts.table[account].port = port
        accounts.table[account].isShutdown = accounts.table[account].identity?.isShutdown ?? false
        fireSpecial(introduceNode, domain)
    }

    /// Looks at every domain that is known: something has happened to one of them (VIRQ_DOM_EXC).
    public func domainsChanged() {
        // Ending one takes its account out of the list.
        for account in accounts.all where !accounts.table[account].isUser {
            if accounts.table[account].isEverlasting { continue }
            let domain = DomainID(UInt16(truncatingIfNeeded: accounts.table[account].number))
            let state = world.domain(domain)
            if hasEnded(account, state) {
                endDomain(account)
                continue
            }
            accounts.table[account].identity = state
            if state?.isShutdown == true && !accounts.table[account].isShutdown {
                accounts.table[account].isShutdown = true
                noteChange(account)
                if accounts.table[account].ring != nil { fireSpecial(releaseNode, domain) }
            }
        }
        finish()
    }

    /// Whether the domain of this account is dead, gone, or another one by now.
    private func hasEnded(_ account: AccountID, _ state: DomainIdentity?) -> Bool {
        if accounts.table[account].isEverlasting { return false }
        guard let state, !state.isDying else { return true }
        guard let known = accounts.table[account].identity else { return false }
        return known.uniqueID != state.uniqueID
    }

    /// Whether there is such a domain now: one that is dying is none any more. If the one that is known has
    /// ended unnoticed, its end comes here, before anything can be said of the next one of its number
    /// (XSA-322) - unless it is the domain that asks, for which there is then none. `noting`: something is
    /// about to be noted of the domain, and it is remembered which one it is.
    func exists(_ domain: DomainID, for asking: AccountID = 0, noting: Bool) -> Bool {
        if isEverlasting(domain) { return true }
        let state = world.domain(domain)
        if !world.hasHypervisor { return state != nil }
        if let account = accounts.known(domain), hasEnded(account, state) {
            if account == asking { return false }
            endDomain(account)
        }
        guard let state, !state.isDying else { return false }
        if noting { identify(accounts.account(of: domain), state) }
        return true
    }

    private func identify(_ account: AccountID, _ state: DomainIdentity) {
        if accounts.table[account].identity?.uniqueID != state.uniqueID { note(account) }
        accounts.table[account].identity = state
    }

    /// All that was the domain's own goes. `wasIntroduced`: its end is told, whether it has a ring or not.
    func endDomain(_ account: AccountID, wasIntroduced: Bool = false) {
        let domain = DomainID(UInt16(truncatingIfNeeded: accounts.table[account].number))
        let ring = accounts.table[account].ring
        if let ring {
            drop(self[ring], isEnd: true)
            world.detach(domain)
        }
        // It changes nodes without asking who has reserved them.
        if transactions.holder != 0 { endReservation() }
        tree.generation += 1
        domainsGeneration = tree.generation
        giveRootAway(account)
        removeOwned(account)
        permissions.ignore(domain)
        if ring != nil { endTargets(account) }
        recordEnd(of: domain)
        noteEnd(account)
        for policy in policies.all { policy.ended(domain) }
        accounts.close(account)
        if ring != nil || wasIntroduced { fireSpecial(releaseNode, domain) }
    }

    /// The root cannot go with its owner: it falls to the control domain.
    private func giveRootAway(_ account: AccountID) {
        if owner(tree.root) != account { return }
        var list = permissions.entries(tree.nodes[tree.root].permissions)
        list[0].domain = configuration.privilegedDomain
        list[0].ignored = false
        eventPath.load(canonical: Bytes("/"))
        set(tree.root, eventPath, permissions: permissions.intern(list))
    }

    /// Removes the nodes that the domain owns. Of several above each other the topmost goes, and the others
    /// with it.
    private func removeOwned(_ account: AccountID) {
        while accounts.table[account].firstOwned != 0 {
            var top = accounts.table[account].firstOwned
            var node = tree.nodes[top].parent
            while node != 0 {
                if owner(node) == account { top = node }
                node = tree.nodes[node].parent
            }
            removeLive(top)
        }
    }

    // MARK: A ring's connection

    /// The guest has asked for a new beginning, and the host has reset the ring: watches, transactions and
    /// buffers go.
    public func reconnect(_ id: ConnectionID) {
        let connection = self[id]
        reset(connection)
        connection.isBroken = false
        note(connection.account)
        list(connection)
        finish()
    }

    /// The guest has broken its ring: watches, transactions and buffers go, and nothing is carried out or
    /// sent until it reconnects or is introduced anew. The domain stays, so that its end is told when it
    /// comes (XSA-325).
    public func deactivate(_ id: ConnectionID) {
        breakOff(self[id], "a ring whose indexes are wrong")
        finish()
    }

    /// The connection as it was when it was made.
    func reset(_ connection: Connection) {
        dropWatches(of: connection)
        dropTransactions(of: connection)
        accounts.count(connection.account, .outstanding, -connection.replyEnds.count)
        connection.clear()
        recordReset(connection)
        connection.unreadSince = now
        connection.conflicts = 0
        reservation.held.removeAll { $0 == connection.id }
        postponed.removeAll { $0.id == connection.id }
        recharge(connection)
    }

    // MARK: Special events

    /// Tells those who watch a special node that something has happened to a domain: a watch of any depth
    /// gets the node's name; one with a depth of 1 or more, or on the domain's own path below, gets that
    /// path.
    func fireSpecial(_ node: NodeID, _ domain: DomainID) {
        if watches.isEmpty { return }
        scratch.removeAll(keepingCapacity: true)
        tree.appendPath(node, to: &scratch)
        scratch.append(0x2F)
        scratch.append(decimal: UInt64(domain.rawValue))
        scratch.withBytes { eventPath.load(canonical: $0) }
        let list = tree.nodes[node].permissions
        for level in 1...2 {
            let place = watches.place(eventPath, level)
            if place != 0 { fireSpecial(place, level, list) }
        }
    }

    private func mayHearSpecial(_ connection: Connection, _ level: Int, _ list: PermissionsID) -> Bool {
        if policies.isAsked(PolicyOperation.event) {
            switch hears(connection, eventPath, level, list) {
            case .deny: return false
            case .grant: return true
            case .abstain, .postpone: break
            }
        }
        return rights(connection, list).contains(.read)
    }

    private func fireSpecial(_ place: UInt32, _ level: Int, _ list: PermissionsID) {
        var watch = watches.places[place].first
        while watch != 0 {
            let next = watches.table[watch].nextOnPath
            if let connection = connections[Int(watches.table[watch].connection)],
                mayHearSpecial(connection, level, list)
            {
                let depth = watches.table[watch].depth
                let isNamed = level == 2 || depth != Watch.unlimited && depth > 0
                eventPath.withPrefix(isNamed ? 2 : 1) {
                    queue(connection, watch, $0, 0, showing: tree.generation)
                }
            }
            watch = next
        }
    }
}
