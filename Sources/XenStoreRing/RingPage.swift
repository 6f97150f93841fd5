// The page that a guest and the daemon share: one ring of bytes in either direction, and a few words
// (specification, section B). Nothing here knows of messages.
//
// | offset | size | meaning | written by |
// |---|---|---|---|
// | 0 | 1024 | request bytes | guest |
// | 1024 | 1024 | response bytes | daemon |
// | 2048 | 4 | req_cons: request bytes taken, modulo 2^32 | daemon |
// | 2052 | 4 | req_prod: request bytes put, modulo 2^32 | guest |
// | 2056 | 4 | rsp_cons: response bytes taken, modulo 2^32 | guest |
// | 2060 | 4 | rsp_prod: response bytes put, modulo 2^32 | daemon |
// | 2064 | 4 | features of the server | daemon |
// | 2068 | 4 | connection: 0 connected, 1 reconnection requested | both |
// | 2072 | 4 | error: a `RingError` | daemon |
// | 2076 | 4 | event channel port of the guest, or 0 | domain builder |
// | 2080 | 2016 | unused, never touched | - |
//
// Words are in the machine's byte order. Byte number i of a stream, counted from the last reset, stands at
// i modulo 1024; 2^32 is a multiple of 1024, so the indexes run on freely and wrap around. 1024 bytes may
// wait: the ring is full then, and that is legal.
//
// Invariants, whatever the other side writes, and whenever it does:
// - No byte outside the page is touched, and of the page only what the table names.
// - A call reads each word at most once and decides by what it read. `prod - cons` is checked before use,
//   so a call moves 0 to 1024 bytes. A byte is copied once; what the copy holds no longer changes.
// - A call takes bounded time: nothing waits for the other side, and nothing traps.
//
// What the daemon trusts: nothing on the page, its own two indexes included, and it keeps no copies of them
// from one turn to the next.
// The page has the only truth, because guests do reset all four indexes: firmware leaves a page like new to
// the kernel that it starts, and Linux zeroes both indexes of a ring that it finds broken. A daemon with
// copies would see garbage or a bad index there. Where a guest overwrites the daemon's indexes with other
// numbers, it gets bytes twice, or not at all, or the bad index that it asked for: it breaks its own
// streams, never a bound (XSA-38).
//
// Sleeping. The other side may leave out the signal for bytes that it adds to a ring that still holds some,
// and for bytes that it takes from a ring that it has not seen full; Linux does. So a side must not wait for
// a signal before it has seen, after its last progress, that the ring is empty (a receive moved 0) or full
// (a send moved 0), or had nothing left to send. Each call that moves something ends with a full barrier,
// which makes that look a safe one.

import CRing

/// What the error word says to the guest.
public enum RingError: UInt32, Sendable {
    case none = 0
    /// The daemon cannot go on with the connection for reasons of its own.
    case communication = 1
    /// More than 1024 bytes seemed to wait in a ring.
    case badIndex = 2
    /// A message was not what the protocol allows.
    case `protocol` = 3
}

/// One shared page, seen from either side. A view: it owns nothing, and copies of it are the same page.
///
/// The page must stay mapped, readable and writable as long as it is used. The two sides may run at the same
/// time in different threads, processes and domains; each side is one thread at a time.
public struct RingPage: @unchecked Sendable {
    /// Bytes of the page.
    public static var byteCount: Int { 4096 }
    /// Bytes of each ring: the most that one call moves.
    public static var ringCount: Int { 1024 }

    /// What became of a transfer.
    public enum Outcome: Equatable, Sendable {
        /// So many bytes, 0 to 1024, were moved. 0: the ring was empty, or full, or nothing was asked for.
        case moved(Int)
        /// The indexes are more than 1024 apart. Nothing was moved and nothing on the page has changed.
        case badIndex
    }

    /// One of the two rings: where on the page its bytes and its indexes stand.
    private struct Ring {
        let bytes: Int
        let consumer: Int
        let producer: Int

