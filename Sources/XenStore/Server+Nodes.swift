// The requests about nodes (specification, section A).
//
// Each goes the same way: the path is parsed, the nearest existing node found in the request's view,
// permission checked, what was looked at noted in the transaction, then quotas checked; and only then is
// anything changed.

import XenStoreTypes

extension Server {
    /// Finds the path of the request in its view, checks the right, and notes in the transaction that it was
    /// looked at.
    ///
    /// Throws EACCES; and ENOSPC where that is more nodes than the transaction may touch. Neither leaves a
    /// note: whether the transaction commits must not tell what happens to a node that the client may not
    /// see.
    private func look(
        _ request: Request, _ right: Rights, _ seen: Entry.Seen, _ intention: Intention = Intention()
    ) throws(ErrorName) -> (place: Place, level: Int) {
        let view = request.view
        var found = transactions.nearest(view, path)
        // That something is absent is what the list of children says that it would be in.
        show(view, found.place.node, list: found.level < path.depth || seen.contains(.children))
        if try consult(request, found, right, intention) {
            yieldReservation(request)
        } else {
            try check(request, found, right)
        }
        if view == 0 { return found }
        if isOverTouched(request, found, to: min(found.level + 1, path.depth)) {
            throw refused(request.connection, .transactionNodes)
        }
        transactions.note(view, path, found, seen)
        // Looking may have made the entry by which the place is known.
        if found.place.entry == 0 { found.place.entry = transactions.entry(view, path, found.level) }
        return found
    }

    /// Whether touching the path below `found`, down to the level `last`, would be more nodes than the
    /// transaction may touch; or `found` itself where that is all of the path.
    private func isOverTouched(_ request: Request, _ found: (place: Place, level: Int), to last: Int) -> Bool
    {
        let connection = request.connection
        if connection.isPrivileged { return false }
        let limit = accounts.limit(connection.account, .transactionNodes)
        let touched = transactions.table[request.view].touched
        let newly = transactions.newlyTouched(request.view, path, found, to: last)
        accounts.note(.transactionNodes, touched + newly)
        return limit != 0 && newly > 0 && touched + newly > Int(limit)
    }

    /// Finds the path and checks the right; throws ENOENT where there is no such node.
    private func existing(
        _ request: Request, _ right: Rights, _ seen: Entry.Seen, _ intention: Intention = Intention()
    ) throws(ErrorName) -> Place {
        let found = try look(request, right, seen, intention)
        if found.level < path.depth { throw .noent }
        return found.place
    }

    // MARK: Looking

    func read(_ request: Request) throws(ErrorName) {
        try parse(argument(request), request.connection)
        let place = try existing(request, .read, .node)
        let value = transactions.state(request.view, place).value
        reply(request) { $0.append(value) }
    }

    func directory(_ request: Request) throws(ErrorName) {
        try parse(argument(request), request.connection)
        let place = try existing(request, .read, [.children, .anchor])
        let start = request.connection.beginReply(request.header)
        let connection = request.connection
        let isFiltered = policies.isAsked(PolicyOperation.listChild)
        transactions.forEachChild(request.view, place) { child, name in
            if isFiltered && !isListed(child, name, request) { return true }
            connection.append(name)
            connection.append(byte: 0)
            return connection.payloadCount(start) <= MessageHeader.payloadMax
        }
        if connection.payloadCount(start) > MessageHeader.payloadMax {
            connection.cancelReply(start)
            throw .toobig
        }
        endReply(request, start)
    }

