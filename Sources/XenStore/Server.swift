// The server: bytes of connections in, bytes for connections out (specification, sections A, C, D, E, F).
//
// It does no I/O, knows no clock and no randomness: bytes, the time and the seed are handed to it, and what
// it must know of the world at once it asks its `World`. Equal inputs in equal order give equal outputs.
//
// Invariants (`checkInvariants` checks them all, with those of the parts):
// - Accounts count exactly the nodes, watches, transactions and bytes that there are.
// - Every transaction and watch belongs to a connection that lists it.
// - A connection that waits for a reservation is in `held`; there are none when nobody has a reservation.
// - A request is carried out as a whole or not at all, and every request gets one reply, in the order of
//   requests.

import XenStoreTypes

public struct ServerConfiguration: Sendable {
    /// Limits for unprivileged domains.
    public var quotas = QuotaLimits()
    /// The daemon's own domain, for which its sockets speak.
    public var domain = DomainID.zero
    /// The control domain.
    public var privilegedDomain = DomainID.zero
    /// Key of the hash of paths. Must be random and unknown to guests.
    public var hashSeed: (UInt64, UInt64) = (0, 0)
    /// Bytes of older versions that open transactions may keep; past it the oldest transactions are doomed.
    public var snapshotMemory = 64 << 20
    /// Unsent bytes past which a socket is closed.
    public var socketOutputMax = 16 << 20
    /// How long an unprivileged ring may leave its events unread before it loses new ones, in nanoseconds.
    public var unreadMax: UInt64 = 20_000_000_000
    public var tracing: TraceSwitches = []
    /// Where the backend takes nothing any more: go on in memory, and promise nothing until it has caught up,
    /// rather than refuse what would make the store grow.
    public var continuesInMemory = false

    public init() {}
}

/// One request, as it stands in a connection's input.
struct Request {
    let connection: Connection
    let header: MessageHeader
    let payload: Bytes
    /// The transaction that the request belongs to; 0: none.
    var transaction: TransactionID
    /// The view in which it looks: the transaction, or 0, the live tree, if there is none or it is doomed.
    var view: TransactionID
    /// What it changes is thrown away, for its transaction is doomed.
    var isDiscarded: Bool
}

public final class Server {
    @exclusivity(unchecked) public internal(set) var configuration: ServerConfiguration
    let world: World
    let hash: KeyedHash
    let bytes: ByteStore
    let permissions: PermissionLists
    let tree: Tree
    let transactions: Transactions
    let watches: Watches
    let accounts: Accounts
    let userNodes = UserNodes()
    @exclusivity(unchecked) var connections: [Connection?] = []
    private var freeConnections: [UInt32] = []
    @exclusivity(unchecked) private var changed = ReusedList<UInt32>()
    @exclusivity(unchecked) private var changedNext = 0
    @exclusivity(unchecked) var now: UInt64 = 0
    /// The path of the request at hand, and that of a change that is not the request's own path.
    let path: ParsedPath
    let eventPath: ParsedPath
    @exclusivity(unchecked) var reservation = Reservation()
    /// The special nodes.
    private(set) var introduceNode: NodeID = 0
    private(set) var releaseNode: NodeID = 0
    /// Scratch for what a request collects.
    var scratch: [UInt8] = []
    let commits: Commits
    let sessions = Sessions()
    let policies = Policies()
    /// Connections whose next request a policy has put off, and until when.
    var postponed: [(id: UInt32, at: UInt64)] = []
    /// No later than the first of them; the largest number if there are none.
    var nextPostponed = UInt64.max
    /// Only while the tree is being recovered.
    var recovery: Recovery?
    /// The tree's generation when the request at hand began, and the newest that it has looked at.
    @exclusivity(unchecked) var requestGeneration: UInt64 = 0
    @exclusivity(unchecked) var shown: UInt64 = 0
    /// The newest change of what is known of a domain.
    var domainsGeneration: UInt64 = 0
    /// The host's memory is bounded; requests that were refused for it, and when the log was last told.
    let isMemoryBounded: Bool
    var memoryRefusals = 0
    var memoryRefusalLogged: UInt64?
    /// Events that unprivileged connections lost, since the start.
    var lostEvents = 0

    /// Unsent bytes past which a connection's requests wait.
    static let outputMark = 65536

