// CONTROL: what `xenstore-control` asks for (specification, section F).

import XenStoreTypes

/// What goes into the trace. `log on` means all of it.
public struct TraceSwitches: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Every message in and out.
    public static let io = TraceSwitches(rawValue: 1)
    /// Connections, watches and transactions that come and go.
    public static let obj = TraceSwitches(rawValue: 2)
    /// Reservations, which make writers wait.
    public static let wrl = TraceSwitches(rawValue: 4)
    /// Quota accounting: each refusal.
    public static let acc = TraceSwitches(rawValue: 8)
    public static let all: TraceSwitches = [.io, .obj, .wrl, .acc]

    /// Each switch with the name that requests and the configuration have for it.
    public static var named: [(name: StaticString, value: TraceSwitches)] {
        [("io", .io), ("obj", .obj), ("wrl", .wrl), ("acc", .acc)]
    }
}

extension Server {
    private static var commands: [(name: StaticString, arguments: StaticString)] {
        [
            ("check", ""),
            ("log", "[on|off|+<switch>|-<switch>]"),
            ("logfile", "<file>"),
            ("memreport", "[<file>]"),
            ("print", "<string>"),
            ("quota", "[set <name> <val>|<domid>|max [-r]]"),
            ("quota-soft", "[set <name> <val>]"),
            ("reload", ""),
            ("explain", "<domid>|u<uid> <operation> [<path>|<command>]"),
            ("help", ""),
        ]
    }