    /// One chunk of the list of children: the generation of the list, then whole names from the byte `offset`
    /// on.
    func directoryPart(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 2, 2)
        guard let offset = strings[1].decimal else { throw .inval }
        try parse(strings[0], request.connection)
        let place = try existing(request, .read, [.children, .anchor])
        let connection = request.connection
        let start = connection.beginReply(request.header)
        // A list that policies filter is another after they have been replaced.
        let reloads = policies.isAsked(PolicyOperation.listChild) ? policies.reloads << 44 : 0
        connection.append(decimal: listGeneration(request.view, place) ^ reloads)
        connection.append(byte: 0)
        var position = 0
        var isWhole = true
        let isFiltered = policies.isAsked(PolicyOperation.listChild)
        transactions.forEachChild(request.view, place) { child, name in
            if isFiltered && !isListed(child, name, request) { return true }
            let begin = position
            position += name.count + 1
            if position <= Int(offset) { return true }
            // An offset within a name is the client's mistake: it gets the rest of that name.
            let rest = name.dropFirst(max(Int(offset) - begin, 0))
            if connection.payloadCount(start) + rest.count + 1 > MessageHeader.payloadMax {
                isWhole = false
                return false
            }
            connection.append(rest)
            connection.append(byte: 0)
            return true
        }
        // The last chunk says so by one more NUL, for which there must be room; else it comes in a chunk of
        // its own.
        if isWhole && connection.payloadCount(start) < MessageHeader.payloadMax { connection.append(byte: 0) }
        endReply(request, start)
    }

    /// A number that is another whenever the list of children is another.
    private func listGeneration(_ view: TransactionID, _ place: Place) -> UInt64 {
        if view == 0 { return tree.nodes[place.node].childrenChanged }
        let transaction = transactions.table[view]
        if transaction.sequence > 0 { return 1 << 62 | transaction.sequence }
        return min(tree.nodes[place.node].childrenChanged, transaction.generation)
    }

    func getPermissions(_ request: Request) throws(ErrorName) {
        try parse(argument(request), request.connection, allowSpecial: true)
        let place = try existing(request, .read, .node)
        let list = transactions.state(request.view, place).permissions
        let connection = request.connection
        let start = connection.beginReply(request.header)
        for position in 0..<permissions.count(list) {
            let entry = permissions.entry(list, position)
            connection.append(byte: entry.mode.letter)
            connection.append(decimal: UInt64(entry.domain.rawValue))
            connection.append(byte: 0)
        }
        if connection.payloadCount(start) > MessageHeader.payloadMax {
            connection.cancelReply(start)
            throw .toobig
        }
        endReply(request, start)
    }

    // MARK: Changing

    func write(_ request: Request) throws(ErrorName) {
        guard let end = request.payload.firstIndex(of: 0) else { throw .inval }
        try parse(request.payload.slice(0, end), request.connection)
        try put(request, request.payload.dropFirst(end + 1), replacing: true)
        replyOK(request)
    }

    func makeDirectory(_ request: Request) throws(ErrorName) {
        try parse(argument(request), request.connection)
        try put(request, .empty, replacing: false)
        replyOK(request)
    }

    /// Gives the path a value, creating what is missing. `replacing`: a node that exists gets the value; else
    /// it stays.
    private func put(_ request: Request, _ value: Bytes, replacing: Bool) throws(ErrorName) {
        let connection = request.connection
        let found = try look(request, .write, .node, Intention(value: value))
        if found.level == path.depth && !replacing { return }
        try checkQuotas(request, found, value)
        if request.view == 0 {
            let count = permissions.count(tree.nodes[found.place.node].permissions)
            let nodes = max(path.depth - found.level, 1)
            try checkRoom(nodes: nodes, bytes: nodes * 4 * count + value.count)
        }
        if request.isDiscarded { return }
        let view = request.view
        if view == 0 { tree.generation += 1 }
        switch (found.level == path.depth, view) {
        case (true, 0): set(found.place.node, path, value: value)
        case (true, _): transactions.setValue(view, path, found.place, value)
        case (false, 0): createLive(below: found, value, by: connection)
        case (false, _): transactions.create(view, path, found, value, creator: connection.creatingDomain)
        }
    }

    /// The quotas that a write has to keep.
    private func checkQuotas(
        _ request: Request, _ found: (place: Place, level: Int), _ value: Bytes
    ) throws(ErrorName) {
        let connection = request.connection
        if connection.isPrivileged { return }
        let size = accounts.limit(connection.account, .nodeSize)
        accounts.note(.nodeSize, value.count)
        if size != 0 && value.count > Int(size) { throw refused(connection, .nodeSize) }
        let created = path.depth - found.level
        var bytes = value.count
        if created > 0 {
            if request.view != 0 && isOverTouched(request, found, to: path.depth) {
                throw refused(connection, .transactionNodes)
            }
            let delta = request.view == 0 ? 0 : transactions.table[request.view].nodesDelta
            try checkNodes(connection, adding: created + delta)
            bytes += created * Self.nodeCost(name: 0, value: 0) + path.text.count
        } else if request.view == 0 {
            bytes -= Int(tree.nodes[found.place.node].valueCount)
        } else {
            // The transaction keeps the value beside the node's until it ends.
            bytes -= Int(transactions.entries[found.place.entry].valueCount)
        }
        try checkMemory(connection, adding: bytes)
    }

    func remove(_ request: Request) throws(ErrorName) {
        try parse(argument(request), request.connection)
        if path.depth == 0 { throw .inval }
        let found = try look(request, .write, .node)
        if found.level < path.depth {
            // Absent is as good as removed, if only its parent is there.
            if found.level < path.depth - 1 { throw .noent }
            return replyOK(request)
        }
        if !request.isDiscarded {
            if request.view != 0 {
                removeInTransaction(request, found.place)
            } else {
                tree.generation += 1
                removeLive(found.place.node)
            }
        }
        replyOK(request)
    }

    private func removeInTransaction(_ request: Request, _ place: Place) {
        let view = request.view
        let connection = request.connection
        if !connection.isPrivileged {
            transactions.table[view].nodesDelta -= transactions.count(view, place) { place in
                isPaid(place, view, by: connection)
            }
        }
        transactions.remove(view, path, place)
    }

    /// Whether a node that the transaction sees is counted as the connection's, or would be once it commits.
    private func isPaid(_ place: Place, _ view: TransactionID, by connection: Connection) -> Bool {
        // What the transaction itself has created.
        if place.entry != 0 && transactions.entries[place.entry].state == .created { return true }
        let user = userNodes.user(of: place.node)
        if user != 0 { return user == connection.account }
        guard let owner = connection.creatingDomain else { return false }
        return permissions.owner(transactions.state(view, place).permissions) == owner
    }

    func setPermissions(_ request: Request) throws(ErrorName) {
        let connection = request.connection
        let strings = try permissionStrings(request)
        let list = try permissionList(connection, strings.dropFirst())
        try parse(strings[0], connection, allowSpecial: true)
        let interned = permissions.intern(list)
        defer { permissions.release(interned) }
        let place = try existing(request, .owner, .node, Intention(after: interned))
        let state = transactions.state(request.view, place)
        if !connection.isPrivileged && list[0].domain != permissions.owner(state.permissions) { throw .perm }
        if request.view == 0 { try checkRoom(nodes: 1, bytes: 4 * list.count + state.value.count) }
        if !request.isDiscarded {
            permissions.retain(interned)
            if request.view != 0 {
                transactions.setPermissions(request.view, path, place, interned)
            } else {
                tree.generation += 1
                set(place.node, path, permissions: interned)
            }
        }
        replyOK(request)
    }

    /// The path and at least one permission.
    private func permissionStrings(_ request: Request) throws(ErrorName) -> [Bytes] {
        let strings = try arguments(request, 2, Int.max)
        let connection = request.connection
        if !connection.isPrivileged {
            let limit = accounts.limit(connection.account, .nodePermissions)
            accounts.note(.nodePermissions, strings.count - 1)
            if limit != 0 && strings.count - 1 > Int(limit) {
                // The path is checked later than this; the log gets it only if it is one.
                do throws(ErrorName) {
                    try path.parse(strings[0], home: connection.home, allowSpecial: true)
                } catch {
                    path.clear()
                }
                throw refused(connection, .nodePermissions)
            }
        }
        return strings
    }

    /// The list that these strings write. Entries for domains that do not exist are marked ignored; an owner
    /// that does not exist is ENOENT.
    private func permissionList(
        _ connection: Connection, _ strings: ArraySlice<Bytes>
    ) throws(ErrorName) -> [Permission] {
        var list: [Permission] = []
        list.reserveCapacity(strings.count)
        for string in strings {
            guard string.count >= 2, let mode = AccessMode(letter: string[0]) else { throw .inval }
            list.append(Permission(mode, try domainID(string.dropFirst(1))))
        }
        if !exists(list[0].domain, for: connection.account, noting: true) { throw .noent }
        let features = accounts.table[connection.account].features
        for position in list.indices.dropFirst() {
            let domain = list[position].domain
            let isAny = domain == .any && features & Self.featureAnyDomain != 0
            list[position].ignored = !isAny && !exists(domain, for: connection.account, noting: true)
        }
        return list
    }
}
