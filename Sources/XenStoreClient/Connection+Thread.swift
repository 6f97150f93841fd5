// The connection's thread: it alone touches the transport. It sleeps in poll(2) only, but for a device's
// write of one message, which the kernel may hold up.

import CLinux
import Glibc
import XenStoreTypes

extension Connection {
    /// Moves bytes until the connection ends, then fails everything that waits.
    func run(_ transport: some Transport) {
        var wire = Wire(self)
        while wire.loss == nil {
            if state.with({ $0.isClosing }) {
                wire.loss = .closed
                break
            }
            let hasSent = wire.send(transport)
            let hasReceived = wire.receive(transport)
            if !hasSent && !hasReceived { wire.sleep(transport) }
        }
        end(wire.loss ?? .closed)
    }

    private func end(_ loss: ConnectionLoss) {
        let (pending, watches) = state.with { state in
            state.loss = loss
            defer {
                state.pending = [:]
                state.unsent = []
                state.watches = WatchTable()
            }
            return (state.pending.sorted { $0.key < $1.key }, state.watches.all)
        }
        for (_, request) in pending { request.complete(.failure(.connectionLost(loss))) }
        for watch in watches { watch.end(loss) }
    }

    /// Brings one message to whom it is for. Returns why the connection cannot go on, if it cannot.
    fileprivate func deliver(_ header: MessageHeader, _ payload: [UInt8]) -> ConnectionLoss? {
        if header.type == MessageType.watchEvent.rawValue { return deliverEvent(payload) }
        let pending = state.with { $0.pending.removeValue(forKey: header.requestID) }
        guard let pending else { return .violation("a reply to no request (id \(header.requestID))") }
        switch header.type {
        case pending.type.rawValue: pending.complete(.success(payload))
        case MessageType.error.rawValue: pending.complete(.failure(.init(errorReply: payload)))
        default:
            let loss = ConnectionLoss.violation("type \(header.type) answers \(pending.type)")
            pending.complete(.failure(.connectionLost(loss)))
            return loss
        }
        return nil
    }

    /// `path|token|`. For nobody: dropped, it was on its way when the watch was removed.
    private func deliverEvent(_ payload: [UInt8]) -> ConnectionLoss? {
        guard let middle = payload.firstIndex(of: 0),
            let last = payload[(middle + 1)...].firstIndex(of: 0)
        else { return .violation("an event without a path and a token") }
        let token = String(decoding: payload[(middle + 1)..<last], as: UTF8.self)
        let path = String(decoding: payload[..<middle], as: UTF8.self)
        for watch in state.with({ $0.watches.receivers(path: path, token: token) }) { watch.add(path) }
        return nil
    }
}

/// The bytes on their way, which only the thread touches.
///
/// Invariants: outgoing[sent...] is what was taken out of the connection's `unsent` and is still to be sent;
/// incoming[..<filled] was received and is not yet delivered, and begins with a message's first byte.
private struct Wire: ~Copyable {
    let connection: Connection
    var loss: ConnectionLoss?
    private var outgoing: [UInt8] = []
    private var sent = 0
    private let incoming = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    private var filled = 0
    /// When the daemon last took something, or had nothing to take.
    private var lastProgress = monotonicNow()

    init(_ connection: Connection) { self.connection = connection }
    deinit { incoming.deallocate() }

    /// Sends what can be sent. False: nothing.
    mutating func send(_ transport: some Transport) -> Bool {
        if sent == outgoing.count { takeUnsent() }
        guard sent < outgoing.count else { return false }
        switch transport.send(outgoing.span.extracting(sent...)) {
        case .moved(let count):
            advance(count)
            return true
        case .refused(let code, let count):
            let id = RequestBytes.requestID(ofFirstIn: outgoing.span.extracting(sent...))
            let pending = connection.state.with { $0.pending.removeValue(forKey: id) }
            pending?.complete(.failure(.init(errno: code)))
            advance(count)
            return true
        case .wouldBlock: break
        case .closed: loss = .closedByPeer(inMessage: filled > 0)
        case .lost(let reason):
            // What it had to say before it went may be there still.
            while receive(transport) {}
            loss = loss ?? reason
        }
        return false
    }

    private mutating func takeUnsent() {
        outgoing.removeAll(keepingCapacity: outgoing.capacity <= 1 << 20)
        sent = 0
        connection.state.with { swap(&outgoing, &$0.unsent) }
        lastProgress = monotonicNow()
    }

    private mutating func advance(_ count: Int) {
        sent += count
        connection.state.with { $0.unsentCount -= count }
        lastProgress = monotonicNow()
    }

    /// Receives and delivers what is there, once. False: nothing.
    mutating func receive(_ transport: some Transport) -> Bool {
        guard loss == nil else { return false }
        switch transport.receive(into: UnsafeMutableRawBufferPointer(rebasing: incoming[filled...])) {
        case .moved(let count):
            filled += count
            deliverAll()
            return true
        case .wouldBlock, .refused: break
        case .closed: loss = .closedByPeer(inMessage: filled > 0)
        case .lost(let reason): loss = reason
        }
        return false
    }

    private mutating func deliverAll() {
        var start = 0
        while loss == nil, filled - start >= MessageHeader.size {
            let header = MessageHeader(reading: UnsafeRawBufferPointer(rebasing: incoming[start...]).bytes)
            guard header.length <= UInt32(MessageHeader.payloadMax) else {
                loss = .violation("a message of \(header.length) bytes")
                return
            }
            let end = start + MessageHeader.size + Int(header.length)
            guard end <= filled else { break }
            loss = connection.deliver(header, [UInt8](incoming[(start + MessageHeader.size)..<end]))
            start = end
        }
        if start > 0 {
            incoming.copyBytes(from: UnsafeRawBufferPointer(rebasing: incoming[start..<filled]))
            filled -= start
        }
    }

    /// Waits until something may have become possible, or until patience has ended.
    mutating func sleep(_ transport: some Transport) {
        guard loss == nil else { return }
        let isWaiting = sent < outgoing.count
        var limit = Int32(-1)
        if isWaiting {
            let passed = monotonicNow() - lastProgress
            let patience = connection.options.patience.nanoseconds
            guard passed < patience else {
                loss = .stalled
                return
            }
            limit = Int32(min((patience - passed) / 1_000_000 + 1, 1_000_000))
        }
        let interest = isWaiting && transport.reportsRoom ? POLLIN | POLLOUT : POLLIN
        var waiting = [
            pollfd(fd: transport.descriptor, events: Int16(interest), revents: 0),
            pollfd(fd: connection.alarm, events: Int16(POLLIN), revents: 0),
        ]
        _ = poll(&waiting, 2, limit)
        if waiting[1].revents != 0 {
            var count = eventfd_t()
            eventfd_read(connection.alarm, &count)
            connection.state.with { $0.isWoken = false }
        }
        if waiting[0].revents & Int16(POLLIN) != 0 { transport.noticeSignal() }
    }
}
