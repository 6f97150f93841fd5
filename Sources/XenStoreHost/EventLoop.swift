// The loop: one thread that waits for what comes, has the server carry it out, and writes what came of it.
//
// A turn: wait; tell the server the time; go on with what was too much for the last turn; every ready
// descriptor, once; then what has changed is committed and recorded; then all output that may be seen, one
// write a connection, one signal a ring. Nothing in it blocks.
//
// Tokens below 2^32 are sources by their number: listeners, signals, other threads' messages. A number is
// not used twice. All other tokens are sockets' (SocketConnections).

import CLinux
import Glibc
import XenStore

/// A descriptor of the host's own that the loop waits for.
protocol EventSource: AnyObject {
    var descriptor: Int32 { get }
    /// The descriptor is readable.
    func ready(_ loop: EventLoop)
    /// When `due` is to be called, in monotonic nanoseconds; nil: never.
    var deadline: UInt64? { get }
    /// The deadline has passed.
    func due(_ loop: EventLoop, now: UInt64)
    /// A socket has been closed: there may be descriptors again.
    func descriptorsFreed(_ loop: EventLoop)
}

extension EventSource {
    var deadline: UInt64? { nil }
    func due(_ loop: EventLoop, now: UInt64) {}
    func descriptorsFreed(_ loop: EventLoop) {}
}

/// The one thread's work.
final class EventLoop {
    let server: Server
    let sockets: SocketConnections
    /// Nil on a host without a hypervisor.
    private let rings: RingConnections?
    private let poll: Poll
    /// Nil where the sessions end with this process.
    var journal: SessionJournal?
    private var changedSockets: [ConnectionID] = []
    private var sources: [any EventSource] = []
    private var closuresSeen: UInt64 = 0
    private var stopping = false

    init(server: Server, rings: RingConnections? = nil, poll: Poll) {
        self.server = server
        self.rings = rings
        self.poll = poll
        sockets = SocketConnections(server: server, poll: poll)
    }

    /// Waits for `source` too, for as long as the loop lives.
    func add(_ source: any EventSource) throws(StartFailure) {
        guard poll.add(source.descriptor, Poll.readable, token: UInt64(sources.count)) else {
            throw StartFailure("epoll refuses a descriptor", errno: errno)
        }
        sources.append(source)
    }

    /// Stops or goes on waiting for a source's descriptor; its deadline counts all the same.
    func listen(to source: any EventSource, _ on: Bool) {
        guard let number = sources.firstIndex(where: { $0 === source }) else { return }
        poll.change(source.descriptor, on ? Poll.readable : 0, token: UInt64(number))
    }

    /// Turns until `stop`.
    func run() {
        while !stopping { runTurn() }
    }

    /// Ends `run` after this turn. For the loop's own thread: others post a message (Mailbox).
    func stop() { stopping = true }

    private func runTurn() {
        let count = poll.wait(timeout())
        let now = monotonicNow()
        server.advance(to: now)
        sockets.beginTurn()
        rings?.beginTurn()
        for index in 0..<count {
            let event = poll.event(index)
            if event.token >> 32 != 0 {
                sockets.ready(event.token, event.ready)
            } else {
                sources[Int(event.token)].ready(self)
            }
        }
        for source in sources {
            if let deadline = source.deadline, deadline <= now { source.due(self, now: now) }
        }
        settle()
        if sockets.closures != closuresSeen {
            closuresSeen = sockets.closures
            for source in sources { source.descriptorsFreed(self) }
        }
    }

    /// Ends a turn: hands over what the turn has brought, to whomever.
    ///
    /// The order is the promise: what the rings take and bring is recorded together with the number of the
    /// batch that it depends on, then the batch is committed, and only then does anybody see any of it.
    private func settle() {
        while let connection = server.nextChanged() {
            if let rings, let ring = rings.ring(of: connection) {
                rings.settle(ring)
            } else {
                changedSockets.append(connection)
            }
        }
        if let journal {
            let isWaiting = rings?.record() ?? false
            journal.record(isWaiting: isWaiting)
        }
        server.commit()
        for connection in changedSockets { sockets.settle(connection) }
        changedSockets.removeAll(keepingCapacity: true)
        rings?.endTurn()
    }

    /// Milliseconds until something is due, rounded up; -1: nothing is.
    private func timeout() -> Int32 {
        if sockets.hasLateOutput || rings?.hasWork == true || server.hasChanged { return 0 }
        var next = server.nextDeadline
        for source in sources {
            if let deadline = source.deadline { next = min(next ?? deadline, deadline) }
        }
        guard let next else { return -1 }
        let now = monotonicNow()
        if next <= now { return 0 }
        return Int32(clamping: (next - now + 999_999) / 1_000_000)
    }
}
