// The loop: one thread that waits for what comes, has the server carry it out, and writes what came of it.
//
// A turn: wait, unless rings have more to do; tell the server the time; go on with what was too much for
// the last turn; every ready descriptor, once; then what has changed is committed and recorded; then all
// output that may be seen, one write a connection, one signal a ring. Nothing in it blocks.
//
// Tokens below 2^32 are sources by their number: listeners, signals, other threads' messages. A number is
// not used twice. All other tokens are sockets' (SocketConnections).

import CLinux
import Glibc
import XenStore
import XenStoreTypes

/// A descriptor of the host's own that the loop waits for.
protocol EventSource: AnyObject {
    var descriptor: Int32 { get }
    /// `ready` is only called when there is more to read than before: it reads all there is.
    var isEdgeTriggered: Bool { get }
    /// The descriptor is readable.
    func ready(_ loop: EventLoop)
    /// A time that the source has asked for has passed, or that of another one (`EventLoop.remind`).
    func due(_ loop: EventLoop, now: UInt64)
    /// A socket has been closed: there may be descriptors again.
    func descriptorsFreed(_ loop: EventLoop)
}

extension EventSource {
    var isEdgeTriggered: Bool { false }
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
    // Every turn comes by here: checking at run time that nobody else is at these costs more than the rest.
    @exclusivity(unchecked) private var changedSockets = ReusedList<ConnectionID>()
    @exclusivity(unchecked) private var sources: [any EventSource] = []
    @exclusivity(unchecked) private var closuresSeen: UInt64 = 0
    @exclusivity(unchecked) private var stopping = false
    /// The first of the times that sources have asked for; nil: none has.
    @exclusivity(unchecked) private var nextDue: UInt64?
    /// When `poll` was last asked, in monotonic nanoseconds.
    @exclusivity(unchecked) private var lastWait: UInt64 = 0
    /// Nanoseconds that all descriptors may be left alone for rings with more to do. A guest that runs on our
    /// CPU has asked again before its signal's system call returns: its ring is served on without two further
    /// system calls.
    private static let longestWithoutWait: UInt64 = 50_000

    init(server: Server, rings: RingConnections? = nil, poll: Poll) {
        self.server = server
        self.rings = rings
        self.poll = poll
        sockets = SocketConnections(server: server, poll: poll)
    }

    /// Waits for `source` too, for as long as the loop lives.
    func add(_ source: any EventSource) throws(StartFailure) {
        let interest = Poll.readable | (source.isEdgeTriggered ? Poll.edges : 0)
        guard poll.add(source.descriptor, interest, token: UInt64(sources.count)) else {
            throw StartFailure("epoll refuses a descriptor", errno: errno)
        }
        sources.append(source)
    }

    /// Stops or goes on waiting for a source's descriptor; it is reminded all the same.
    func listen(to source: any EventSource, _ on: Bool) {
        guard let number = sources.firstIndex(where: { $0 === source }) else { return }
        poll.change(source.descriptor, on ? Poll.readable : 0, token: UInt64(number))
    }

    /// Calls every source's `due` at `time`, in monotonic nanoseconds, or soon after it. It may ask again.
    func remind(at time: UInt64) { nextDue = earlier(nextDue, time) }

    /// Turns until `stop`.
    func run() {
        while !stopping { runTurn() }
    }

    /// Ends `run` after this turn. For the loop's own thread: others post a message (Mailbox).
    func stop() { stopping = true }

    private func runTurn() {
        let (count, now) = wait()
        server.advance(to: now)
        sockets.beginTurn()
        rings?.beginTurn()
        if let rings, rings.hasMoreEvents { rings.ready(self) }
        for index in 0..<count {
            let event = poll.event(index)
            if event.token >> 32 != 0 {
                sockets.ready(event.token, event.ready)
            } else {
                sources[Int(event.token)].ready(self)
            }
        }
        if let nextDue, nextDue <= now { callDue(now) }
        settle()
        if sockets.closures != closuresSeen {
            closuresSeen = sockets.closures
            for source in sources { source.descriptorsFreed(self) }
        }
    }

    /// Waits for descriptors, unless the rings have more to do and we have looked a moment ago. Returns how
    /// many are ready, and the time.
    private func wait() -> (ready: Int, now: UInt64) {
        if let rings, rings.hasWork {
            let now = monotonicNow()
            if now - lastWait < Self.longestWithoutWait { return (0, now) }
        }
        let count = poll.wait(timeout())
        lastWait = monotonicNow()
        return (count, lastWait)
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
            rings?.record()
            journal.record()
        }
        server.commit()
        for index in 0..<changedSockets.count { sockets.settle(changedSockets[index]) }
        changedSockets.removeAll()
        rings?.endTurn()
    }

    private func callDue(_ now: UInt64) {
        nextDue = nil
        for source in sources { source.due(self, now: now) }
    }

    /// Milliseconds until something is due, rounded up; -1: nothing is.
    private func timeout() -> Int32 {
        if sockets.hasLateOutput || rings?.hasWork == true || server.hasChanged { return 0 }
        guard let next = earlier(server.nextDeadline, nextDue) else { return -1 }
        let now = monotonicNow()
        if next <= now { return 0 }
        return Int32(clamping: (next - now + 999_999) / 1_000_000)
    }
}

/// The first of two times, where nil is never.
private func earlier(_ one: UInt64?, _ other: UInt64?) -> UInt64? {
    guard let one, let other else { return one ?? other }
    return min(one, other)
}
