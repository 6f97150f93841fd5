// Lines of text for the log, the trace and CONTROL's replies, made of bytes since the core has no `String`.

import XenStoreTypes

/// A line that is being written.
struct Line {
    private(set) var bytes: [UInt8] = []

    init() {}
    init(_ text: StaticString) { add(text) }

    mutating func add(_ text: StaticString) { bytes.append(Bytes(text)) }
    mutating func add(_ text: Bytes) { bytes.append(text) }
    mutating func add(_ number: UInt32) { bytes.append(decimal: UInt64(number)) }
    mutating func add(byte: UInt8) { bytes.append(byte) }

    mutating func add(_ number: Int) {
        if number < 0 { bytes.append(0x2D) }
        bytes.append(decimal: UInt64(number.magnitude))
    }

    /// A text in a column of `width`, filled up with spaces behind it.
    mutating func add(_ text: StaticString, width: Int) {
        add(text)
        pad(width - text.utf8CodeUnitCount)
    }

    /// A number in a column of `width`, filled up with spaces before it.
    mutating func add(_ number: Int, width: Int) {
        var digits = Line()
        digits.add(number)
        pad(width - digits.bytes.count)
        bytes.append(contentsOf: digits.bytes)
    }

    private mutating func pad(_ count: Int) {
        if count > 0 { bytes.append(contentsOf: repeatElement(0x20, count: count)) }
    }

    mutating func add(subject: Subject) {
        switch subject {
        case .domain(let domain):
            add("domain ")
            add(Int(domain.rawValue))
        case .user(let user):
            add("user ")
            add(user)
        }
    }

    /// Bytes from a client: what is no printable ASCII becomes a space.
    mutating func add(printable text: Bytes) {
        for index in 0..<text.count {
            let byte = text[index]
            bytes.append(byte >= 0x20 && byte < 0x7F ? byte : 0x20)
        }
    }
}

extension Server {
    func log(_ level: LogLevel, _ line: Line) { world.log(level, line.bytes.span) }

    // MARK: Trace

    func traceMessage(_ direction: StaticString, _ request: Request) {
        let name = MessageType(rawValue: request.header.type)?.name ?? "UNKNOWN"
        trace(direction, request.connection, name, request.payload)
    }

    /// Traces the reply that has just been queued.
    func traceReply(_ request: Request, _ outcome: StaticString) {
        let name = outcome.utf8CodeUnitCount == 2 ? MessageType(rawValue: request.header.type)?.name : "ERROR"
        trace("OUT", request.connection, name ?? "UNKNOWN", Bytes(outcome))
    }

    func traceEvent(_ connection: Connection, _ path: Bytes, _ token: Bytes) {
        var text = path.array
        text.append(0)
        text.append(token)
        text.withBytes { trace("OUT", connection, "WATCH_EVENT", $0) }
    }

    private func trace(
        _ direction: StaticString, _ connection: Connection, _ name: StaticString, _ text: Bytes
    ) {
        var line = Line(direction)
        line.add(" c")
        line.add(connection.id)
        line.add(" ")
        line.add(name)
        line.add(" (")
        line.add(printable: text)
        line.add(")")
        world.trace(line.bytes.span)
    }

    /// Traces that something of a connection has come or gone.
    func traceLife(_ event: StaticString, _ kind: StaticString, _ number: UInt32) {
        if !configuration.tracing.contains(.obj) { return }
        var line = Line(event)
        line.add(" ")
        line.add(kind)
        line.add(" ")
        line.add(number)
        world.trace(line.bytes.span)
    }
}

extension MessageType {
    /// The name that traces use.
    var name: StaticString {
        switch self {
        case .control: "CONTROL"
        case .directory: "DIRECTORY"
        case .read: "READ"
        case .getPermissions: "GET_PERMS"
        case .watch: "WATCH"
        case .unwatch: "UNWATCH"
        case .transactionStart: "TRANSACTION_START"
        case .transactionEnd: "TRANSACTION_END"
        case .introduce: "INTRODUCE"
        case .release: "RELEASE"
        case .getDomainPath: "GET_DOMAIN_PATH"
        case .write: "WRITE"
        case .makeDirectory: "MKDIR"
        case .remove: "RM"
        case .setPermissions: "SET_PERMS"
        case .watchEvent: "WATCH_EVENT"
        case .error: "ERROR"
        case .isDomainIntroduced: "IS_DOMAIN_INTRODUCED"
        case .resume: "RESUME"
        case .setTarget: "SET_TARGET"
        case .restrict: "RESTRICT"
        case .resetWatches: "RESET_WATCHES"
        case .directoryPart: "DIRECTORY_PART"
        case .getFeature: "GET_FEATURE"
        case .setFeature: "SET_FEATURE"
        case .getQuota: "GET_QUOTA"
        case .setQuota: "SET_QUOTA"
        }
    }
}
