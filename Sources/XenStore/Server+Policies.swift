// Where the policies are asked (design, "Policies in the order of checks").
//
// A request about a node is asked about once its path is known and before its permissions are looked at, and
// nothing of it is noted or changed until all answers are there. What is not about a node is asked about when
// it is admitted.

import XenStoreTypes

/// What a request about a node would make of it.
struct Intention {
    /// The permission list that it gets; 0: none.
    var after: PermissionsID = 0
    var value = Bytes.empty
}

extension Server {
    /// Puts other policies in the place of those that are there, between two requests.
    public func setPolicies(_ all: [Policy]) { policies.replace(all) }

    /// Requests that are not about a node, or whose node does not decide.
    private static let pathless: PolicyOperations = {
        let types: [MessageType] = [
            .control, .transactionStart, .transactionEnd, .introduce, .release, .getDomainPath,
            .isDomainIntroduced, .resume, .setTarget, .resetWatches, .getFeature, .setFeature, .getQuota,
            .setQuota,
        ]
        return types.reduce(0) { $0 | 1 << UInt64($1.rawValue) }
    }()

    // MARK: Questions

    func subject(of connection: Connection) -> PolicySubject {
        var subject = PolicySubject()
        if case .domain(let domain) = connection.subject { subject.domain = domain }
        subject.target = accounts.table[connection.account].target
        subject.isPrivileged = connection.isPrivileged
        subject.isSocket = connection.isSocket
        subject.isReadOnly = connection.isReadOnly
        subject.peer = connection.peer
        subject.connection = connection.id
        return subject
    }

    private func question(_ operation: UInt32, _ request: Request) -> PolicyQuestion {
        var question = PolicyQuestion(
            operation: operation, request: request.header.type, now: now,
            subject: subject(of: request.connection))
        question.isInTransaction = request.transaction != 0
        return question
    }

    /// Asks all policies, or `only` one, about the first `level` components of a path.
    func ask(
        _ question: PolicyQuestion, _ path: ParsedPath, _ level: Int, before: PermissionsID,
        _ intention: Intention = Intention(), only: Policy? = nil
    ) -> PolicyVerdict {
        var question = question
        policies.ends.removeAll(keepingCapacity: true)
        if level > 0 { for position in 1...level { policies.ends.append(path.components[position].end) } }
        if before != 0 { question.before = permissions.raw(before) }
        if intention.after != 0 { question.after = permissions.raw(intention.after) }
        if policies.values >> UInt64(question.operation) & 1 != 0 { question.value = intention.value.raw }
        return policies.ends.withUnsafeBufferPointer { ends in
            question.componentEnds = ends
            return path.withPrefix(level) { text in
                question.path = text.raw
                return only?.decide(question) ?? policies.ask(question)
            }
        }
    }

    /// Throws what a verdict refuses with. Answers whether it grants.
    private func heed(_ verdict: PolicyVerdict, _ request: Request) throws(ErrorName) -> Bool {
        switch verdict {
        case .abstain: return false
        case .grant:
            policies.verdict = verdict
            policies.decider = policies.lastDecider
            return true
        case .deny(let error):
            policies.verdict = verdict
            policies.decider = policies.lastDecider
            if configuration.tracing.contains(.acc) { traceDenial(request, error) }
            throw error
        case .postpone(let milliseconds):
            policies.delay = max(1, min(milliseconds, 1000))
            throw .again
        }
    }

    private func traceDenial(_ request: Request, _ error: ErrorName) {
        var line = Line("denied by policy ")
        if let decider = policies.decider { decider.name.withBytes { line.add($0) } }
        line.add(": ")
        line.add(subject: request.connection.subject)
        line.add(" type ")
        line.add(request.header.type)
        line.add(" ")
        path.withText { line.add($0) }
        world.trace(line.bytes.span)
    }

    // MARK: Requests

    /// Asks about a request that names no node. Throws what it is refused with; answers whether it is granted
    /// what needs privilege.
    func consult(_ request: Request, _ type: MessageType) throws(ErrorName) -> Bool {
        let operation = request.header.type
        guard Self.pathless >> UInt64(operation) & 1 != 0, policies.isAsked(operation) else { return false }
        path.clear()
        var question = question(operation, request)
        fillArguments(&question, request, type)
        return try heed(policies.ask(question), request)
    }

