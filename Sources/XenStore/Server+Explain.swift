// Why something is allowed or refused: a question that is asked for a person, and changes nothing.

import XenStoreTypes

/// The operations that can be explained, by the names that a person uses.
public struct ExplainedOperation: Sendable {
    public let name: StaticString
    let type: MessageType
    /// The right that it needs on a node; nil: it is not about one.
    let right: Rights?

    /// As policies are asked about it.
    public var number: UInt32 { type.rawValue }
    public var hasPath: Bool { right != nil }

    public static let all = [
        ExplainedOperation(name: "read", type: .read, right: .read),
        ExplainedOperation(name: "directory", type: .directory, right: .read),
        ExplainedOperation(name: "get-perms", type: .getPermissions, right: .read),
        ExplainedOperation(name: "write", type: .write, right: .write),
        ExplainedOperation(name: "mkdir", type: .makeDirectory, right: .write),
        ExplainedOperation(name: "rm", type: .remove, right: .write),
        ExplainedOperation(name: "set-perms", type: .setPermissions, right: .owner),
        ExplainedOperation(name: "watch", type: .watch, right: []),
        ExplainedOperation(name: "control", type: .control, right: nil),
        ExplainedOperation(name: "introduce", type: .introduce, right: nil),
        ExplainedOperation(name: "release", type: .release, right: nil),
        ExplainedOperation(name: "resume", type: .resume, right: nil),
        ExplainedOperation(name: "set-target", type: .setTarget, right: nil),
        ExplainedOperation(name: "is-introduced", type: .isDomainIntroduced, right: nil),
        ExplainedOperation(name: "get-quota", type: .getQuota, right: nil),
        ExplainedOperation(name: "set-quota", type: .setQuota, right: nil),
    ]
}

extension Server {
    /// Says in lines of text which policy, rule or permission entry decides what a request would be answered,
    /// and what would have to change. Nothing happens, and nobody notices.
    ///
    /// `subject` is a domain, by its ring, or a socket's user (with its group). `operation` and `path` are as
    /// a person writes them; `path` is empty for what is not about a node, and CONTROL's is its command.
    /// Throws EINVAL for an operation that there is none of, and for a path that is none.
    public func explain(
        _ subject: Subject, peer: SocketPeer = SocketPeer(), _ operation: Span<UInt8>, _ path: Span<UInt8>
    ) throws(ErrorName) -> [UInt8] {
        var found: ExplainedOperation?
        operation.withBytes { name in
            found = ExplainedOperation.all.first { name.equals($0.name) }
        }
        guard let found else { throw .inval }
        let connection = observer(subject, peer)
        defer { if accounts.table[connection.account].ring == nil { closeIfUnused(connection.account) } }
        var text = Line()
        text.add(subject: subject)
        text.add(connection.isPrivileged ? " (privileged) " : " ")
        text.add(found.name)
        if let right = found.right {
            var isPath = true
            path.withBytes { bytes in
                do throws(ErrorName) {
                    try self.path.parse(bytes, home: connection.home, allowSpecial: true)
                } catch {
                    isPath = false
                }
            }
            if !isPath { throw .inval }
            text.add(" ")
            self.path.withText { text.add($0) }
            text.add("\n")
            explainNode(connection, found, right, &text)
        } else {
            if found.type == .control && !path.isEmpty {
                text.add(" ")
                path.withBytes { text.add(printable: $0) }
            }
            text.add("\n")
            path.withBytes { explainPrivilege(connection, found, command: $0, &text) }
        }
        return text.bytes
    }

    /// A connection that nobody has, for the asking.
    private func observer(_ subject: Subject, _ peer: SocketPeer) -> Connection {
        var isPrivileged = false
        var home = configuration.domain
        var isSocket = true
        if case .domain(let domain) = subject {
            isPrivileged = domain == configuration.privilegedDomain
            home = domain
            isSocket = false
        }
        return Connection(
            id: .max, account: accounts.account(of: subject), subject: subject, isPrivileged: isPrivileged,
            isReadOnly: false, isSocket: isSocket, home: home, peer: peer)
    }

    private func closeIfUnused(_ account: AccountID) {
        let it = accounts.table[account]
        let isUsed = it.identity != nil || it.nodes.now > 0 || it.firstOwned != 0 || it.ownLimits != 0
        if it.isUser || it.isEverlasting || isUsed { return }
        accounts.close(account)
    }

    private func explainPrivilege(
        _ connection: Connection, _ operation: ExplainedOperation, command: Bytes, _ text: inout Line
    ) {
        let hasCommand = operation.type == .control && !command.isEmpty
        let verdict = explainPolicies(
            connection, operation.type.rawValue, operation.type.rawValue, level: nil, before: 0,
            arguments: hasCommand ? [command.raw] : [], &text)
        switch verdict {
        case .deny(let error): conclude(&text, error)
        case .grant: conclude(&text, nil)
        case .abstain, .postpone:
            if connection.isPrivileged { return conclude(&text, nil) }
            text.add("privilege: needed, and the subject has none: a policy would have to grant it\n")
            conclude(&text, .acces)
        }
    }

