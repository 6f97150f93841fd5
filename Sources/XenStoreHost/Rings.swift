// The rings that are attached: which page, which event channel and which connection belong to which domain.
//
// The core attaches and detaches them through `HostWorld`, while it carries out a request; so nothing here
// calls the server. What the rings bring is moved by `RingConnections`.
//
// Invariants:
// - A ring is in `byDomain` and `byConnection` from `attach` to `detach`, and its page is mapped so long.
// - It is in `byPort` while its event channel is bound: always, unless a reattachment has failed.
// - `scheduled` names each ring by its connection, and perhaps some that are detached: such a number is
//   nobody's, or another ring's by now, which is then looked at for nothing, or twice.

import XenStore
import XenStoreRing
import XenStoreTypes

/// A domain's shared page, event channel and connection. State that is about one turn of the loop belongs to
/// `RingConnections`.
final class Ring {
    let domain: DomainID
    let connection: ConnectionID
    let page: RingPage
    /// Nil: no event channel is bound.
    fileprivate(set) var port: UInt32?
    fileprivate(set) var features: RingFeatures = []
    fileprivate(set) var isAttached = true
    fileprivate(set) var isScheduled = false

    /// The guest keeps the protocol: bytes are moved. If not, it may only ask for a reconnection.
    var isActive = true
    /// The response ring was full when we looked last, so the guest will signal when it has made room.
    var isBlocked = false
    /// How far the ring's indexes are to move once that may be seen (RingConnections); nil: they stand.
    var slot: RingSlot?
    var stagedTurn: UInt32 = 0
    /// The turn of the last service.
    var servedTurn: UInt32 = 0
    /// The turn of the last sending, and how many bytes it has sent so far.
    var sentTurn: UInt32 = 0
    var sentCount = 0
    /// Stands in the list of those that the end of the turn concerns.
    var isTouched = false
    /// The end of the turn must signal the guest.
    var needsSignal = false

    /// A slot that moves nothing.
    var slotAsItStands: RingSlot {
        let (consumed, produced) = page.positions
        let positions = RingPositions(consumed: consumed, produced: produced)
        return RingSlot(before: positions, after: positions)
    }

    fileprivate init(_ domain: DomainID, _ connection: ConnectionID, _ page: RingPage) {
        self.domain = domain
        self.connection = connection
        self.page = page
    }
}

/// What the page offers to the guest (specification, section B). The core decides about the other bits.
struct RingFeatures: OptionSet {
    let rawValue: UInt32
    /// The connection word is looked at.
    static let reconnection = RingFeatures(rawValue: 1)
    /// The error word is written.
    static let error = RingFeatures(rawValue: 2)
}

/// All attached rings of a host.
final class Rings {
    let hypervisor: any Hypervisor
    /// The ring of the daemon's own domain, mapped before it is attached, and by no frame number.
    var own: (domain: DomainID, page: UnsafeMutableRawPointer)?
    private var byDomain: [DomainID: Ring] = [:]
    // Every request comes by here: checking at run time that nobody else is at these costs more than the
    // rest.
    @exclusivity(unchecked) private var byConnection: [Ring?] = []
    @exclusivity(unchecked) private var byPort: [Ring?] = []
    @exclusivity(unchecked) private var scheduled = ReusedList<ConnectionID>()

    init(_ hypervisor: any Hypervisor) { self.hypervisor = hypervisor }

    var count: Int { byDomain.count }
    var all: [Ring] { byConnection.compactMap { $0 } }

    func isAttached(_ domain: DomainID) -> Bool { byDomain[domain] != nil }

    func ring(of connection: ConnectionID) -> Ring? {
        let index = Int(connection.rawValue)
        return index < byConnection.count ? byConnection[index] : nil
    }

    func ring(at port: UInt32) -> Ring? { port < byPort.count ? byPort[Int(port)] : nil }

    // MARK: Attaching