    private func fillArguments(_ question: inout PolicyQuestion, _ request: Request, _ type: MessageType) {
        var begin = 0
        while let end = request.payload.firstIndex(of: 0, from: begin), question.arguments.count < 16 {
            question.arguments.append(request.payload.slice(begin, end).raw)
            begin = end + 1
        }
        switch type {
        case .introduce, .release, .resume, .setTarget, .getDomainPath, .isDomainIntroduced, .getFeature,
            .setFeature, .getQuota, .setQuota:
            func domain(_ position: Int) -> DomainID? {
                guard position < question.arguments.count,
                    let number = Bytes(question.arguments[position]).decimal
                else { return nil }
                return UInt16(exactly: number).map { DomainID($0) }
            }
            question.object = domain(0)
            if type == .setTarget { question.secondObject = domain(1) }
        default: break
        }
    }

    /// Asks about WATCH and UNWATCH of `path`.
    func consultWatch(_ request: Request, _ token: Bytes) throws(ErrorName) {
        if !policies.isAsked(request.header.type) { return }
        var question = question(request.header.type, request)
        question.arguments = [token.raw]
        _ = try heed(ask(question, path, path.depth, before: 0), request)
    }

    /// Asks about a request about `path`, which needs `right`, and about all that it would bring about or
    /// remove. Throws what it is refused with; answers whether it is granted what needs permission.
    ///
    /// Whom permissions give nothing is asked about no further than to the first node that is not granted:
    /// what he has no right to touch costs him, and everybody else, nothing.
    func consult(
        _ request: Request, _ found: (place: Place, level: Int), _ right: Rights, _ intention: Intention
    ) throws(ErrorName) -> Bool {
        if policies.decides == 0 { return false }
        let operation = request.header.type
        let exists = found.level == path.depth
        let before = found.place.isNone ? 0 : transactions.state(request.view, found.place).permissions
        var isGranted = false
        if policies.isAsked(operation) {
            var question = question(operation, request)
            question.nodeExists = exists
            isGranted = try heed(
                ask(question, path, path.depth, before: exists ? before : 0, intention), request)
        }
        let type = MessageType(rawValue: operation)
        if !exists && (type == .write || type == .makeDirectory) && policies.isAsked(PolicyOperation.create) {
            let isAllowed = isGranted || isPermitted(request, found, right)
            let areGranted = try consultCreation(request, found, before, intention, isAllowed)
            return isGranted || areGranted
        }
        if exists && type == .remove && policies.isAsked(PolicyOperation.removeNode) {
            let isAllowed = isGranted || isPermitted(request, found, right)
            let areGranted = try consultRemoval(request, found.place, isAllowed)
            return isGranted || areGranted
        }
        return isGranted
    }

    /// Each node that would come, from the topmost. Throws EACCES at the first that is not granted unless the
    /// request `isAllowed` without.
    private func consultCreation(
        _ request: Request, _ found: (place: Place, level: Int), _ above: PermissionsID,
        _ intention: Intention, _ isAllowed: Bool
    ) throws(ErrorName) -> Bool {
        if found.place.isNone { return false }
        let list = permissions.inherited(above, creator: request.connection.creatingDomain)
        defer { permissions.release(list) }
        var areGranted = true
        let question = question(PolicyOperation.create, request)
        for level in found.level + 1...path.depth {
            let value = level == path.depth ? intention.value : .empty
            let verdict = ask(question, path, level, before: 0, Intention(after: list, value: value))
            if try heed(verdict, request) { continue }
            if !isAllowed { throw .acces }
            areGranted = false
        }
        return areGranted
    }

    /// Each node that would go, the named one first. Throws as `consultCreation` does.
    private func consultRemoval(
        _ request: Request, _ top: Place, _ isAllowed: Bool
    ) throws(ErrorName) -> Bool {
        var areGranted = true
        var question = question(PolicyOperation.removeNode, request)
        question.nodeExists = true
        var waiting: [(place: Place, path: [UInt8])] = [(top, path.text)]
        while let (place, text) = waiting.popLast() {
            text.withBytes { eventPath.load(canonical: $0) }
            // A deny shows that there is such a node.
            show(request.view, place.node, list: true)
            let before = transactions.state(request.view, place).permissions
            let verdict = ask(question, eventPath, eventPath.depth, before: before)
            if try !heed(verdict, request) {
                if !isAllowed { throw .acces }
                areGranted = false
            }
            transactions.forEachChild(request.view, place) { child, name in
                var below = text
                below.append(0x2F)
                below.append(name)
                waiting.append((child, below))
                return true
            }
        }
        return areGranted
    }

