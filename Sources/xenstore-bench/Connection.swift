// One connection to a daemon's Unix socket: requests out, replies in, in order (specification, section A).
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
    private let fd: Int32
    private let bytes: UnsafeMutableRawPointer
    private let capacity = 64 << 10
    private var head = 0
    private var tail = 0
    /// Watch events that arrived between the replies.
    private(set) var events = 0

    private static let patience = timeval(tv_sec: 120, tv_usec: 0)

    init(to path: String) throws(Failure) {
        fd = try Connection.connected(to: path)
        bytes = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit {
        close(fd)
        bytes.deallocate()
    }

    /// Makes every wait on this connection fail, from now on and in other threads too.
    func shutDown() { _ = shutdown(fd, Int32(SHUT_RDWR)) }

    func send(_ request: RequestBytes) throws(Failure) {
        var rest = request.bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                throw .call("send")
            }
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
            var waiting = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, 0) > 0 else { return false }
            try fill()
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
                try fill()
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

    private func fill() throws(Failure) {
        if head > 0 {
            bytes.copyMemory(from: bytes + head, byteCount: tail - head)
            tail -= head
            head = 0
        }
        guard tail < capacity else { throw Failure("a message of more than \(capacity) bytes") }
        while true {
            let count = recv(fd, bytes + tail, capacity - tail, 0)
            if count > 0 {
                tail += count
                return
            }
            if count == 0 { throw Failure("the daemon closed the connection") }
            if errno != EINTR { throw .call("recv") }
        }
    }

    private func visible(_ text: String) -> String { String(text.map { $0 == "\0" ? "|" : $0 }) }

    private static func connected(to path: String) throws(Failure) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < room else { throw Failure("\(path): too long for a socket's path") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw .call("socket") }
        var patience = patience
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(fd, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let failed = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) != 0
            }
        }
        guard !failed else {
            let failure = Failure.call(path)
            close(fd)
            throw failure
        }
        return fd
    }
}