    private func explainNode(
        _ connection: Connection, _ operation: ExplainedOperation, _ right: Rights, _ text: inout Line
    ) {
        let found = tree.nearest(path, at: live)
        let exists = found.level == path.depth && found.node != 0
        let list = found.node == 0 ? 0 : tree.nodes[found.node].permissions
        let verdict = explainPolicies(
            connection, operation.type.rawValue, operation.type.rawValue, level: path.depth,
            before: exists ? list : 0, &text)
        if case .deny(let error) = verdict { return conclude(&text, error) }
        let isCreating = operation.type == .write || operation.type == .makeDirectory
        var isGranted = verdict == .grant
        if let derived = explainDerived(connection, operation.type, found, exists, list, &text) {
            if case .deny(let error) = derived { return conclude(&text, error) }
            if derived == .grant { isGranted = true }
        }
        if !isGranted && !explainPermissions(connection, right, found, list, &text) {
            return conclude(&text, .acces)
        }
        let isAbsent = !exists && right != [] && !isCreating
        if isAbsent && !(operation.type == .remove && found.level == path.depth - 1) {
            text.add("node: there is none\n")
            return conclude(&text, .noent)
        }
        conclude(&text, nil)
    }

    /// What the policies say of the nodes that a write would bring about, or of the one that is to be
    /// removed; of those below it only the removal itself asks. Nil: it is no such request.
    private func explainDerived(
        _ connection: Connection, _ type: MessageType, _ found: (node: NodeID, level: Int), _ exists: Bool,
        _ list: PermissionsID, _ text: inout Line
    ) -> PolicyVerdict? {
        switch type {
        case .write, .makeDirectory:
            if exists || found.level >= path.depth || !policies.isAsked(PolicyOperation.create) { return nil }
            var areGranted = true
            for level in found.level + 1...path.depth {
                text.add("to create ")
                path.withPrefix(level) { text.add($0) }
                text.add(":\n")
                let verdict = explainPolicies(
                    connection, PolicyOperation.create, type.rawValue, level: level, before: 0, &text)
                if case .deny = verdict { return verdict }
                if verdict != .grant { areGranted = false }
            }
            return areGranted ? .grant : .abstain
        case .remove:
            if !exists || !policies.isAsked(PolicyOperation.removeNode) { return nil }
            text.add("to remove this node:\n")
            return explainPolicies(
                connection, PolicyOperation.removeNode, type.rawValue, level: path.depth, before: list, &text)
        default: return nil
        }
    }

    private func conclude(_ text: inout Line, _ error: ErrorName?) {
        text.add("answer: ")
        text.add(error?.name ?? "OK, as far as quotas allow")
        text.add("\n")
    }

    /// A line for each policy that wants to see the operation, on the first `level` components of `path`;
    /// nil: it has none.
    private func explainPolicies(
        _ connection: Connection, _ operation: UInt32, _ request: UInt32, level: Int?,
        before: PermissionsID, arguments: [UnsafeRawBufferPointer] = [], _ text: inout Line
    ) -> PolicyVerdict {
        var question = PolicyQuestion(
            operation: operation, request: request, now: now, subject: subject(of: connection))
        question.isDryRun = true
        question.wantsReason = true
        question.nodeExists = before != 0
        question.arguments = arguments
        var together = PolicyVerdict.abstain
        for policy in policies.all where policy.decides >> UInt64(operation) & 1 != 0 {
            let verdict =
                level.map { ask(question, path, $0, before: before, only: policy) }
                ?? policy.decide(question)
            text.add("policy ")
            policy.name.withBytes { text.add($0) }
            text.add(": ")
            add(verdict, &text)
            let reason = policy.reason
            if !reason.isEmpty {
                text.add(" (")
                reason.withBytes { text.add(printable: $0) }
                text.add(")")
            }
            text.add("\n")
            if case .postpone = verdict { continue }
            together = together.together(with: verdict)
        }
        return together
    }

    private func add(_ verdict: PolicyVerdict, _ text: inout Line) {
        switch verdict {
        case .abstain: text.add("abstains")
        case .grant: text.add("grants")
        case .deny(let error):
            text.add("denies with ")
            text.add(error.name)
        case .postpone(let milliseconds):
            text.add("puts it off for ms ")
            text.add(milliseconds)
        }
    }

    /// Which entry decides. Answers whether it gives the right.
    private func explainPermissions(
        _ connection: Connection, _ right: Rights, _ found: (node: NodeID, level: Int),
        _ list: PermissionsID, _ text: inout Line
    ) -> Bool {
        if connection.isPrivileged {
            text.add("permissions: the subject is privileged\n")
            return true
        }
        if list == 0 { return false }
        text.add("permissions of ")
        path.withPrefix(found.level) { text.add($0) }
        text.add(":")
        for entry in permissions.entries(list) {
            text.add(" ")
            text.add(byte: entry.mode.letter)
            text.add(UInt32(entry.domain.rawValue))
            if entry.ignored { text.add(" (ignored)") }
        }
        let deciding = decidingEntry(connection, list)
        text.add("; entry ")
        text.add(deciding + 1)
        let given = rights(connection, list)
        let isGiven = given.contains(right)
        text.add(isGiven ? " gives" : " does not give")
        text.add(right == .owner ? " ownership" : right == .write ? " w" : " r")
        if !isGiven {
            if case .user = connection.subject {
                text.add(": to a socket's user only a policy can grant anything")
            } else {
                text.add(
                    right == .owner
                        ? ": the owner or a privileged domain would have to do it, or a policy to grant it"
                        : ": an entry for the domain would have to, or a policy to grant it")
            }
        }
        text.add("\n")
        return isGiven
    }

    /// The position of the entry by which an unprivileged subject is judged.
    private func decidingEntry(_ connection: Connection, _ list: PermissionsID) -> Int {
        guard case .domain(let domain) = connection.subject else { return 0 }
        let target = accounts.table[connection.account].target ?? domain
        let entries = permissions.entries(list)
        if !entries[0].ignored && (entries[0].domain == domain || entries[0].domain == target) { return 0 }
        return entries.indices.dropFirst().first { position in
            let entry = entries[position]
            return !entry.ignored
                && (entry.domain == domain || entry.domain == target || entry.domain == .any)
        } ?? 0
    }
}