        static var requests: Ring { Ring(bytes: 0, consumer: 2048, producer: 2052) }
        static var responses: Ring { Ring(bytes: 1024, consumer: 2056, producer: 2060) }
    }

    /// Where the other words stand.
    private enum Word {
        static var features: Int { 2064 }
        static var connection: Int { 2068 }
        static var error: Int { 2072 }
        static var eventChannelPort: Int { 2076 }
    }

    public let page: UnsafeMutableRawPointer

    /// `page` has 4096 bytes and is aligned to 4 bytes at least.
    public init(_ page: UnsafeMutableRawPointer) {
        precondition(UInt(bitPattern: page) & 3 == 0, "a shared page that is not aligned")
        self.page = page
    }
}

// The daemon's side, in two steps: look at requests and place responses, neither of which the guest can see;
// and, once what that means is kept safe, publish how far both have got.
extension RingPage {
    /// Copies waiting request bytes to the beginning of `buffer`, as many as wait from the index `consumed`
    /// on and fit. They go on waiting.
    public func look(at consumed: UInt32, into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
        let producer = ring_load(page + Ring.requests.producer)
        ring_fence_loads()
        let waiting = producer &- consumed
        guard waiting <= UInt32(Self.ringCount) else { return .badIndex }
        return .moved(copy(.requests, from: consumed, min(Int(waiting), buffer.count), to: buffer))
    }

    /// Copies as many of `bytes`, from the first on, as the response ring has room for behind the index
    /// `produced`. The guest does not know of them yet.
    public func place(_ bytes: Span<UInt8>, at produced: UInt32) -> Outcome {
        let consumer = ring_load(page + Ring.responses.consumer)
        ring_fence_loads()
        let waiting = produced &- consumer
        guard waiting <= UInt32(Self.ringCount) else { return .badIndex }
        let count = min(Self.ringCount - Int(waiting), bytes.count)
        copy(bytes, count, to: .responses, at: produced)
        return .moved(count)
    }

    /// The daemon's own two indexes, as they stand on the page.
    public var positions: (consumed: UInt32, produced: UInt32) {
        let consumed = ring_load(page + Ring.requests.consumer)
        let produced = ring_load(page + Ring.responses.producer)
        ring_fence_loads()
        return (consumed, produced)
    }

    /// Sets them: requests up to `consumed` are taken, responses up to `produced` are there. Signal the guest
    /// if either has moved.
    public func publish(consumed: UInt32, produced: UInt32) {
        store(Ring.requests.consumer, consumed)
        store(Ring.responses.producer, produced)
    }
}

// The daemon's side in one step.
extension RingPage {
    /// Moves waiting request bytes to the beginning of `buffer`, as many as wait and fit.
    ///
    /// The guest sees the room at once. Signal it if anything was moved.
    public func receive(into buffer: UnsafeMutableRawBufferPointer) -> Outcome { take(.requests, buffer) }

    /// How many request bytes wait; none of them is taken.
    public var requestCount: Outcome {
        guard let (count, _, _) = indexes(.requests) else { return .badIndex }
        return .moved(count)
    }

    /// Moves as many of `bytes`, from the first on, into the response ring as it has room for.
    ///
    /// The guest sees them at once. Signal it if anything was moved.
    public func send(_ bytes: Span<UInt8>) -> Outcome { put(.responses, bytes) }

    /// Both rings are empty and intact: all four indexes 0, no error. Bytes that waited are lost.
    public func reset() {
        store(Ring.requests.consumer, 0)
        store(Ring.requests.producer, 0)
        store(Ring.responses.consumer, 0)
        store(Ring.responses.producer, 0)
        setError(.none)
    }

    /// Tells the guest that its request for a reconnection is carried out: to be called after `reset`.
    public func confirmConnection() { store(Word.connection, 0) }

    /// The features that the guest may rely on, the bits of the specification's section B.
    public func setFeatures(_ features: UInt32) { store(Word.features, features) }

    /// Tells the guest why its connection is dead, or with `.none` that it is not.
    public func setError(_ error: RingError) { store(Word.error, error.rawValue) }

