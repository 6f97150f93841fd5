// The rings that are attached, and what they bring and take.
//
// The store ends with this domain, so nothing has to be kept before it is seen: a ring's indexes move as soon
// as bytes have. (The daemon of dom0 does it in two steps: XenStoreHost, RingConnections.)
//
// Invariants:
// - A ring is in `byConnection` from `attach` to `detach`, and its page is mapped so long. It is in `byPort`
//   while its event channel is bound: always, unless a reattachment has failed.
// - In one turn at most one ring's worth of bytes (1024) is taken from a ring, and less than two are put into
//   it, whatever its guest does.
// - Each look at the indexes that moved something is followed by another one, in a later turn or after the
//   signal, before the ring is left to its event channel (XenStoreRing, "Sleeping").
// - A ring that is not active moves nothing. It is active again after a reconnection or INTRODUCE.
// - Every call of the server may attach and detach rings, the one at hand too.

import XenStore
import XenStoreRing
import XenStoreTypes

/// A domain's shared page, event channel and connection.
final class Ring {
    let domain: DomainID
    let connection: ConnectionID
    let page: RingPage
    fileprivate(set) var port: UInt32?
    /// Bit 0: the connection word is looked at; bit 1: the error word is written (specification, section B).
    fileprivate(set) var features: UInt32 = 0
    fileprivate(set) var isAttached = true
    /// The guest keeps the protocol. If not, it may only ask for a reconnection.
    fileprivate(set) var isActive = true
    /// The response ring was full when we looked last, so the guest will signal when it has made room.
    fileprivate var isBlocked = false
    /// It stands in `scheduled` or in `held`.
    fileprivate var isScheduled = false
    fileprivate var isTouched = false
    fileprivate var needsSignal = false
    /// The turn that it is served in, or was.
    fileprivate var servedTurn: UInt64 = 0
    /// The turn of the last sending, and how many bytes it has sent so far.
    fileprivate var sentTurn: UInt64 = 0
    fileprivate var sentCount = 0

    fileprivate init(_ domain: DomainID, _ connection: ConnectionID, _ page: RingPage) {
        self.domain = domain
        self.connection = connection
        self.page = page
    }
}

