// A client inside the test's process: it speaks the wire with a Server, with no socket between.
//
// Invariants:
// - bytes are handed to the server in order, and never while it does not want input;
// - `events` holds what arrived and was not yet taken, oldest first.

import XenStore
import XenStoreTypes

/// One connection to a `Server`. The output is fetched when the test asks for it, so that a slow reader can
/// be played.
public final class Client {
    public let server: Server
    public let id: ConnectionID
    /// Watch events that arrived while waiting for replies.
    public private(set) var events: [Message] = []
    /// Bytes that the server did not want yet.
    public private(set) var held: [UInt8] = []
    public private(set) var isOpen = true
    private var received: [UInt8] = []
    private var replies: [Message] = []
    private var lastRequestID: UInt32 = 0

    public init(_ server: Server, _ subject: Subject, readOnly: Bool = false, isSocket: Bool = true) {
        self.server = server
        id = server.connect(subject, readOnly: readOnly, isSocket: isSocket)
    }

    /// A connection that the server has made itself: a ring's.
    public init(_ server: Server, connection: ConnectionID) {
        self.server = server
        id = connection
    }

    /// A connection of domain `number`.
    public convenience init(_ server: Server, domain number: UInt16, readOnly: Bool = false) {
        self.init(server, .domain(DomainID(number)), readOnly: readOnly, isSocket: number == 0)
    }

    /// Hands `bytes` to the server, or keeps them until it wants them.
    public func send(_ bytes: [UInt8]) {
        held += bytes
        pass()
    }

    /// Fetches all output: the messages in order. Bytes kept back are passed on when the server wants them
    /// again.
    public func drain() -> [Message] {
        var messages: [Message] = []
        repeat {
            fetch(.max)
            pass()
        } while isOpen && server.outputCount(id) > 0
        while let message = Message.take(from: &received) { messages.append(message) }
        return messages
    }

    /// Fetches at most `limit` bytes of output, as a slow reader does; they count for the next `drain`.
    public func fetch(_ limit: Int) {
        let count = min(limit, server.outputCount(id))
        guard count > 0 else { return }
        received += server.output(id).prefix(count)
        server.sent(id, count)
    }

    /// Sends a request and fetches its reply; events that come with it go to `events`. Nil: no reply (yet).
    public func request(_ message: Message) -> Message? {
        send(message.bytes)
        return reply()
    }

    /// As `request`, with strings for a payload and a fresh request id.
    public func request(_ type: MessageType, _ strings: [String], transaction: UInt32 = 0) -> Message? {
        lastRequestID += 1
        return request(
            Message(type, requestID: lastRequestID, transaction: transaction, [UInt8](strings: strings)))
    }

    /// The next reply that has arrived, or nil; events that came with it go to `events`.
    public func reply() -> Message? {
        sort(drain())
        return replies.isEmpty ? nil : replies.removeFirst()
    }

    /// The events that have arrived, which are then forgotten.
    public func takeEvents() -> [Message] {
        sort(drain())
        defer { events = [] }
        return events
    }

    private func sort(_ messages: [Message]) {
        for message in messages {
            if message.isEvent { events.append(message) } else { replies.append(message) }
        }
    }

    /// The server wants to hear no more of this connection.
    public var mustClose: Bool { server.mustClose(id) }

    /// The peer goes away.
    public func close() {
        guard isOpen else { return }
        isOpen = false
        server.disconnect(id)
    }

    private func pass() {
        guard isOpen, !held.isEmpty, !server.mustClose(id), server.wantsInput(id) else { return }
        let bytes = held
        held = []
        server.receive(id, bytes.span)
    }
}
