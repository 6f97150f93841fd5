// Plays a transcript against a daemon, wherever that is, and says where it did not do as written.

import XenStoreTypes

/// A daemon that can be talked to.
public protocol TranscriptPeer: AnyObject {
    /// Nil is ours; another daemon's name selects its answers.
    var name: String? { get }
    /// A new connection; nil if this peer cannot play that party.
    func connect(_ party: Transcript.Party) -> (any TranscriptConnection)?
    /// Lets something happen on the host, and tells the daemon if `isNoticed`; what is wrong if it cannot.
    func happen(_ event: Transcript.WorldEvent, domain: UInt16, isNoticed: Bool) -> String?
}

extension TranscriptPeer {
    public func happen(_ event: Transcript.WorldEvent, domain: UInt16, isNoticed: Bool) -> String? {
        "this peer has no world"
    }
}

/// One connection to a peer.
public protocol TranscriptConnection: AnyObject {
    func send(_ bytes: [UInt8])
    /// The next message; nil if none comes (a peer in another process: within `patience` milliseconds).
    func receive(patience: Int) -> Message?
    /// Whether the peer has closed it (waiting for that a moment, if need be).
    func isClosedByPeer() -> Bool
    func close()
}

/// Plays one transcript.
public final class TranscriptPlayer {
    private final class Line {
        let connection: any TranscriptConnection
        var events: [Message] = []
        var transactions: [String: UInt32] = [:]
        init(_ connection: any TranscriptConnection) { self.connection = connection }
    }

    private let transcript: Transcript
    private let peer: any TranscriptPeer
    private var lines: [String: Line] = [:]
    private var lastRequestID: UInt32 = 100
    /// What went wrong, each as `file:line: ...`.
    public private(set) var failures: [String] = []

    public init(_ transcript: Transcript, _ peer: any TranscriptPeer) {
        self.transcript = transcript
        self.peer = peer
    }

    /// Plays all statements; afterwards no connection may have an event that the transcript does not name.
    public func play() {
        for statement in transcript.statements {
            let answer = statement.answer(of: peer.name)
            if answer == .skipped { continue }
            if let problem = play(statement, answer) {
                failures.append("\(transcript.name):\(statement.line): \(problem)\n    \(statement.text)")
            }
        }
        for (name, line) in lines.sorted(by: { $0.key < $1.key }) {
            if let extra = unexpectedEvent(line) {
                failures.append("\(transcript.name): at the end \(name) has \(extra)")
            }
            line.connection.close()
        }
    }

    private func play(_ statement: Transcript.Statement, _ answer: Transcript.Answer) -> String? {
        if case .world(let event, let domain, let isNoticed) = statement.verb {
            return peer.happen(event, domain: domain, isNoticed: isNoticed)
        }
        guard let line = line(for: statement.party) else { return "\(statement.party.name) cannot connect" }
        switch statement.verb {
        case .world: return nil
        case .close:
            line.connection.close()
            lines[statement.party.name] = nil
            return nil
        case .events(let expected):
            return checkEvents(expected, line)
        case .bytes(let bytes):
            line.connection.send(bytes)
            return check(answer, nil, line, statement)
        case .reply:
            return check(answer, nil, line, statement)
        case .request(let type, let transaction, let payload):
            var id: UInt32 = 0
            if let transaction {
                guard let known = line.transactions[transaction] ?? UInt32(transaction) else {
                    return "no transaction \(transaction)"
                }
                id = known
            }
            lastRequestID += 1
            let request = Message(type: type, requestID: lastRequestID, transactionID: id, payload: payload)
            line.connection.send(request.bytes)
            return check(answer, request, line, statement)
        }
    }

    private func line(for party: Transcript.Party) -> Line? {
        if let line = lines[party.name] { return line }
        guard let connection = peer.connect(party) else { return nil }
        let line = Line(connection)
        lines[party.name] = line
        return line
    }

    // MARK: Checks

    private func check(
        _ answer: Transcript.Answer, _ request: Message?, _ line: Line, _ statement: Transcript.Statement
    ) -> String? {
        if answer == .closed {
            defer { lines[statement.party.name] = nil }
            return line.connection.isClosedByPeer() ? nil : "the connection is still open"
        }
        let reply = nextReply(line, patience: answer == .pending ? 30 : 2000)
        if answer == .pending { return reply == nil ? nil : "unexpected reply \(reply!)" }
        guard let reply else { return "no reply" }
        if let request {
            guard reply.requestID == request.requestID, reply.transactionID == request.transactionID else {
                return "the reply's ids are not the request's: \(reply)"
            }
            guard reply.errorName != nil || reply.type == request.type else {
                return "the reply's type is \(reply.type)"
            }
        }
        return matches(answer, reply, line) ? nil : "got \(reply)"
    }

    private func matches(_ answer: Transcript.Answer, _ reply: Message, _ line: Line) -> Bool {
        switch answer {
        case .error(let name):
            return reply.errorName == name && reply.payload.count == name.utf8.count + 1
        case .success: return reply.errorName == nil
        case .anything: return true
        case .transaction(let name):
            guard reply.errorName == nil, let id = reply.strings.first.flatMap({ UInt32($0) }), id != 0 else {
                return false
            }
            line.transactions[name] = id
            return true
        case .payload(let parts):
            guard reply.errorName == nil else { return false }
            var rest = reply.payload[...]
            for part in parts {
                if let part {
                    guard rest.starts(with: part) else { return false }
                    rest = rest.dropFirst(part.count)
                } else {
                    guard let end = rest.firstIndex(of: 0) else { return false }
                    rest = rest[(end + 1)...]
                }
            }
            return rest.isEmpty
        case .pending, .closed, .skipped: return false
        }
    }

    private func nextReply(_ line: Line, patience: Int) -> Message? {
        while let message = line.connection.receive(patience: patience) {
            if !message.isEvent { return message }
            line.events.append(message)
        }
        return nil
    }

    private func checkEvents(_ expected: [[UInt8]], _ line: Line) -> String? {
        if expected.isEmpty { return unexpectedEvent(line).map { "there is \($0)" } }
        while line.events.count < expected.count {
            guard let message = line.connection.receive(patience: 2000) else { break }
            guard message.isEvent else { return "a reply instead of an event: \(message)" }
            line.events.append(message)
        }
        let got = line.events.prefix(expected.count)
        line.events.removeFirst(got.count)
        let isRight = got.map(\.payload).sorted(by: before) == expected.sorted(by: before)
        return isRight ? nil : "got \(Array(got))"
    }

    private func before(_ left: [UInt8], _ right: [UInt8]) -> Bool { left.lexicographicallyPrecedes(right) }

    /// An event that nobody asked for. A round trip makes sure that all have come.
    private func unexpectedEvent(_ line: Line) -> Message? {
        line.connection.send(Message(.getDomainPath, requestID: 1, [UInt8](strings: ["0"])).bytes)
        _ = nextReply(line, patience: 1000)
        return line.events.first
    }
}
