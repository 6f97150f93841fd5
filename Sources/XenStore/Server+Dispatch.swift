// From bytes to requests, and from requests to those who answer them (specification, section A, "Order of
// checks").

import XenStoreTypes

extension Server {
    /// Whether the connection's next request may be carried out now.
    @inline(__always) func mayProceed(_ connection: Connection) -> Bool {
        if connection.isBroken || connection.isHeld { return false }
        if connection.unsentCount >= Self.outputMark { return false }
        // No reply is outstanding where nothing is unsent.
        if connection.isPrivileged || connection.unsentCount == 0 { return true }
        return !isMemoryScarce(connection) && isWithinQuotas(connection)
    }

    /// Unread output stops an unprivileged peer's requests (specification, section E, "outstanding" and
    /// "memory").
    private func isWithinQuotas(_ connection: Connection) -> Bool {
        let outstanding = accounts.limit(connection.account, .outstanding)
        if outstanding != 0 && connection.replyEnds.count >= Int(outstanding) { return false }
        let memory = accounts.limit(connection.account, .memory)
        let used = accounts.table[connection.account].memory.now
        return memory == 0 || used <= Int(memory)
    }

    /// Carries out the complete requests at the start of `bytes`, in order, and answers how many bytes they
    /// were.
    func carryOut(_ connection: Connection, _ bytes: Bytes) -> Int {
        var used = 0
        while bytes.count - used >= MessageHeader.size && mayProceed(connection) {
            let header = MessageHeader(
                type: bytes.word(at: used), requestID: bytes.word(at: used + 4),
                transactionID: bytes.word(at: used + 8), length: bytes.word(at: used + 12))
            if header.length > UInt32(MessageHeader.payloadMax) {
                breakOff(connection, "a message longer than 4096 bytes")
                return bytes.count
            }
            let end = used + MessageHeader.size + Int(header.length)
            if end > bytes.count { break }
            if !carryOut(connection, header, bytes.slice(used + MessageHeader.size, end)) { break }
            used = end
        }
        if connection.isBroken && !connection.isSocket {
            // A ring that its own request broke off has a reply that came after that.
            reset(connection)
            return bytes.count
        }
        return used
    }

    /// Goes on with what has been received and had to wait.
    func carryOutWaiting(_ connection: Connection) {
        let waiting = connection.input
        connection.input = []
        let used = waiting.withBytes { carryOut(connection, $0) }
        if connection.isBroken { return }
        connection.input = used == 0 ? waiting : Array(waiting[used...])
    }

    /// Cuts the connection off: the host is to close it, or, if it is a ring, to let it lie.
    func breakOff(_ connection: Connection, _ reason: StaticString) {
        if connection.isBroken { return }
        if !connection.isSocket { reset(connection) }
        connection.isBroken = true
        connection.input = []
        if !connection.isSocket { note(connection.account) }
        logBreak(connection, reason)
        list(connection)
    }

    /// A guest can break its ring, and come back, as often as it likes: it gets a line at most every five
    /// seconds.
    private func logBreak(_ connection: Connection, _ reason: StaticString) {
        let account = connection.account
        accounts.table[account].breaks += 1
        let last = accounts.table[account].breakLogged
        if last != 0 && now < last + 5_000_000_000 { return }
        var line = Line(reason)
        line.add(" on connection ")
        line.add(connection.id)
        line.add(" of ")
        line.add(subject: connection.subject)
        if accounts.table[account].breaks > 1 {
            line.add(", broken since the last line ")
            line.add(accounts.table[account].breaks)
        }
        accounts.table[account].breaks = 0
        accounts.table[account].breakLogged = max(now, 1)
        log(.warning, line)
    }

    /// Carries out one request and queues its reply. False: it has to wait, and nothing has happened.
    private func carryOut(_ connection: Connection, _ header: MessageHeader, _ payload: Bytes) -> Bool {
        var request = Request(
            connection: connection, header: header, payload: payload, transaction: 0, view: 0,
            isDiscarded: false)
        if transactions.holder != 0 && mustWait(request) {
            if transactions.table[transactions.holder].connection != connection.id {
                hold(connection)
                return false
            }
            // It gets in its own transaction's way: nobody else is to wait for that.
            endReservation()
        }
        if connection.unsentCount == 0 { connection.unreadSince = now }
        requestGeneration = tree.generation
        shown = 0
        if configuration.tracing.contains(.io) { traceMessage("IN", request) }
        policies.verdict = .abstain
        policies.decider = nil
        var failure: ErrorName?
        do throws(ErrorName) {
            let type = try admit(&request)
            try checkMemoryLeft(type, request)
            let before = request.transaction == 0 ? 0 : transactions.table[request.transaction].bytes
            let transaction = request.transaction
            let request = request
            defer { if transaction != 0 { chargeTransaction(transaction, request, before) } }
            try answer(type, request)
        } catch {
            if policies.delay != 0 {
                postpone(connection)
                return false
            }
            failure = error
            replyError(request, error)
        }
        if policies.isTold(header.type) { tell(request, failure) }
        // Whether the next one may follow depends on what this one's reply takes.
        if !connection.isPrivileged { recharge(connection) }
        list(connection)
        return true
    }

