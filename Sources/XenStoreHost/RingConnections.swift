// What the rings bring and take: bytes from them to the server, and from the server to them.
//
// A ring's turn: a reconnection that is asked for; else unsent output, then waiting requests. Nothing of that
// is the guest's to see yet: the ring is *staged*, with a slot that says how far its two indexes are to move.
// At the turn's end the slots are recorded, and once everything that the ring shows is final (the core's
// `isFinal`) its indexes are published, and the guest is signalled, once. So a request is carried out once
// and a reply written once, whenever the process dies (design, "Rings and restarts").
//
// Invariants:
// - In one turn of the loop at most one ring's worth of bytes (1024) is taken from a ring, and less than two
//   are placed in it, whatever its guest does.
// - A ring has a slot exactly while it is in `staged`, and its page shows the slot's `before` so long. A ring
//   that was staged in an earlier turn is not served.
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
    @exclusivity(unchecked) private var pending = ReusedList<ConnectionID>()
    @exclusivity(unchecked) private var touched = ReusedList<ConnectionID>()
    @exclusivity(unchecked) private var staged = ReusedList<ConnectionID>()
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
                pending.append(ring.connection)
            }
        }
        servePending()
        if domainsChanged { server.domainsChanged() }
    }

    private func servePending() {
        for index in 0..<pending.count {
            if let ring = rings.ring(of: pending[index]) { serve(ring) }
        }
        pending.removeAll()
    }

    /// The server says that something has changed about a ring's connection.
    func settle(_ ring: Ring) {
        if !ring.isActive { return }
        if server.mustClose(ring.connection) {
            stop(ring, .protocol)
            return
        }
        if !ring.isBlocked && !isWaiting(ring) && server.queuedCount(ring.connection) > 0 {
            let isDone = ring.sentTurn == turn && ring.sentCount >= RingPage.ringCount
            if isDone { rings.schedule(ring) } else { place(ring) }
        }
        touch(ring)
    }

    /// Records the slot of every ring that the turn concerns.
    func record() {
        for index in 0..<touched.count {
            guard let ring = rings.ring(of: touched[index]), ring.isActive || ring.slot != nil else {
                continue
            }
            server.recordRing(ring.connection, ring.slot ?? ring.slotAsItStands)
        }
    }

    /// Records where every ring stands, before the first turn.
    func recordEach() {
        for ring in rings.all { server.recordRing(ring.connection, ring.slotAsItStands) }
    }

    /// Ends a turn: publishes what is final, and signals those with whom something was moved. May leave work
    /// for the next turn, but none for the server.
    func endTurn() {
        publishStaged()
        for index in 0..<touched.count {
            guard let ring = rings.ring(of: touched[index]) else { continue }
            ring.isTouched = false
            if ring.needsSignal {
                ring.needsSignal = false
                rings.signal(ring)
            }
            guard ring.isActive, ring.slot == nil else { continue }
            if hypervisor.isLost(ring.page.page) || hasMore(ring) { rings.schedule(ring) }
        }
        touched.removeAll()
    }

    /// Whether there is work on a ring that is published, which no signal may tell of.
    private func hasMore(_ ring: Ring) -> Bool {
        if !ring.isBlocked && server.queuedCount(ring.connection) > 0 { return true }
        return server.wantsInput(ring.connection) && ring.page.requestCount != .moved(0)
    }

    private func publishStaged() {
        if staged.isEmpty { return }
        var waiting = 0
        for index in 0..<staged.count {
            guard let ring = rings.ring(of: staged[index]), let slot = ring.slot else { continue }
            if server.isFinal(ring.connection) {
                publish(ring, slot)
            } else {
                staged[waiting] = ring.connection
                waiting += 1
            }
        }
        staged.keepFirst(waiting)
    }

    private func publish(_ ring: Ring, _ slot: RingSlot) {
        // What its guest has signalled while it waited was left out.
        if isWaiting(ring) { rings.schedule(ring) }
        ring.slot = nil
        if slot.isRestarted {
            rings.restart(ring)
            rings.schedule(ring)
        } else if ring.isActive {
            ring.page.publish(consumed: slot.after.consumed, produced: slot.after.produced)
        } else {
            return
        }
        signalLater(ring)
    }

    // MARK: One ring

    /// Whether the ring waits for what an earlier turn showed to become final.
    private func isWaiting(_ ring: Ring) -> Bool { ring.slot != nil && ring.stagedTurn != turn }

    private func serve(_ ring: Ring) {
        guard ring.isAttached, !isWaiting(ring) else { return }
        if ring.servedTurn == turn { return rings.schedule(ring) }
        ring.servedTurn = turn
        if ring.features.contains(.reconnection), ring.page.isReconnectRequested { return reconnect(ring) }
        guard ring.isActive else { return }
        if server.queuedCount(ring.connection) > 0 {
            place(ring)
            guard ring.isAttached, ring.isActive else { return }
        }
        if server.wantsInput(ring.connection) { receive(ring) }
        if ring.isAttached, ring.isActive, hypervisor.isLost(ring.page.page) { lose(ring) }
    }

    /// The ring's slot of this turn, to be moved on.
    private func stage(_ ring: Ring) -> RingSlot {
        if let slot = ring.slot { return slot }
        let slot = ring.slotAsItStands
        ring.slot = slot
        ring.stagedTurn = turn
        staged.append(ring.connection)
        touch(ring)
        return slot
    }

    private func receive(_ ring: Ring) {
        let consumed = ring.slot?.after.consumed ?? ring.page.positions.consumed
        switch ring.page.look(at: consumed, into: buffer) {
        case .moved(0): break
        case .moved(let count):
            var slot = stage(ring)
            slot.after.consumed = consumed &+ UInt32(count)
            ring.slot = slot
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            bytes.withMemoryRebound(to: UInt8.self) { server.receive(ring.connection, $0.span) }
        case .badIndex: breakOff(ring)
        }
    }

    private func place(_ ring: Ring) {
        if ring.slot?.isRestarted == true { return }
        if ring.sentTurn != turn { (ring.sentTurn, ring.sentCount) = (turn, 0) }
        let produced = ring.slot?.after.produced ?? ring.page.positions.produced
        var offered = 0
        var outcome = RingPage.Outcome.moved(0)
        server.withQueued(ring.connection) { bytes in
            offered = bytes.count
            outcome = ring.page.place(bytes, at: produced)
        }
        switch outcome {
        case .moved(0): ring.isBlocked = true
        case .moved(let count):
            var slot = stage(ring)
            slot.after.produced = produced &+ UInt32(count)
            ring.slot = slot
            ring.sentCount += count
            ring.isBlocked = count < offered
            if ring.isBlocked { rings.schedule(ring) }
            server.sent(ring.connection, count)
        case .badIndex: breakOff(ring)
        }
    }

    /// The guest has asked for a new beginning, which it gets once that is recorded.
    private func reconnect(_ ring: Ring) {
        server.reconnect(ring.connection)
        guard ring.isAttached else { return }
        var slot = stage(ring)
        slot.after = RingPositions(consumed: 0, produced: 0)
        slot.isRestarted = true
        ring.slot = slot
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
        touched.append(ring.connection)
    }
}
