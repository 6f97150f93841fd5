// A machine without Xen, for tests: domains, their pages and their guests' side live in here, and a test
// drives them over the first serial port (Tests/Stubdom).
//
// Both directions carry frames, little-endian:
//
//     offset  size  meaning
//     0       1     kind, as below
//     1       1     0
//     2       2     domain
//     4       4     bytes that follow
//
//     to us                                       from us
//     1  the domain is created anew               4  bytes that its guest has got from the ring
//     2  its flags: 2 dying, 4 shut down          9  frames up to kind 9 are carried out; once at first
//     3  it is gone                               11 figures: u64 each, in the order of `reportFigures`
//     4  bytes for its guest to put into the ring 12 the error word of its page, which has changed
//     5  VIRQ_DOM_EXC
//     6  its guest asks for a reconnection
//     7  its guest writes an index that cannot be
//     8  no ring can be attached (1), or can (0)
//     9  answer when there is nothing more to do
//     10 power off
//     11 tell the figures
//     13 a series of requests for its guest to make: u32 number of the first, u32 behind the last, then one
//        whole request in which `#####` becomes the number, in five digits
//     12 a mistake of the code's own: u8, as in SimulatedMistake

import CMachine
import XenStore
import XenStoreRing
import XenStoreTypes

/// A domain, and its guest's side of the ring.
private final class SimulatedDomain {
    let id: DomainID
    let page: RingPage
    let uniqueID: UInt64
    var flags: UInt8 = 0
    /// What the guest still wants to put into the ring.
    var unsent: [UInt8] = []
    /// Requests that it makes by itself: one that stands for all, with the number of the next and behind the
    /// last.
    var series: (request: [UInt8], next: UInt32, end: UInt32) = ([], 0, 0)
    /// Our local port for it; 0: not bound.
    var port: UInt32 = 0
    var error: UInt32 = 0

    private let pages: SimulatedPages

    init(_ id: DomainID, uniqueID: UInt64, _ pages: SimulatedPages) {
        self.id = id
        self.uniqueID = uniqueID
        self.pages = pages
        let memory = pages.take()
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: RingPage.byteCount)
        page = RingPage(memory)
    }

    deinit { pages.give(page.page) }
}

/// Where the domains' pages are: outside of the kernel's memory, as under Xen, if the machine has more; else
/// in the heap.
private final class SimulatedPages {
    private var next: UInt
    private let end: UInt
    private var free: [UnsafeMutableRawPointer] = []

    init(_ place: (start: UInt, end: UInt)) {
        next = (place.start + 4095) & ~4095
        end = place.end
    }

    func take() -> UnsafeMutableRawPointer {
        if let page = free.popLast() { return page }
        guard next + 4096 <= end, let page = UnsafeMutableRawPointer(bitPattern: next) else {
            return UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        }
        next += 4096
        return page
    }

    func give(_ page: UnsafeMutableRawPointer) { free.append(page) }
}