    /// A server whose tree has the first nodes only. With a backend, `recover` has to be called before
    /// anything else.
    public init(_ configuration: ServerConfiguration, world: World, backend: Backend? = nil) {
        self.configuration = configuration
        self.world = world
        isMemoryBounded = world.isMemoryBounded
        commits = Commits(backend)
        hash = KeyedHash(seed: configuration.hashSeed)
        bytes = ByteStore()
        permissions = PermissionLists(bytes, hash)
        path = ParsedPath(hash)
        eventPath = ParsedPath(hash)
        let control = [Permission(.none, configuration.privilegedDomain)]
        tree = Tree(bytes, permissions, rootHash: path.rootHash, rootPermissions: control)
        transactions = Transactions(tree, hash)
        watches = Watches(bytes, hash)
        accounts = Accounts(
            configuration.quotas, everlasting: [configuration.domain, configuration.privilegedDomain])
        let owner = accounts.account(of: configuration.privilegedDomain)
        accounts.count(owner, .nodes, 1)
        accounts.count(owner, .memory, Self.nodeCost(name: 0, value: 0))
        createFirstNodes(control)
    }

    deinit {
        bytes.destroy()
        userNodes.destroy()
    }

    /// `/tool/xenstored` and the special nodes (specification, section A, "Nodes at start").
    private func createFirstNodes(_ control: [Permission]) {
        path.load(canonical: Bytes("/tool/xenstored"))
        let list = permissions.intern(control)
        let tool = path.withName(1) { create(parent: tree.root, $0, path.hash(at: 1), .empty, list) }
        permissions.retain(list)
        _ = path.withName(2) { create(parent: tool, $0, path.hash(at: 2), .empty, list) }
        permissions.retain(list)
        introduceNode = createSpecial(Bytes("@introduceDomain"), list)
        releaseNode = createSpecial(
            Bytes("@releaseDomain"), permissions.intern(control + [Permission(.read, .any)]))
    }

    private func createSpecial(_ name: Bytes, _ list: PermissionsID) -> NodeID {
        path.load(canonical: name)
        return tree.create(parent: 0, name: name, hash: path.hash(at: 1), value: .empty, permissions: list)
    }

    public var nodeCount: Int { tree.liveCount }

    // MARK: Connections

    /// A peer has connected. `isSocket`: too much unsent closes it, rather than making it lose events.
    public func connect(
        _ subject: Subject, readOnly: Bool = false, isSocket: Bool = true, peer: SocketPeer = SocketPeer()
    ) -> ConnectionID {
        let id = freeConnections.popLast() ?? UInt32(connections.count)
        if Int(id) == connections.count { connections.append(nil) }
        var home = configuration.domain
        var isPrivileged = false
        if case .domain(let domain) = subject {
            isPrivileged =
                domain == configuration.privilegedDomain || (isSocket && domain == configuration.domain)
            home = domain
        }
        let connection = Connection(
            id: id, account: accounts.account(of: subject), subject: subject, isPrivileged: isPrivileged,
            isReadOnly: readOnly, isSocket: isSocket, home: home, peer: peer)
        connection.unreadSince = now
        connections[Int(id)] = connection
        if !isSocket {
            accounts.table[connection.account].ring = ConnectionID(rawValue: id)
            if accounts.table[connection.account].identity == nil {
                accounts.table[connection.account].identity = world.domain(home)
            }
            note(connection.account)
        }
        traceLife("CREATE", "connection", connection.id)
        return ConnectionID(rawValue: id)
    }

    /// The peer is gone: its watches, transactions and buffers go. The id may be given to another from now
    /// on.
    public func disconnect(_ id: ConnectionID) {
        drop(self[id])
        finish()
    }

    /// As `disconnect`, within another input: nobody who waited goes on yet. `isEnd`: the connection's domain
    /// ends, and stays a target until its nodes are gone, so that its device model hears of them.
    func drop(_ connection: Connection, isEnd: Bool = false) {
        dropWatches(of: connection)
        dropTransactions(of: connection)
        leaveRing(connection, isEnd)
        accounts.count(connection.account, .outstanding, -connection.replyEnds.count)
        accounts.count(connection.account, .memory, -connection.charged)
        reservation.held.removeAll { $0 == connection.id }
        postponed.removeAll { $0.id == connection.id }
        traceLife("DESTROY", "connection", connection.id)
        connections[Int(connection.id)] = nil
        freeConnections.append(connection.id)
    }

    /// A domain whose ring has gone is introduced no more: it has no target, and is nobody's. The next domain
    /// of its id is another.
    private func leaveRing(_ connection: Connection, _ isEnd: Bool) {
        let account = connection.account
        if accounts.table[account].ring?.rawValue != connection.id { return }
        accounts.table[account].ring = nil
        accounts.table[account].target = nil
        noteChange(account)
        if !isEnd { endTargets(account) }
    }

    /// The domain of this account is nobody's target any more.
    func endTargets(_ account: AccountID) {
        for id in accounts.all {
            if let target = accounts.table[id].target, accounts.known(target) == account {
                accounts.table[id].target = nil
                noteChange(id)
            }
        }
    }

    subscript(_ id: ConnectionID) -> Connection {
        guard let connection = connections[Int(id.rawValue)] else {
            preconditionFailure("a connection that is not connected")
        }
        return connection
    }