    func control(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 1, 8)
        let rest = Array(strings.dropFirst())
        switch strings[0] {
        case let name where name.equals("check"): try controlCheck(request, rest)
        case let name where name.equals("log"): try controlLog(request, rest)
        case let name where name.equals("logfile"): try controlLogFile(request, rest)
        case let name where name.equals("memreport"): try controlMemory(request, rest)
        case let name where name.equals("print"): try controlPrint(request, rest)
        case let name where name.equals("quota"): try controlQuota(request, rest)
        case let name where name.equals("quota-soft"): try controlSoftQuota(request, rest)
        case let name where name.equals("reload"): try controlReload(request, rest)
        case let name where name.equals("explain"): try controlExplain(request, rest)
        case let name where name.equals("help"): try controlHelp(request, rest)
        default: throw .inval
        }
    }

    /// A reply of several lines, closed by a NUL.
    private func reply(_ request: Request, _ text: Line) throws(ErrorName) {
        if text.bytes.count >= MessageHeader.payloadMax { throw .toobig }
        reply(request) { connection in
            text.bytes.withBytes { connection.append($0) }
            connection.append(byte: 0)
        }
    }

    /// As SIGHUP. How it went is said by the log.
    private func controlReload(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if !rest.isEmpty { throw .inval }
        world.reloadConfiguration()
        replyOK(request)
    }

    /// Who (a domain id, or `u` and a user's id), the operation, and the path where it has one.
    private func controlExplain(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        guard rest.count == 2 || rest.count == 3, !rest[0].isEmpty else { throw .inval }
        let subject: Subject
        var peer = SocketPeer()
        if rest[0][0] == 0x75 {
            guard let user = rest[0].dropFirst(1).decimal else { throw .inval }
            subject = .user(user)
            peer.user = user
            // Of no group that a rule could name.
            peer.group = .max
        } else {
            subject = .domain(try domainID(rest[0]))
        }
        let path = rest.count == 3 ? rest[2].array : []
        let lines = try explain(subject, peer: peer, rest[1].array.span, path.span)
        var text = Line()
        lines.withBytes { text.add($0) }
        self.path.clear()
        try reply(request, text)
    }

    private func controlHelp(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if !rest.isEmpty { throw .inval }
        var text = Line()
        for command in Self.commands {
            text.add(command.name, width: 15)
            text.add(" ")
            text.add(command.arguments)
            text.add("\n")
        }
        try reply(request, text)
    }

    private func controlCheck(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if !rest.isEmpty { throw .inval }
        let findings = checkInvariants()
        if findings > 0 {
            var line = Line("check: findings ")
            line.add(findings)
            log(.error, line)
        }
        replyOK(request)
    }

    private func controlPrint(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if rest.count != 1 { throw .inval }
        var line = Line("control: ")
        line.add(printable: rest[0])
        log(.notice, line)
        replyOK(request)
    }

    // MARK: Logs

    private func controlLog(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if rest.count > 1 { throw .inval }
        guard let argument = rest.first else { return try reply(request, traceSettings()) }
        if argument.equals("on") {
            configuration.tracing = .all
        } else if argument.equals("off") {
            configuration.tracing = []
        } else {
            try setTraceSwitch(argument)
        }
        replyOK(request)
    }

    /// `+switch` or `-switch`.
    private func setTraceSwitch(_ argument: Bytes) throws(ErrorName) {
        if argument.isEmpty { throw .inval }
        for (name, value) in TraceSwitches.named where argument.dropFirst(1).equals(name) {
            switch argument[0] {
            case 0x2B: configuration.tracing.insert(value)
            case 0x2D: configuration.tracing.remove(value)
            default: throw .inval
            }
            return
        }
        throw .inval
    }

    private func traceSettings() -> Line {
        var text = Line()
        for (name, value) in TraceSwitches.named {
            text.add(name, width: 8)
            text.add(configuration.tracing.contains(value) ? ": on\n" : ": off\n")
        }
        return text
    }

    private func controlLogFile(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if rest.count != 1 || rest[0].isEmpty { throw .inval }
        // No policy can grant what writes files.
        if !request.connection.isPrivileged { throw .acces }
        let world = self.world
        try rest[0].array.withFile { (span) throws(ErrorName) in try world.setTraceFile(span) }
        replyOK(request)
    }

    private func controlMemory(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if rest.count > 1 { throw .inval }
        let text = memoryReport()
        guard let file = rest.first else { return try reply(request, text) }
        if file.isEmpty { throw .inval }
        if !request.connection.isPrivileged { throw .acces }
        let world = self.world
        try file.array.withFile { (span) throws(ErrorName) in try world.writeReport(span, text.bytes.span) }
        replyOK(request)
    }

    private func memoryReport() -> Line {
        var text = Line("Memory in bytes (a column of what it is, then how much):\n")
        func add(_ name: StaticString, _ value: Int) {
            text.add(name, width: 28)
            text.add(value, width: 14)
            text.add("\n")
        }
        add("nodes, number", tree.nodes.count)
        add("node records", tree.nodes.memory)
        add("node index", tree.index.memory)
        add("names, values, tokens used", bytes.used)
        add("names, values, tokens held", bytes.memory)
        add("permission lists, number", permissions.count)
        add("old versions, number", tree.versions.count)
        add("kept for transactions", tree.keptBytes)
        add("transactions, number", transactions.count)
        add("transaction entries", transactions.entries.memory)
        add("watches, number", watches.count)
        add("watches", watches.memory)
        var buffers = 0
        var open = 0
        for case .some(let connection) in connections {
            buffers += connection.charged
            open += 1
        }
        add("connections, number", open)
        add("connections' unsent bytes", buffers)
        add("events lost, number", lostEvents)
        addStoreReport(to: &text)
        return text
    }

    // MARK: Quotas

    private func controlQuota(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        guard let first = rest.first else {
            var text = Line("Quota settings:\n")
            for quota in QuotaName.allCases {
                addSetting(&text, quota.name, accounts.limits[quota], quota.explanation)
            }
            return try reply(request, text)
        }
        if first.equals("set") {
            let (quota, value) = try setting(rest)
            setLimit(try quotaName(quota), value)
            return replyOK(request)
        }
        if first.equals("max") {
            let isReset = rest.count == 2 && rest[1].equals("-r")
            if rest.count > 1 && !isReset { throw .inval }
            if isReset { accounts.forgetMost() }
            return try reply(request, mostSeen())
        }
        if rest.count != 1 { throw .inval }
        guard let account = accounts.known(try domainID(first)) else { throw .noent }
        try reply(request, usage(account))
    }

    private func addSetting(
        _ text: inout Line, _ name: StaticString, _ value: UInt32, _ explanation: StaticString
    ) {
        text.add(name, width: 17)
        text.add(": ")
        text.add(Int(value), width: 8)
        text.add(" ")
        text.add(explanation)
        text.add("\n")
    }

    /// The name and the value of `set name value`.
    private func setting(_ rest: [Bytes]) throws(ErrorName) -> (Bytes, UInt32) {
        guard rest.count == 3, rest[0].equals("set"), let value = rest[2].decimal else { throw .inval }
        return (rest[1], value)
    }

    private func mostSeen() -> Line {
        var text = Line("Max. seen accounting values:\n")
        for quota in QuotaName.allCases {
            text.add(quota.name, width: 17)
            text.add(": ")
            text.add(Int(accounts.most[Int(quota.rawValue)]), width: 8)
            text.add("\n")
        }
        return text
    }

    private func usage(_ account: AccountID) -> Line {
        let record = accounts.table[account]
        var text = Line("Domain ")
        text.add(record.number)
        text.add(":\n")
        func add(_ name: StaticString, _ count: Account.Count) {
            text.add(name, width: 17)
            text.add(": ")
            text.add(count.now, width: 8)
            text.add(" (max ")
            text.add(count.most, width: 8)
            text.add(")\n")
        }
        add("nodes", record.nodes)
        add("watches", record.watches)
        add("transactions", record.transactions)
        add("outstanding", record.outstanding)
        add("memory", record.memory)
        return text
    }

    private func controlSoftQuota(_ request: Request, _ rest: [Bytes]) throws(ErrorName) {
        if rest.isEmpty {
            var text = Line("Quota settings:\n")
            addSetting(
                &text, "memory", accounts.limits.softMemory, "Bytes of memory per domain (warning level)")
            return try reply(request, text)
        }
        let (quota, value) = try setting(rest)
        if !quota.equals("memory") { throw .inval }
        accounts.limits.softMemory = value
        configuration.quotas.softMemory = value
        replyOK(request)
    }
}

extension Array where Element == UInt8 {
    /// Calls `body` with these bytes, a file's name.
    fileprivate func withFile(_ body: (Span<UInt8>) throws(ErrorName) -> Void) throws(ErrorName) {
        try body(span)
    }
}