/// All attached rings.
final class Rings {
    let hypervisor: any Hypervisor
    private var byConnection: [Ring?] = []
    private var byPort: [Ring?] = []
    private var scheduled: [Ring] = []
    private var serving: [Ring] = []
    private var touched: [Ring] = []
    private var turn: UInt64 = 0
    /// Rings that have something, but are not served while memory is short; in `scheduled` again after that.
    private var held: [Ring] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: RingPage.ringCount, alignment: 16)

    init(_ hypervisor: any Hypervisor) { self.hypervisor = hypervisor }

    func ring(of connection: ConnectionID) -> Ring? {
        let index = Int(connection.rawValue)
        return index < byConnection.count ? byConnection[index] : nil
    }

    private func ring(of domain: DomainID) -> Ring? {
        for case .some(let ring) in byConnection where ring.domain == domain { return ring }
        return nil
    }

    // MARK: Attaching

    /// Makes a domain's ring known (`World.attach`). `keeping` what is in it: dom0's kernel has put requests
    /// there before we started; it waits for their replies and is signalled after those. Fails with nothing
    /// left behind.
    func attach(
        _ domain: DomainID, _ connection: ConnectionID, port: UInt32, features: UInt32, keeping: Bool
    ) throws(Failure) {
        let ring = Ring(domain, connection, RingPage(try hypervisor.map(domain)))
        let named = ring.page.eventChannelPort
        do throws(Failure) {
            try bind(ring, named != 0 ? named : port)
        } catch {
            hypervisor.unmap(ring.page.page)
            throw error
        }
        Self.enter(ring, &byConnection, Int(connection.rawValue))
        ring.features = features
        ring.page.setFeatures(features)
        if !keeping { return begin(ring) }
        schedule(ring)
        signalLater(ring)
    }

    /// The same for a domain that is attached (`World.reattach`).
    func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(Failure) {
        guard let ring = ring(of: domain) else { throw Failure("the domain has no ring") }
        ring.isActive = false
        unbind(ring)
        do throws(Failure) {
            try bind(ring, port)
        } catch {
            if features & 2 != 0 { ring.page.setError(.communication) }
            throw error
        }
        ring.features = features
        ring.page.setFeatures(features)
        begin(ring)
    }

    /// Unmaps and unbinds at once: a mapping keeps a dead domain from going away.
    func detach(_ domain: DomainID) {
        guard let ring = ring(of: domain) else { return }
        unbind(ring)
        ring.isAttached = false
        byConnection[Int(ring.connection.rawValue)] = nil
        hypervisor.unmap(ring.page.page)
    }

    private func bind(_ ring: Ring, _ remotePort: UInt32) throws(Failure) {
        let port = try hypervisor.bind(ring.domain, remotePort: remotePort)
        ring.port = port
        Self.enter(ring, &byPort, Int(port))
    }

    private func unbind(_ ring: Ring) {
        guard let port = ring.port else { return }
        byPort[Int(port)] = nil
        ring.port = nil
        hypervisor.unbind(port)
    }

    /// Both directions begin anew; the guest is told, and may have signalled before we listened.
    private func begin(_ ring: Ring) {
        ring.page.reset()
        ring.page.confirmConnection()
        ring.isActive = true
        ring.isBlocked = false
        signal(ring)
        schedule(ring)
    }

    private static func enter(_ ring: Ring, _ table: inout [Ring?], _ index: Int) {
        while table.count <= index { table.append(nil) }
        table[index] = ring
    }

    // MARK: The turn

    var hasWork: Bool { !scheduled.isEmpty }
    /// Some rings wait for memory, of which no event will tell.
    var isHolding: Bool { !held.isEmpty }

    /// Serves the rings with more work than the last turn allowed, then those whose event channels are
    /// pending; where memory `isStarved`, only the one of domain `privileged`. Answers whether a domain has
    /// ended.
    func beginTurn(_ server: Server, isStarved: Bool, privileged: DomainID) -> Bool {
        turn += 1
        if !isStarved && !held.isEmpty {
            for ring in held {
                ring.isScheduled = false
                schedule(ring)
            }
            held.removeAll()
        }
        swap(&serving, &scheduled)
        for ring in serving {
            ring.isScheduled = false
            ring.servedTurn = turn
        }
        var domainsChanged = false
        hypervisor.takePending { port in
            if port == hypervisor.domainPort {
                domainsChanged = true
            } else if Int(port) < byPort.count, let ring = byPort[Int(port)], ring.servedTurn != turn {
                ring.servedTurn = turn
                serving.append(ring)
            }
        }
        for ring in serving {
            if isStarved && ring.domain != privileged { hold(ring) } else { serve(ring, server) }
        }
        serving.removeAll(keepingCapacity: true)
        return domainsChanged
    }

    /// The server says that something has changed about a ring's connection.
    func settle(_ ring: Ring, _ server: Server) {
        if !ring.isActive { return }
        if server.mustClose(ring.connection) { return stop(ring, .protocol) }
        if !ring.isBlocked { send(ring, server) }
        touch(ring)
    }

    /// Signals those with whom something was moved, and looks again at each of them.
    func endTurn(_ server: Server) {
        for ring in touched {
            ring.isTouched = false
            if !ring.isAttached { continue }
            if ring.needsSignal {
                ring.needsSignal = false
                signal(ring)
            }
            if ring.isActive && hasMore(ring, server) { schedule(ring) }
        }
        touched.removeAll(keepingCapacity: true)
    }

    private func hasMore(_ ring: Ring, _ server: Server) -> Bool {
        if !ring.isBlocked && server.queuedCount(ring.connection) > 0 { return true }
        return server.wantsInput(ring.connection) && ring.page.requestCount != .moved(0)
    }

    // MARK: One ring

    private func hold(_ ring: Ring) {
        if ring.isScheduled { return }
        ring.isScheduled = true
        held.append(ring)
    }

    private func serve(_ ring: Ring, _ server: Server) {
        guard ring.isAttached else { return }
        if ring.features & 1 != 0, ring.page.isReconnectRequested {
            server.reconnect(ring.connection)
            if ring.isAttached { begin(ring) }
            return
        }
        guard ring.isActive else { return }
        ring.isBlocked = false
        send(ring, server)
        guard ring.isAttached, ring.isActive else { return }
        if server.wantsInput(ring.connection) { receive(ring, server) }
    }

    private func receive(_ ring: Ring, _ server: Server) {
        switch ring.page.receive(into: buffer) {
        case .moved(0): break
        case .moved(let count):
            signalLater(ring)
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
            bytes.withMemoryRebound(to: UInt8.self) { server.receive(ring.connection, $0.span) }
        case .badIndex: breakOff(ring, server)
        }
    }

    private func send(_ ring: Ring, _ server: Server) {
        if ring.sentTurn != turn { (ring.sentTurn, ring.sentCount) = (turn, 0) }
        if ring.sentCount >= RingPage.ringCount { return touch(ring) }
        var offered = 0
        var outcome = RingPage.Outcome.moved(0)
        server.withQueued(ring.connection) { bytes in
            offered = bytes.count
            if offered > 0 { outcome = ring.page.send(bytes) }
        }
        switch outcome {
        case .moved(let count):
            ring.isBlocked = count < offered
            if count == 0 { return }
            ring.sentCount += count
            signalLater(ring)
            // What is left is looked at once more, after the signal.
            if ring.isBlocked { schedule(ring) }
            server.sent(ring.connection, count)
        case .badIndex: breakOff(ring, server)
        }
    }

    /// The indexes are no ring's.
    private func breakOff(_ ring: Ring, _ server: Server) {
        stop(ring, .badIndex)
        server.deactivate(ring.connection)
    }

    /// Nothing is moved any more; the guest is told why.
    private func stop(_ ring: Ring, _ error: RingError) {
        ring.isActive = false
        if ring.features & 2 != 0 { ring.page.setError(error) }
        signalLater(ring)
    }

    private func signal(_ ring: Ring) {
        if let port = ring.port { hypervisor.notify(port) }
    }

    private func schedule(_ ring: Ring) {
        if ring.isScheduled { return }
        ring.isScheduled = true
        scheduled.append(ring)
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