    /// Makes a domain's ring known (`World.attach`). Fails with nothing left behind.
    func attach(
        _ domain: DomainID, _ connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(HypervisorFailure) {
        let ring = try attach(domain, connection, gfn, port)
        begin(ring, features, keeping: domain == own?.domain)
    }

    /// Goes on with a ring of an earlier daemon (`World.resume`).
    func resume(
        _ domain: DomainID, _ connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32,
        slot: RingSlot?, isActive: Bool
    ) throws(HypervisorFailure) -> Bool {
        let ring = try attach(domain, connection, gfn, port)
        let isIntact = Self.bring(ring, to: slot)
        begin(ring, features, keeping: true)
        ring.isActive = isActive
        return isIntact
    }

    /// Brings a ring's indexes to where its slot says that they were to be. False: they are neither there nor
    /// where they were before, so the guest has begun the ring anew.
    private static func bring(_ ring: Ring, to slot: RingSlot?) -> Bool {
        guard let slot else { return true }
        let (consumed, produced) = ring.page.positions
        let isHere =
            (consumed == slot.before.consumed || consumed == slot.after.consumed)
            && (produced == slot.before.produced || produced == slot.after.produced)
        if !isHere { return false }
        let isThere = consumed == slot.after.consumed && produced == slot.after.produced
        if slot.isRestarted && !isThere {
            ring.page.reset()
            ring.page.confirmConnection()
        } else {
            ring.page.publish(consumed: slot.after.consumed, produced: slot.after.produced)
        }
        return true
    }

    private func attach(
        _ domain: DomainID, _ connection: ConnectionID, _ gfn: UInt64, _ port: UInt32
    ) throws(HypervisorFailure) -> Ring {
        let ring = Ring(domain, connection, RingPage(try map(domain, gfn)))
        let named = ring.page.eventChannelPort
        do throws(HypervisorFailure) {
            try bind(ring, named != 0 ? named : port)
        } catch {
            unmap(ring)
            throw error
        }
        byDomain[domain] = ring
        Self.enter(ring, &byConnection, Int(connection.rawValue))
        return ring
    }

    /// The same for a domain that is attached (`World.reattach`). If it fails the ring lies still until the
    /// next one.
    func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(HypervisorFailure) {
        guard let ring = byDomain[domain] else {
            throw HypervisorFailure("domain \(domain.rawValue) is not attached")
        }
        ring.isActive = false
        ring.slot = nil
        unbind(ring)
        if hypervisor.isLost(ring.page.page) { try hypervisor.restore(ring.page.page) }
        try bind(ring, port)
        begin(ring, features)
    }

    /// Forgets a domain's ring (`World.detach`).
    func detach(_ domain: DomainID) {
        guard let ring = byDomain.removeValue(forKey: domain) else { return }
        ring.isAttached = false
        byConnection[Int(ring.connection.rawValue)] = nil
        unbind(ring)
        unmap(ring)
    }

    func detachAll() {
        for domain in Array(byDomain.keys) { detach(domain) }
    }

    private func map(_ domain: DomainID, _ gfn: UInt64) throws(HypervisorFailure) -> UnsafeMutableRawPointer {
        if let own, own.domain == domain { return own.page }
        return try hypervisor.map(domain, gfn: gfn)
    }

    /// The daemon's own ring stays mapped: nothing could map it anew.
    private func unmap(_ ring: Ring) {
        if own?.page != ring.page.page { hypervisor.unmap(ring.page.page) }
    }

    private func bind(_ ring: Ring, _ remotePort: UInt32) throws(HypervisorFailure) {
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

    /// A ring that is open for requests: empty, or `keeping` what is in it, since the kernel beside us has
    /// put requests there before we started, and waits for their replies. The guest may have signalled before
    /// we listened.
    private func begin(_ ring: Ring, _ features: UInt32, keeping: Bool = false) {
        ring.features = RingFeatures(rawValue: features)
        ring.page.setFeatures(features)
        if !keeping { restart(ring) }
        signal(ring)
        schedule(ring)
    }

    private static func enter(_ ring: Ring, _ table: inout [Ring?], _ index: Int) {
        let missing = index + 1 - table.count
        if missing > 0 { table.append(contentsOf: repeatElement(nil, count: missing)) }
        table[index] = ring
    }

    // MARK: For the traffic

    /// Both directions begin anew; the guest sees so.
    func restart(_ ring: Ring) {
        ring.page.reset()
        ring.page.confirmConnection()
        ring.isActive = true
        ring.isBlocked = false
    }

    func signal(_ ring: Ring) {
        if let port = ring.port { hypervisor.notify(port) }
    }

    /// The ring is to be served in the next turn, whether its event channel is pending or not.
    func schedule(_ ring: Ring) {
        if ring.isScheduled { return }
        ring.isScheduled = true
        scheduled.append(ring.connection)
    }

    var hasScheduled: Bool { !scheduled.isEmpty }

    /// Puts the connections of those that are scheduled into `rings`, which is empty; nothing is scheduled
    /// afterwards.
    func takeScheduled(_ rings: inout ReusedList<ConnectionID>) {
        // The two lists take turns, so that none is ever allocated anew.
        swap(&rings, &scheduled)
        for index in 0..<rings.count { ring(of: rings[index])?.isScheduled = false }
    }
}