    /// Whether a child is to stand in a list of its parent's children, which `path` names.
    func isListed(_ child: Place, _ name: Bytes, _ request: Request) -> Bool {
        scratch.removeAll(keepingCapacity: true)
        path.withText { scratch.append($0) }
        if path.depth > 0 { scratch.append(0x2F) }
        scratch.append(name)
        scratch.withBytes { eventPath.load(canonical: $0) }
        var question = question(PolicyOperation.listChild, request)
        question.nodeExists = true
        show(request.view, child.node, list: false)
        let before = transactions.state(request.view, child).permissions
        if case .deny = ask(question, eventPath, eventPath.depth, before: before) { return false }
        return true
    }

    /// What the policies say of an event at a path for one who watches; abstain: node permissions decide.
    func hears(_ connection: Connection, _ path: ParsedPath, _ level: Int, _ before: PermissionsID)
        -> PolicyVerdict
    {
        let question = PolicyQuestion(
            operation: PolicyOperation.event, request: PolicyOperation.event, now: now,
            subject: subject(of: connection))
        return ask(question, path, level, before: before)
    }

    // MARK: Outcomes

    /// Tells those who want to know how the request went.
    func tell(_ request: Request, _ error: ErrorName?) {
        guard let type = MessageType(rawValue: request.header.type) else { return }
        var question = question(request.header.type, request)
        let outcome = PolicyOutcome(error: error, verdict: policies.verdict, decider: policies.decider)
        if Self.pathless >> UInt64(request.header.type) & 1 != 0 {
            fillArguments(&question, request, type)
            return observe(question, outcome)
        }
        guard let end = request.payload.firstIndex(of: 0) else { return observe(question, outcome) }
        do throws(ErrorName) {
            try eventPath.parse(
                request.payload.slice(0, end), home: request.connection.home, allowSpecial: true)
        } catch {
            return observe(question, outcome)
        }
        if type == .watch || type == .unwatch {
            question.arguments = [request.payload.dropFirst(end + 1).raw]
        } else if type == .write, policies.values >> UInt64(request.header.type) & 1 != 0 {
            question.value = request.payload.dropFirst(end + 1).raw
        }
        let node = tree.find(eventPath, eventPath.depth, at: live)
        question.nodeExists = node != 0
        if node != 0 { question.before = permissions.raw(tree.nodes[node].permissions) }
        policies.ends.removeAll(keepingCapacity: true)
        for level in 0..<eventPath.depth { policies.ends.append(eventPath.components[level + 1].end) }
        let asked = type == .setPermissions ? permissionsAsked(request.payload.dropFirst(end + 1)) : []
        policies.ends.withUnsafeBufferPointer { ends in
            question.componentEnds = ends
            asked.withUnsafeBytes { after in
                question.after = after
                eventPath.withText {
                    question.path = $0.raw
                    observe(question, outcome)
                }
            }
        }
    }

    /// The list that a SET_PERMS has asked for, whether it has got it or not; none where the words are wrong.
    private func permissionsAsked(_ words: Bytes) -> [Permission] {
        var list: [Permission] = []
        var begin = 0
        while let end = words.firstIndex(of: 0, from: begin) {
            let word = words.slice(begin, end)
            guard word.count >= 2, let mode = AccessMode(letter: word[0]),
                let number = word.dropFirst(1).decimal, let domain = UInt16(exactly: number)
            else { return [] }
            list.append(Permission(mode, DomainID(domain)))
            begin = end + 1
        }
        return list
    }

    private func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        for policy in policies.all where policy.observes >> UInt64(question.operation) & 1 != 0 {
            policy.observe(question, outcome)
        }
    }

    // MARK: Postponed requests

    /// Puts the connection's next request off, as a policy wants it.
    func postpone(_ connection: Connection) {
        connection.isHeld = true
        let time = now + UInt64(policies.delay) * 1_000_000
        postponed.append((connection.id, time))
        nextPostponed = min(nextPostponed, time)
        policies.delay = 0
    }

    /// Lets those go on whose time has come.
    func releasePostponed() {
        if now < nextPostponed { return }
        let due = postponed.filter { $0.at <= now }
        postponed.removeAll { $0.at <= now }
        nextPostponed = postponed.reduce(UInt64.max) { min($0, $1.at) }
        for (id, _) in due {
            guard let connection = connections[Int(id)], connection.isHeld else { continue }
            connection.isHeld = false
            carryOutWaiting(connection)
            recharge(connection)
            list(connection)
        }
    }
}