    /// Type, privilege, read-only connection and transaction, in this order.
    private func admit(_ request: inout Request) throws(ErrorName) -> MessageType {
        guard let type = MessageType(rawValue: request.header.type), type.isRequest else { throw .nosys }
        let connection = request.connection
        let needsGrant = type.needsPrivilege(request.payload) && !connection.isPrivileged
        if needsGrant && !policies.isAsked(request.header.type) { throw .acces }
        if connection.isReadOnly && type.isChanging { throw .rofs }
        if commits.final != .max && type.tellsOfDomains { shown = domainsGeneration }
        try findTransaction(&request, type)
        if policies.decides != 0 {
            let isGranted = try consult(request, type)
            if needsGrant && !isGranted { throw .acces }
        }
        return type
    }

    private func findTransaction(_ request: inout Request, _ type: MessageType) throws(ErrorName) {
        let number = request.header.transactionID
        if number == 0 || type == .watch || type == .unwatch { return }
        request.transaction = transactions.find(request.connection.id, number)
        if request.transaction == 0 { throw .noent }
        request.isDiscarded = transactions.table[request.transaction].isDoomed
        request.view = request.isDiscarded ? 0 : request.transaction
        if request.transaction == transactions.holder { transactions.renew(request.transaction) }
    }

    private func answer(_ type: MessageType, _ request: Request) throws(ErrorName) {
        switch type {
        case .control: try control(request)
        case .directory: try directory(request)
        case .read: try read(request)
        case .getPermissions: try getPermissions(request)
        case .watch: try watch(request)
        case .unwatch: try unwatch(request)
        case .transactionStart: try transactionStart(request)
        case .transactionEnd: try transactionEnd(request)
        case .introduce: try introduce(request)
        case .release: try release(request)
        case .resume: try resume(request)
        case .setTarget: try setTarget(request)
        case .getDomainPath: try getDomainPath(request)
        case .write: try write(request)
        case .makeDirectory: try makeDirectory(request)
        case .remove: try remove(request)
        case .setPermissions: try setPermissions(request)
        case .isDomainIntroduced: try isDomainIntroduced(request)
        case .resetWatches: resetWatches(request)
        case .directoryPart: try directoryPart(request)
        case .getFeature: try getFeature(request)
        case .setFeature: try setFeature(request)
        case .getQuota: try getQuota(request)
        case .setQuota: try setQuota(request)
        case .watchEvent, .error, .restrict: throw .nosys
        }
    }

    // MARK: Replies

    /// Queues a reply whose payload `body` appends.
    @inline(__always) func reply(_ request: Request, _ body: (Connection) -> Void) {
        let connection = request.connection
        let start = connection.beginReply(request.header)
        body(connection)
        endReply(request, start)
    }

    @inline(__always) func endReply(_ request: Request, _ start: Int) {
        let connection = request.connection
        connection.endReply(start, isCounted: !connection.isPrivileged)
        bar(connection, from: start, shownByReply)
        if !connection.isPrivileged { accounts.count(connection.account, .outstanding, 1) }
        if configuration.tracing.contains(.io) { traceReply(request, "OK") }
    }

    @inline(__always) func replyOK(_ request: Request) {
        reply(request) {
            $0.append(Bytes("OK"))
            $0.append(byte: 0)
        }
    }

    private func replyError(_ request: Request, _ error: ErrorName) {
        var header = request.header
        header.type = MessageType.error.rawValue
        let connection = request.connection
        let start = connection.beginReply(header)
        connection.append(Bytes(error.name))
        connection.append(byte: 0)
        connection.endReply(start, isCounted: !connection.isPrivileged)
        bar(connection, from: start, shownByReply)
        if !connection.isPrivileged { accounts.count(connection.account, .outstanding, 1) }
        if configuration.tracing.contains(.io) { traceReply(request, error.name) }
    }
}

extension MessageType {
    /// Whether clients may send it at all.
    var isRequest: Bool { self != .watchEvent && self != .error && self != .restrict }

    /// The requests marked P in the specification's table.
    @inline(__always) func needsPrivilege(_ payload: Bytes) -> Bool {
        switch self {
        case .control, .introduce, .release, .isDomainIntroduced, .resume, .setTarget, .setFeature, .getQuota,
            .setQuota:
            true
        // With a domain id only.
        case .getFeature: !payload.isEmpty
        default: false
        }
    }

    /// The requests whose reply, or refusal, shows what is known of a domain.
    var tellsOfDomains: Bool {
        switch self {
        case .introduce, .release, .isDomainIntroduced, .resume, .setTarget, .getFeature, .setFeature,
            .getQuota, .setQuota:
            true
        default: false
        }
    }

    /// The requests that a read-only connection may not make.
    @inline(__always) var isChanging: Bool {
        switch self {
        case .write, .makeDirectory, .remove, .setPermissions, .control, .introduce, .release, .resume,
            .setTarget, .setFeature, .setQuota:
            true
        default: false
        }
    }
}
