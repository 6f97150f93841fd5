// A guest of a simulated host (docs/simulated-xen.md): a page, an event channel, and all the mischief that a
// guest can do with them.

import CLinux
import Glibc
import XenStoreHost
import XenStoreRing
import XenStoreTypes

/// One domain's end of its ring. Nothing is sent or signalled but what the test says, and nothing waits
/// longer than its time limit.
public final class SimulatedGuest {
    public let domain: DomainID
    public let page: RingPage
    /// How many signals of the daemon's have been taken.
    public private(set) var signals = 0
    /// The shared page's file, to be cut short.
    public let ringPath: String
    private let entry: UnsafeMutableRawPointer
    private let state: UnsafeMutableRawPointer
    private let stateSize: Int
    private let eventFile: Int32
    private let daemonFile: Int32
    private var received: [UInt8] = []

    /// Milliseconds that anything may take.
    public static let patience = 10_000

    /// The domain `id` of the host, made for this guest unless it exists.
    public init(_ host: SimulatedHost, _ id: UInt16, exists: Bool = false) throws {
        domain = DomainID(id)
        if !exists { try host.create(domain) }
        ringPath = "\(host.path)/dom\(id)/ring"
        page = RingPage(try Self.map(ringPath).memory)
        (state, stateSize) = try Self.map("\(host.path)/state")
        entry = state + 16 * Int(id)
        eventFile = open("\(host.path)/dom\(id)/event", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        daemonFile = open("\(host.path)/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard eventFile >= 0, daemonFile >= 0 else {
            throw StartFailure("no event channel in \(host.path), errno \(errno)")
        }
    }

    deinit {
        munmap(page.page, RingPage.byteCount)
        munmap(state, stateSize)
        close(eventFile)
        close(daemonFile)
    }

    private static func map(_ path: String) throws -> (memory: UnsafeMutableRawPointer, size: Int) {
        let file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw StartFailure("cannot open \(path), errno \(errno)") }
        defer { close(file) }
        let size = Int(lseek(file, 0, SEEK_END))
        guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), memory != MAP_FAILED
        else { throw StartFailure("cannot map \(path), errno \(errno)") }
        return (memory, size)
    }

    // MARK: Words

    /// A word of the page, as the guest may read and write it at any time.
    public subscript(word offset: Int) -> UInt32 {
        get { shared_load(page.page + offset) }
        set { shared_store(page.page + offset, newValue) }
    }

    /// What the host says of the domain: 1 exists, 2 dying, 4 shut down, 8 crashed. The daemon is not told.
    public var flags: UInt32 {
        get { shared_load(entry) }
        set { shared_store(entry, newValue) }
    }

    /// The daemon's port for this domain; 0: it listens to none.
    public var daemonPort: UInt32 { shared_load(entry + 4) }

    /// Takes the domain's FIFO away, so that the daemon cannot bind its event channel, or puts it back.
    public func hideEventChannel(_ isHidden: Bool) {
        let path = ringPath.dropLast(4) + "event"
        _ = isHidden ? rename(String(path), path + ".hidden") : rename(path + ".hidden", String(path))
    }

    /// Writes an index that cannot be, and signals.
    public func breakRing() {
        self[word: 2052] = self[word: 2048] &+ 5000
        signal()
    }

    /// Whether the daemon has cut the guest off, for which it may take `patience` milliseconds.
    public func isCutOff(_ patience: Int) -> Bool {
        for _ in 0..<patience {
            if page.error != 0 || daemonPort == 0 { return true }
            usleep(1000)
        }
        return page.error != 0
    }

    // MARK: Events

    /// Signals the daemon, if it listens.
    public func signal() {
        var port = daemonPort
        if port == 0 { return }
        if shared_exchange(entry + 8, 1) == 0 { _ = write(daemonFile, &port, 4) }
    }

    /// Takes the daemon's signals that are there, waiting for one at most `patience` milliseconds. False:
    /// there was none.
    @discardableResult
    public func waitForSignal(_ patience: Int = SimulatedGuest.patience) -> Bool {
        var waiting = pollfd(fd: eventFile, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, Int32(patience)) > 0 else { return false }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(eventFile, &bytes, bytes.count)
        shared_store(entry + 12, 0)
        if count > 0 { signals += count }
        return count > 0
    }

    // MARK: Bytes

    /// Puts what fits into the ring and signals nobody. Answers how many bytes that was; nil: a bad index.
    public func put(_ bytes: some Collection<UInt8>) -> Int? {
        let bytes = [UInt8](bytes)
        guard case .moved(let count) = page.sendRequest(bytes.span) else { return nil }
        return count
    }

    /// Puts all of it, one signal a ringful, waiting for room. False: the daemon takes nothing.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while true {
            guard let count = put(rest) else { return false }
            rest = rest.dropFirst(count)
            if count > 0 { signal() }
            if rest.isEmpty { return true }
            if count == 0 && !waitForSignal() { return false }
        }
    }

    /// Takes what is in the response ring; signals if that was anything.
    public func fetch() {
        withUnsafeTemporaryAllocation(byteCount: RingPage.ringCount, alignment: 8) { buffer in
            guard case .moved(let count) = page.receiveResponse(into: buffer), count > 0 else { return }
            received += buffer[..<count]
            signal()
        }
    }

    /// The next message, a reply or an event; nil: none comes in time.
    public func receive(_ patience: Int = SimulatedGuest.patience) -> Message? {
        while true {
            fetch()
            if let message = Message.take(from: &received) { return message }
            if !waitForSignal(patience) { return nil }
        }
    }

    /// One request and the next message, which is its reply if no watch fires.
    public func ask(_ type: MessageType, _ payload: String) -> Message? {
        guard send(Message(type, Array(payload.utf8)).bytes) else { return nil }
        return receive()
    }

    /// The payload that `ask` is answered with, as text: NULs are `|`.
    public func text(_ type: MessageType, _ payload: String) -> String? {
        ask(type, payload).map { Message.printable($0.payload) }
    }

    /// Drops half a response, as a guest does that begins anew.
    public func forget() { received = [] }

    /// Asks for a reconnection and waits until it is granted.
    public func reconnect() -> Bool {
        forget()
        page.requestReconnection()
        signal()
        while page.isReconnectRequested { if !waitForSignal() { return false } }
        return true
    }
}
