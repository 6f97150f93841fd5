// What the rings bring and take: bytes from them to the server, and from the server to them.
//
// A ring's turn: a reconnection that is asked for; else unsent output, then waiting requests. What the turn
// has brought for it is sent at the turn's end, and then it is signalled, once.
//
// Invariants:
// - In one turn of the loop at most one ring's worth of bytes (1024) is taken from a ring, and less than two
//   are sent to it, whatever its guest does.
// - Each look at the indexes that moved something is followed by another one, in a later turn or after the
//   signal, before the ring is left to its event channel: the guest may leave out the signal for what it does
//   meanwhile (XenStoreRing, "Sleeping").
// - A ring that is not active moves nothing. It is active again after a reconnection or INTRODUCE.
// - Every call of the server may attach and detach rings, the one at hand too.

import XenStore
import XenStoreRing
import XenStoreTypes

/// The traffic of one server's rings.
final class RingConnections: EventSource {
    var descriptor: Int32 { hypervisor.descriptor }
    var isEdgeTriggered: Bool { hypervisor.isEdgeTriggered }

    private let server: Server
    private let rings: Rings
    private let hypervisor: any Hypervisor
    private let log: Log
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: RingPage.ringCount, alignment: 8)
    // Every request comes by here: checking at run time that nobody else is at these costs more than the
    // rest.
    /// Those to be served now; empty but within `beginTurn` and `ready`.
    @exclusivity(unchecked) private var pending: [Ring] = []
    @exclusivity(unchecked) private var touched: [Ring] = []
    /// Never 0, which is the turn of rings that had none.
    @exclusivity(unchecked) private var turn: UInt32 = 1

    init(_ rings: Rings, server: Server, log: Log) {
        self.rings = rings
        self.server = server
        self.log = log
        hypervisor = rings.hypervisor
    }

    deinit { buffer.deallocate() }

    /// Whether there is something to do of which no event will remind us.
    var hasWork: Bool { rings.hasScheduled || hasMoreEvents }
    /// `ready` is to be called once more, without being asked for.
    var hasMoreEvents: Bool { hypervisor.hasMorePending }

    func ring(of connection: ConnectionID) -> Ring? { rings.ring(of: connection) }

    // MARK: The turn

    /// Begins a turn of the loop, and serves those with more work than the last one allowed.
    func beginTurn() {
        turn = turn == .max ? 1 : turn + 1
        if rings.hasScheduled {
            rings.takeScheduled(&pending)
            servePending()
        }
    }

    /// Serves the rings whose event channels are pending, then looks at the domains if one has ended: so the
    /// last requests of a domain are carried out.
    func ready(_ loop: EventLoop) {
        var domainsChanged = false
        hypervisor.takePending { port in
            hypervisor.unmask(port)
            if port == hypervisor.domainPort {
                domainsChanged = true
            } else if let ring = rings.ring(at: port) {
                pending.append(ring)
            }
        }
        servePending()
        if domainsChanged { server.domainsChanged() }
    }

    private func servePending() {
        for ring in pending { serve(ring) }
        pending.removeAll(keepingCapacity: true)
    }

    /// The server says that something has changed about a ring's connection.
    func settle(_ ring: Ring) {
        if !ring.isActive { return }
        if server.mustClose(ring.connection) {
            stop(ring, .protocol)
            return
        }
        if !ring.isBlocked && server.outputCount(ring.connection) > 0 {
            let isDone = ring.sentTurn == turn && ring.sentCount >= RingPage.ringCount
            if isDone { rings.schedule(ring) } else { send(ring) }
        }
        touch(ring)
    }

    /// Ends a turn: signals those with whom something was moved. May leave work for the next turn, but none
    /// for the server.
    func endTurn() {
        for ring in touched {
            ring.isTouched = false
            if !ring.isAttached { continue }
            if ring.needsSignal {
                ring.needsSignal = false
                rings.signal(ring)
            }
            guard ring.isActive else { continue }
            if hypervisor.isLost(ring.page.page) {
                rings.schedule(ring)
            } else if server.wantsInput(ring.connection), ring.page.requestCount != .moved(0) {
                rings.schedule(ring)
            }
        }
        touched.removeAll(keepingCapacity: true)
    }

    // MARK: One ring

    private func serve(_ ring: Ring) {
        guard ring.isAttached else { return }
        if ring.servedTurn == turn { return rings.schedule(ring) }
        ring.servedTurn = turn
        if ring.features.contains(.reconnection), ring.page.isReconnectRequested { return reconnect(ring) }
        guard ring.isActive else { return }
        if server.outputCount(ring.connection) > 0 {
            send(ring)
            guard ring.isAttached, ring.isActive else { return }
        }
        if server.wantsInput(ring.connection) { receive(ring) }
        if ring.isAttached, ring.isActive, hypervisor.isLost(ring.page.page) { lose(ring) }
    }

    private func receive(_ ring: Ring) {
        switch ring.page.receive(into: buffer) {
        case .moved(0): break
        case .moved(let count):
            signalLater(ring)
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            bytes.withMemoryRebound(to: UInt8.self) { server.receive(ring.connection, $0.span) }
        case .badIndex: breakOff(ring)
        }
    }

    private func send(_ ring: Ring) {
        if ring.sentTurn != turn { (ring.sentTurn, ring.sentCount) = (turn, 0) }
        var offered = 0
        let outcome = server.withOutput(ring.connection) { bytes in
            offered = bytes.count
            return ring.page.send(bytes)
        }
        switch outcome {
        case .moved(0): ring.isBlocked = true
        case .moved(let count):
            ring.sentCount += count
            ring.isBlocked = count < offered
            if ring.isBlocked { rings.schedule(ring) }
            signalLater(ring)
            server.sent(ring.connection, count)
        case .badIndex: breakOff(ring)
        }
    }

    /// The guest has asked for a new beginning.
    private func reconnect(_ ring: Ring) {
        server.reconnect(ring.connection)
        guard ring.isAttached else { return }
        rings.restart(ring)
        signalLater(ring)
    }

    /// The indexes are no ring's.
    private func breakOff(_ ring: Ring) {
        stop(ring, .badIndex)
        server.deactivate(ring.connection)
    }

    /// The page does not reach the guest any more, so there is no telling it.
    private func lose(_ ring: Ring) {
        log.write(.warning, "the shared page of domain \(ring.domain.rawValue) is gone")
        ring.isActive = false
        server.deactivate(ring.connection)
    }

    /// Nothing is moved any more; the guest is told why.
    private func stop(_ ring: Ring, _ error: RingError) {
        ring.isActive = false
        if ring.features.contains(.error) { ring.page.setError(error) }
        signalLater(ring)
    }

    private func signalLater(_ ring: Ring) {
        ring.needsSignal = true
        touch(ring)
    }

    private func touch(_ ring: Ring) {
        if ring.isTouched { return }
        ring.isTouched = true
        touched.append(ring)
    }
}
