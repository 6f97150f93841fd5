// Watches: setting them, and telling of changes (specification, section D).

import XenStoreTypes

/// The permission lists that decide who may hear of a change: the node's after and before it, and its
/// parent's.
struct ChangeVisibility {
    var after: PermissionsID = 0
    var before: PermissionsID = 0
    var parent: PermissionsID = 0

    init(after: PermissionsID = 0, before: PermissionsID = 0, _ node: NodeID, _ tree: Tree) {
        self.after = after
        self.before = before
        let parent = tree.nodes[node].parent
        if parent != 0 { self.parent = tree.nodes[parent].permissions }
    }
}

extension Server {
    /// Tells everybody who watches that something happened at `path`. `isExact`: only those who watch just
    /// this path.
    func fire(_ path: ParsedPath, _ visibility: ChangeVisibility, isExact: Bool) {
        if watches.isEmpty { return }
        var level = isExact ? path.depth : path.isSpecial ? 1 : 0
        while level <= path.depth {
            let place = watches.place(path, level)
            if place != 0 { fire(place, path, below: path.depth - level, visibility) }
            level += 1
        }
    }

    /// Tells those who watch one place of a change so many levels below it.
    private func fire(_ place: UInt32, _ path: ParsedPath, below: Int, _ visibility: ChangeVisibility) {
        var watch = watches.places[place].first
        while watch != 0 {
            let depth = watches.table[watch].depth
            if depth == Watch.unlimited || below <= Int(depth) {
                if let connection = connections[Int(watches.table[watch].connection)],
                    mayHear(connection, path, visibility)
                {
                    let home = Int(watches.table[watch].homeCount)
                    path.withText {
                        queue(
                            connection, watch, $0.dropFirst(home), path.hash(at: path.depth),
                            showing: tree.generation)
                    }
                }
            }
            watch = watches.table[watch].nextOnPath
        }
    }

    private func mayHear(
        _ connection: Connection, _ path: ParsedPath, _ visibility: ChangeVisibility
    ) -> Bool {
        if policies.isAsked(PolicyOperation.event) {
            let before = visibility.before != 0 ? visibility.before : visibility.after
            switch hears(connection, path, path.depth, before) {
            case .deny: return false
            case .grant: return true
            case .abstain, .postpone: break
            }
        }
        return maySee(connection, visibility)
    }

    /// The filter of XSA-115: the node or its parent may be read, or could be before the change.
    private func maySee(_ connection: Connection, _ visibility: ChangeVisibility) -> Bool {
        if connection.isPrivileged { return true }
        return mayRead(connection, visibility.after) || mayRead(connection, visibility.before)
            || mayRead(connection, visibility.parent)
    }

    private func mayRead(_ connection: Connection, _ list: PermissionsID) -> Bool {
        list != 0 && rights(connection, list).contains(.read)
    }

    /// Queues one event, as far as the connection's room allows.
    /// `generation`: what it shows.
    func queue(
        _ connection: Connection, _ watch: WatchID, _ path: Bytes, _ pathHash: UInt64,
        showing generation: UInt64
    ) {
        if connection.isBroken || isOverEvents(connection, path.count) { return }
        let isSpecial = path.count > 0 && path[0] == 0x40
        // Equal events may come of different watches: the token and the path's form and text are all that
        // counts.
        let home = UInt64(watches.table[watch].homeCount)
        let key = isSpecial ? nil : hash(pathHash &+ home, watches.token(watch))
        if connection.unsentCount == 0 { connection.unreadSince = now }
        let start = connection.outputEnd
        if !connection.queueEvent(path: path, token: watches.token(watch), key: key) { return }
        bar(connection, from: start, generation)
        if connection.isSocket && connection.unsentCount > configuration.socketOutputMax {
            breakOff(connection, "too much that is not read")
        }
        recharge(connection)
        list(connection)
        if configuration.tracing.contains(.io) { traceEvent(connection, path, watches.token(watch)) }
    }

    /// Whether an unprivileged ring loses this event: it is over its memory quota or has not read for 20 s.
    private func isOverEvents(_ connection: Connection, _ size: Int) -> Bool {
        if connection.isSocket || connection.isPrivileged || connection.unsentCount == 0 { return false }
        let limit = accounts.limit(connection.account, .memory)
        let used = accounts.table[connection.account].memory.now
        let isOver = limit != 0 && used + size > Int(limit) || isMemoryScarce(connection)
        // What waits for the store is not the reader's fault.
        let isLate =
            connection.barrier <= commits.final
            && now - connection.unreadSince >= configuration.unreadMax
        if !isOver && !isLate { return false }
        lostEvents += 1
        connection.lostEvents += 1
        if connection.lostEvents & (connection.lostEvents - 1) == 0 {
            var line = Line("events lost that ")
            line.add(subject: connection.subject)
            line.add(" does not read, so far: ")
            line.add(connection.lostEvents)
            log(.warning, line)
        }
        return true
    }

    // MARK: Requests

    func watch(_ request: Request) throws(ErrorName) {
        let connection = request.connection
        let strings = try arguments(request, 2, 3)
        var depth = Watch.unlimited
        if strings.count == 3 {
            guard let number = strings[2].decimal else { throw .inval }
            if accounts.table[connection.account].features & Self.featureWatchDepth == 0 { throw .inval }
            depth = UInt16(exactly: number) ?? Watch.unlimited
        }
        try parse(strings[0], connection, allowSpecial: true)
        let token = strings[1]
        try consultWatch(request, token)
        if watches.find(connection.id, path, token) != 0 { throw .exist }
        if !connection.isPrivileged {
            try checkCount(connection, .watches, accounts.table[connection.account].watches.now + 1)
            try checkMemory(connection, adding: MemoryLayout<Watch>.stride + token.count + path.text.count)
        }
        let watch = watches.insert(
            connection.id, path, token, depth: depth, first: &connection.firstWatch)
        accounts.count(connection.account, .watches, 1)
        accounts.count(connection.account, .memory, watches.cost(watch))
        warnOfUse(connection.account, .watches)
        recordWatch(.watch, watch, of: connection)
        traceLife("CREATE", "watch", watch)
        replyOK(request)
        path.withText {
            queue(
                connection, watch, $0.dropFirst(path.homeCount), path.hash(at: path.depth), showing: 0)
        }
    }

    func unwatch(_ request: Request) throws(ErrorName) {
        let connection = request.connection
        let strings = try arguments(request, 2, 2)
        try parse(strings[0], connection, allowSpecial: true)
        try consultWatch(request, strings[1])
        let watch = watches.find(connection.id, path, strings[1])
        if watch == 0 { throw .noent }
        drop(watch, of: connection)
        replyOK(request)
    }

    func resetWatches(_ request: Request) {
        dropWatches(of: request.connection)
        dropTransactions(of: request.connection)
        replyOK(request)
    }

    private func drop(_ watch: WatchID, of connection: Connection) {
        accounts.count(connection.account, .watches, -1)
        accounts.count(connection.account, .memory, -watches.cost(watch))
        traceLife("DESTROY", "watch", watch)
        recordWatch(.unwatch, watch, of: connection)
        watches.remove(watch, first: &connection.firstWatch)
    }

    func dropWatches(of connection: Connection) {
        while connection.firstWatch != 0 { drop(connection.firstWatch, of: connection) }
    }
}