    /// Bytes that the peer has sent, cut anywhere. Complete requests are carried out, unless the connection
    /// must wait.
    public func receive(_ id: ConnectionID, _ bytes: Span<UInt8>) {
        let connection = self[id]
        if connection.isBroken { return }
        let wanted = wantsInput(connection)
        bytes.withBytes { bytes in
            if connection.input.isEmpty {
                let used = carryOut(connection, bytes)
                if used < bytes.count { connection.input.append(bytes.dropFirst(used)) }
            } else {
                connection.input.append(bytes)
                carryOutWaiting(connection)
            }
        }
        settle(connection, wanted)
        finish()
    }

    public func wantsInput(_ id: ConnectionID) -> Bool { wantsInput(self[id]) }

    @inline(__always) private func wantsInput(_ connection: Connection) -> Bool { mayProceed(connection) }

    public func mustClose(_ id: ConnectionID) -> Bool { self[id].isBroken }

    /// Bytes that may be sent now.
    public func outputCount(_ id: ConnectionID) -> Int { self[id].sendableCount }

    // Not generic: the host could not have that compiled for what it makes of the bytes.
    /// Calls `body` with the bytes that may be sent now, in their order.
    public func withOutput(_ id: ConnectionID, _ body: (Span<UInt8>) -> Void) {
        let connection = self[id]
        connection.withUnsent(connection.sendableCount, body)
    }

    /// Bytes that are queued, those too that must not reach the peer before `isFinal`.
    public func queuedCount(_ id: ConnectionID) -> Int { self[id].unsentCount }

    /// As `withOutput`, with all that is queued.
    public func withQueued(_ id: ConnectionID, _ body: (Span<UInt8>) -> Void) {
        let connection = self[id]
        connection.withUnsent(connection.unsentCount, body)
    }

    /// The first `count` of the bytes to send have been sent.
    public func sent(_ id: ConnectionID, _ count: Int) {
        let connection = self[id]
        let wanted = wantsInput(connection)
        let replies = connection.sent(count)
        if replies > 0 { accounts.count(connection.account, .outstanding, -replies) }
        if count > 0 || connection.unsentCount == 0 { connection.unreadSince = now }
        recharge(connection)
        if !connection.input.isEmpty { carryOutWaiting(connection) }
        settle(connection, wanted)
        finish()
    }

    /// The next connection of which what is to send, `wantsInput` or `mustClose` has changed; nil: no more.
    public func nextChanged() -> ConnectionID? {
        while changedNext < changed.count {
            let id = changed[changedNext]
            changedNext += 1
            // Its number may be another's by now, which is then listed for nothing.
            if let connection = connections[Int(id)], connection.isListed {
                connection.isListed = false
                return ConnectionID(rawValue: id)
            }
        }
        changed.removeAll(keeping: 4096)
        changedNext = 0
        return nil
    }

    @inline(__always) func list(_ connection: Connection) {
        if connection.isListed { return }
        connection.isListed = true
        changed.append(connection.id)
    }

    private func settle(_ connection: Connection, _ wanted: Bool) {
        recharge(connection)
        if wantsInput(connection) != wanted || connection.isBroken { list(connection) }
    }

    /// Keeps the domain's account up with the bytes in the connection's buffers.
    @inline(__always) func recharge(_ connection: Connection) {
        let held = connection.unsentCount + connection.input.count
        if held == connection.charged { return }
        accounts.count(connection.account, .memory, held - connection.charged)
        connection.charged = held
    }

    // MARK: Time

    /// The time, in nanoseconds of a clock that never goes back.
    public func advance(to now: UInt64) {
        self.now = max(self.now, now)
        if transactions.holder != 0 && self.now >= reservation.deadline { endReservation() }
        releasePostponed()
        finish()
    }

    /// When `advance`, and then `commit`, must be called next, if nothing else happens before.
    public var nextDeadline: UInt64? {
        var next = UInt64.max
        if transactions.holder != 0 { next = reservation.deadline }
        if let retryAt = commits.retryAt { next = min(next, retryAt) }
        next = min(next, nextPostponed)
        return next == .max ? nil : next
    }

    /// Whether `nextChanged` has something to answer.
    public var hasChanged: Bool { changedNext < changed.count }

    // MARK: Settings

    /// Other limits for all, from now on. Limits that a domain was given for itself stay.
    public func setQuotas(_ limits: QuotaLimits) {
        for quota in QuotaName.allCases where limits[quota] != accounts.limits[quota] {
            setLimit(quota, limits[quota])
        }
        configuration.quotas = limits
        accounts.limits = limits
    }

    public func setTracing(_ switches: TraceSwitches) { configuration.tracing = switches }
}
