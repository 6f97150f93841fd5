// One connection to a daemon, by socket or ring: requests out, replies in, in order (specification, section
// A).
//
// Invariants: 0 <= head <= tail <= capacity, and bytes[head..<tail] is what was read and not yet taken,
// beginning at a message's first byte. Watch events are counted and dropped. An ERROR is a reply like any
// other here: callers say which ones they can do with.

import Glibc
import XenStoreTypes

/// Requests, one behind the other, as they go over the wire.
struct RequestBytes {
    private(set) var bytes: [UInt8] = []

    /// Adds a request with `payload` as it is; a NUL that the request needs is the caller's.
    mutating func add(_ type: MessageType, transaction: UInt32 = 0, _ payload: String) {
        let length = UInt32(payload.utf8.count)
        for word in [type.rawValue, 0, transaction, length] {
            withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
        }
        bytes.append(contentsOf: payload.utf8)
    }

    mutating func add(_ others: RequestBytes) { bytes.append(contentsOf: others.bytes) }

    mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    static func one(_ type: MessageType, transaction: UInt32 = 0, _ payload: String) -> RequestBytes {
        var request = RequestBytes()
        request.add(type, transaction: transaction, payload)
        return request
    }
}

/// A blocking client. Every wait ends after two minutes, with a failure.
final class Connection {
    private let transport: any Transport
    private let bytes: UnsafeMutableRawPointer
    private let capacity = 64 << 10
    private var head = 0
    private var tail = 0
    /// Watch events that arrived between the replies.
    private(set) var events = 0

    init(_ transport: any Transport) {
        self.transport = transport
        bytes = .allocate(byteCount: capacity, alignment: 16)
    }

    convenience init(to path: String) throws(Failure) { self.init(try SocketTransport(to: path)) }

    deinit { bytes.deallocate() }

    /// Makes every wait on this connection fail, from now on and in other threads too.
    func shutDown() { transport.shutDown() }

    /// Sends all of it. Where the daemon takes no more before its replies are taken, they are kept here.
    func send(_ request: RequestBytes) throws(Failure) {
        var sent = 0
        while sent < request.bytes.count {
            let count = try transport.send(request.bytes.span.extracting(sent...))
            sent += count
            if count == 0 { try fill(waiting: true) }
        }
    }

    /// Sends one request and waits for its reply: its payload as text. An ERROR reply is a failure.
    @discardableResult
    func call(_ type: MessageType, transaction: UInt32 = 0, _ payload: String) throws(Failure) -> String {
        let (answer, text) = try tryCall(type, transaction: transaction, payload)
        guard answer != .error else { throw Failure("\(type) \(visible(payload)): \(visible(text))") }
        return text
    }

    /// As `call`, but nil where the daemon answers EAGAIN.
    func callUnlessAgain(_ type: MessageType, transaction: UInt32, _ payload: String) throws(Failure)
        -> String?
    {
        let (answer, text) = try tryCall(type, transaction: transaction, payload)
        if answer == .error, text == "EAGAIN\0" { return nil }
        guard answer != .error else { throw Failure("\(type) \(visible(payload)): \(visible(text))") }
        return text
    }

    private func tryCall(
        _ type: MessageType, transaction: UInt32, _ payload: String
    ) throws(Failure) -> (MessageType?, String) {
        try send(.one(type, transaction: transaction, payload))
        let header = try nextReply()
        let text = String(decoding: UnsafeRawBufferPointer(takePayload(header)), as: UTF8.self)
        return (MessageType(rawValue: header.type), text)
    }

    /// Waits for one reply and drops what it says; fails if it is an ERROR.
    func takeReply() throws(Failure) {
        let header = try nextReply()
        let payload = takePayload(header)
        guard header.type != MessageType.error.rawValue else {
            throw Failure("a request was answered \(visible(String(decoding: payload, as: UTF8.self)))")
        }
    }

    /// Whether a reply can be taken without waiting.
    func hasReply() throws(Failure) -> Bool {
        while true {
            while let header = bufferedHeader() {
                guard header.type == MessageType.watchEvent.rawValue else { return true }
                events += 1
                _ = takePayload(header)
            }
            guard try fill(waiting: false) else { return false }
        }
    }

    /// Whether a whole reply or event has been read already.
    var hasBufferedMessage: Bool { bufferedHeader() != nil }

    // MARK: The buffer

    /// The header of the next reply, all of whose payload is in the buffer. Its payload must be taken next.
    private func nextReply() throws(Failure) -> MessageHeader {
        while true {
            if let header = bufferedHeader() {
                guard header.type == MessageType.watchEvent.rawValue else { return header }
                events += 1
                _ = takePayload(header)
            } else {
                try fill(waiting: true)
            }
        }
    }

    private func bufferedHeader() -> MessageHeader? {
        guard tail - head >= MessageHeader.size else { return nil }
        let header = MessageHeader(reading: UnsafeRawBufferPointer(start: bytes + head, count: 16).bytes)
        return tail - head - MessageHeader.size >= Int(header.length) ? header : nil
    }

    /// Valid until the next read.
    private func takePayload(_ header: MessageHeader) -> UnsafeRawBufferPointer {
        let start = head + MessageHeader.size
        head = start + Int(header.length)
        return UnsafeRawBufferPointer(start: bytes + start, count: Int(header.length))
    }

    /// Whether anything has come; always, if `waiting`.
    @discardableResult
    private func fill(waiting: Bool) throws(Failure) -> Bool {
        if head > 0 {
            bytes.copyMemory(from: bytes + head, byteCount: tail - head)
            tail -= head
            head = 0
        }
        guard tail < capacity else { throw Failure("more than \(capacity) bytes without a whole message") }
        let room = UnsafeMutableRawBufferPointer(start: bytes + tail, count: capacity - tail)
        let count = try transport.receive(into: room, waiting: waiting)
        tail += count
        return count > 0
    }

    private func visible(_ text: String) -> String { String(text.map { $0 == "\0" ? "|" : $0 }) }
}