final class SimulatedHypervisor: Hypervisor {
    private var domains: [UInt16: SimulatedDomain] = [:]
    /// Those whose page is mapped: they live as long, as under Xen.
    private var mapped: [UInt: SimulatedDomain] = [:]
    private var ports: [SimulatedDomain?] = [nil, nil]
    private var pending: [UInt32] = []
    private var input: [UInt8] = []
    private var nextUnique: UInt64 = 1
    private var isUnattachable = false
    /// Ticks that the guests and the machine have taken, which under Xen are not ours, since this was asked.
    private var foreign: UInt64 = 0
    /// The turn at hand began with an event, not only with bytes of the test's.
    private(set) var isWoken = false
    private var domainsChanged = false
    /// The first one says that the serial port is open.
    private var answersDue = 1
    private var time: UInt64 = 0
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: RingPage.ringCount, alignment: 16)
    private let pages: SimulatedPages

    let ownDomain = DomainID(99)
    let domainPort: UInt32 = 1
    /// What the loop has spent on turns that did something, in ticks of the time stamp counter.
    var busy: UInt64 = 0 {
        didSet { if hasAnswered && answeredAfter == 0 { answeredAfter = startedAfter + busy } }
    }
    /// Ticks from the entry until the loop began, and until the first reply was there; waiting does not
    /// count.
    var startedAfter: UInt64 = 0
    private var answeredAfter: UInt64 = 0
    private var hasAnswered = false

    /// `spare`: memory for the domains' pages, which may be empty.
    init(_ spare: (start: UInt, end: UInt)) {
        pages = SimulatedPages(spare)
        Serial.open()
        create(.zero)
    }

    private func create(_ id: DomainID) {
        domains[id.rawValue] = SimulatedDomain(id, uniqueID: nextUnique, pages)
        nextUnique += 1
    }

    // MARK: Hypervisor

    /// qemu's time stamp counter goes up by one a nanosecond.
    var now: UInt64 {
        time = max(time, machine_time_stamp())
        return time
    }

    func takeForeign() -> UInt64 {
        defer { foreign = 0 }
        return foreign
    }

    func takePending(_ body: (UInt32) -> Void) {
        let start = machine_time_stamp()
        readFrames()
        isWoken = domainsChanged || !pending.isEmpty
        foreign += machine_time_stamp() - start
        if domainsChanged {
            domainsChanged = false
            body(domainPort)
        }
        let taken = pending
        pending.removeAll(keepingCapacity: true)
        for port in taken { body(port) }
    }

    func wait(until deadline: UInt64?) {
        while pending.isEmpty && !domainsChanged {
            if answersDue > 0 {
                answersDue -= 1
                reportErrors()
                Serial.send(9, .zero, [])
                continue
            }
            if Serial.isReadable { return }
            guard let deadline else { return machine_wait() }
            if now >= deadline { return }
            machine_pause()
        }
    }

    func bind(_ domain: DomainID, remotePort: UInt32) throws(Failure) -> UInt32 {
        if isUnattachable { throw Failure("the test lets nothing be attached") }
        guard let guest = domains[domain.rawValue] else { throw Failure("no domain ", Int(domain.rawValue)) }
        // Of domain 0's ports the test's command line tells, which may be wrong.
        if domain == .zero && remotePort != 1 {
            throw Failure("cannot bind event channel port ", Int(remotePort), code: -22)
        }
        var port = 2
        while port < ports.count && ports[port] != nil { port += 1 }
        if port == ports.count { ports.append(nil) }
        ports[port] = guest
        guest.port = UInt32(port)
        return guest.port
    }

    func unbind(_ port: UInt32) {
        ports[Int(port)]?.port = 0
        ports[Int(port)] = nil
    }

    func notify(_ port: UInt32) {
        let start = machine_time_stamp()
        defer { foreign += machine_time_stamp() - start }
        guard let guest = ports[Int(port)] else { return }
        while case .moved(let count) = guest.page.receiveResponse(into: buffer), count > 0 {
            hasAnswered = true
            Serial.send(4, guest.id, UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            // As Linux does: who has made room in a full ring says so, and nobody else.
            if count == RingPage.ringCount { pending.append(port) }
        }
        push(guest)
    }

    func domain(_ id: DomainID) -> DomainIdentity? {
        domains[id.rawValue].map {
            DomainIdentity(
                uniqueID: $0.uniqueID, isShutdown: $0.flags & 4 != 0, isDying: $0.flags & 2 != 0)
        }
    }

    func map(_ domain: DomainID) throws(Failure) -> UnsafeMutableRawPointer {
        guard let guest = domains[domain.rawValue] else { throw Failure("no domain ", Int(domain.rawValue)) }
        mapped[UInt(bitPattern: guest.page.page)] = guest
        return guest.page.page
    }

    func unmap(_ page: UnsafeMutableRawPointer) { mapped[UInt(bitPattern: page)] = nil }

    // MARK: Guests

    /// Puts what a guest has to say into its ring, as far as there is room.
    private func push(_ guest: SimulatedDomain) {
        while guest.unsent.count < 1024 && guest.series.next < guest.series.end { extend(guest) }
        if guest.unsent.isEmpty || guest.port == 0 || guest.page.isReconnectRequested { return }
        let unsent = guest.unsent
        guard case .moved(let count) = guest.page.sendRequest(unsent.span), count > 0 else { return }
        guest.unsent.removeFirst(count)
        pending.append(guest.port)
    }

    /// Adds the next request of a series.
    private func extend(_ guest: SimulatedDomain) {
        var digits = guest.series.next
        var written = 0
        defer { guest.series.next += 1 }
        let start = guest.unsent.count
        guest.unsent.append(contentsOf: guest.series.request)
        // The last mark first, and the last digit first.
        var index = guest.unsent.count - 1
        while index >= start {
            if guest.unsent[index] == 0x23 {
                if written % 5 == 0 { digits = guest.series.next }
                guest.unsent[index] = 0x30 + UInt8(digits % 10)
                digits /= 10
                written += 1
            }
            index -= 1
        }
    }

    // MARK: Frames

    private func readFrames() {
        while Serial.isReadable && input.count < 65536 { input.append(Serial.read()) }
        var used = 0
        while input.count - used >= 8 {
            let head = input[used..<used + 8].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
            let count = Int(head >> 32)
            if input.count - used - 8 < count { break }
            let body = Array(input[(used + 8)..<(used + 8 + count)])
            carryOut(UInt8(truncatingIfNeeded: head), DomainID(UInt16(truncatingIfNeeded: head >> 16)), body)
            used += 8 + count
        }
        input.removeFirst(used)
    }

    private func carryOut(_ kind: UInt8, _ id: DomainID, _ body: [UInt8]) {
        switch kind {
        case 1: create(id)
        case 2: domains[id.rawValue]?.flags = body[0]
        case 3: domains[id.rawValue] = nil
        case 4...7:
            if kind == 5 { domainsChanged = true }
            guard let guest = domains[id.rawValue], kind != 5 else { return }
            actAsGuest(kind, guest, body)
        case 8: isUnattachable = body[0] != 0
        case 9: answersDue += 1
        case 13:
            guard let guest = domains[id.rawValue], guest.port != 0, body.count > 8 else { return }
            let (first, end) = body.withUnsafeBytes {
                ($0.loadUnaligned(as: UInt32.self), $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            }
            guest.series = (Array(body[8...]), first, end)
            push(guest)
        case 10: shutDown(.powerOff)
        case 11: reportFigures()
        default: SimulatedMistake(rawValue: body.first ?? 0)?.make(body)
        }
    }

    private func actAsGuest(_ kind: UInt8, _ guest: SimulatedDomain, _ body: [UInt8]) {
        if kind == 4 {
            // Nobody listens to it.
            if guest.port == 0 { return }
            guest.unsent.append(contentsOf: body)
            return push(guest)
        }
        guest.unsent.removeAll()
        if kind == 6 {
            guest.page.requestReconnection()
        } else {
            let consumed = guest.page.positions.consumed
            machine_store32(guest.page.page + 2052, consumed &+ 5000)
        }
        if guest.port != 0 { pending.append(guest.port) }
    }

    private func reportErrors() {
        for guest in domains.values where guest.page.error != guest.error {
            guest.error = guest.page.error
            withUnsafeBytes(of: guest.error) { Serial.send(12, guest.id, $0) }
        }
    }

    /// Memory in bytes (all, free, in one piece), busy ticks, ticks until the loop began and until the first
    /// reply.
    private func reportFigures() {
        var figures: [UInt64] = []
        figures.append(UInt64(heap?.total ?? 0))
        figures.append(UInt64(heap?.free ?? 0))
        figures.append(UInt64(heap?.largest() ?? 0))
        figures.append(busy)
        figures.append(startedAfter)
        figures.append(answeredAfter)
        figures.withUnsafeBytes { Serial.send(11, .zero, $0) }
    }
}