    /// The port for INTRODUCE to use, if the domain's builder has left one here; otherwise 0.
    public var eventChannelPort: UInt32 { load(Word.eventChannelPort) }
}

// The guest's side, and that of the domain's builder.
extension RingPage {
    /// As `send`, for requests.
    public func sendRequest(_ bytes: Span<UInt8>) -> Outcome { put(.requests, bytes) }

    /// As `receive`, for responses.
    public func receiveResponse(into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
        take(.responses, buffer)
    }

    /// Asks for a new connection. The guest then signals, and touches no ring until `isReconnectRequested` is
    /// false.
    public func requestReconnection() { store(Word.connection, 1) }

    /// Leaves a port for the daemon, which is to be introduced without a toolstack that names it.
    public func setEventChannelPort(_ port: UInt32) { store(Word.eventChannelPort, port) }
}

// What either side may look at.
extension RingPage {
    /// The connection word is 1. Any other value counts as connected.
    public var isReconnectRequested: Bool { load(Word.connection) == 1 }

    public var features: UInt32 { load(Word.features) }

    /// The error word as it stands; a `RingError` if the daemon wrote it.
    public var error: UInt32 { load(Word.error) }
}

// The words and the bytes.
extension RingPage {
    private func load(_ offset: Int) -> UInt32 {
        let value = ring_load(page + offset)
        ring_fence_loads()
        return value
    }

    private func store(_ offset: Int, _ value: UInt32) {
        ring_store(page + offset, value)
        ring_fence_all()
    }

    /// A ring's indexes, each read once, and how many bytes wait (0 to 1024); nil if they are no ring's.
    private func indexes(_ ring: Ring) -> (count: Int, consumer: UInt32, producer: UInt32)? {
        let consumer = ring_load(page + ring.consumer)
        let producer = ring_load(page + ring.producer)
        ring_fence_loads()
        let count = producer &- consumer
        guard count <= UInt32(Self.ringCount) else { return nil }
        return (Int(count), consumer, producer)
    }

    private func take(_ ring: Ring, _ buffer: UnsafeMutableRawBufferPointer) -> Outcome {
        guard let (waiting, consumer, _) = indexes(ring) else { return .badIndex }
        let count = min(waiting, buffer.count)
        if copy(ring, from: consumer, count, to: buffer) == 0 { return .moved(0) }
        store(ring.consumer, consumer &+ UInt32(count))
        return .moved(count)
    }

    /// Copies `count` bytes, 1024 at most, out of a ring. Answers how many.
    private func copy(
        _ ring: Ring, from position: UInt32, _ count: Int, to buffer: UnsafeMutableRawBufferPointer
    ) -> Int {
        guard count > 0, let target = buffer.baseAddress else { return 0 }
        let start = Int(position) & (Self.ringCount - 1)
        let first = min(count, Self.ringCount - start)
        ring_copy(target, page + ring.bytes + start, first)
        ring_copy(target + first, page + ring.bytes, count - first)
        return count
    }

    /// Copies the first `count` of the bytes, 1024 at most, into a ring.
    private func copy(_ bytes: Span<UInt8>, _ count: Int, to ring: Ring, at position: UInt32) {
        let start = Int(position) & (Self.ringCount - 1)
        let first = min(count, Self.ringCount - start)
        bytes.withUnsafeBytes { source in
            guard let source = source.baseAddress else { return }
            ring_copy(page + ring.bytes + start, source, first)
            ring_copy(page + ring.bytes, source + first, count - first)
        }
    }

    private func put(_ ring: Ring, _ bytes: Span<UInt8>) -> Outcome {
        guard let (waiting, _, producer) = indexes(ring) else { return .badIndex }
        let count = min(Self.ringCount - waiting, bytes.count)
        guard count > 0 else { return .moved(0) }
        copy(bytes, count, to: ring, at: producer)
        store(ring.producer, producer &+ UInt32(count))
        return .moved(count)
    }
}
