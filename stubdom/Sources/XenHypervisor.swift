// Xen, by hypercalls: events, grants, time, domains.
//
// Invariants:
// - A window slot is in `freeSlots`, has never been used, is the place of one mapped page, or is lost since
//   Xen did not unmap it.
//
// shared_info, as far as we use it (XenEvents.swift has what is about events):
//
//     offset  size  meaning
//     32      32    time: u32 version, u32 0, u64 tsc, u64 nanoseconds at that tsc, u32 factor, i8 shift

import CMachine
import XenStore
import XenStoreTypes

final class XenHypervisor: Hypervisor {
    /// Where granted pages are mapped: free guest-physical pages above RAM, inside what is mapped one to one.
    private let window: (start: UInt, slots: Int)
    private var freeSlots: [UInt32] = []
    private var usedSlots = 0
    /// Xen's handle of each slot's page.
    private var handles: [UInt32] = []
    private let shared: UnsafeMutableRawPointer
    private let events: XenEvents
    private let domains: XenDomains
    private var timerIsSet = false
    /// When domains are looked at again, since Xen did not tell of one; nil: there is no need.
    private var nextLook: UInt64?
    private var complaints = ComplaintLimit()
    let ownDomain: DomainID
    private(set) var domainPort: UInt32 = 0
    private var timerPort: UInt32 = 0

    private static let timeOffset = 32
    /// Between two looks at domains of which Xen did not tell, in nanoseconds.
    private static let lookPause: UInt64 = 1_000_000_000

    /// The end of RAM: what Xen has given us, less the special pages, which lie elsewhere.
    static var memoryEnd: UInt {
        let arguments = Arguments()
        arguments.set(0, Hypercall.me)
        let pages = Hypercall.call(.memory, 3, arguments)
        if pages < 64 { stop("Xen tells no reservation of memory: ", pages) }
        return min(UInt(pages - 8) * 4096, 3 << 30)
    }

    /// Sets events up. `memoryEnd`: where RAM ends.
    init(memoryEnd: UInt) throws(Failure) {
        let windowStart = (memoryEnd + 0x1F_FFFF) & ~0x1F_FFFF
        window = (windowStart, min(Int(DomainID.firstReserved), Int(0xF000_0000 - windowStart) / 4096))
        guard let number = Hypercall.ownDomain else {
            throw Failure("Xen's cpuid does not tell our domain id")
        }
        ownDomain = DomainID(number)
        domains = try XenDomains()
        shared = machine_place_shared_page()!  // An address of the image.
        try Self.mapShared(shared)
        events = try XenEvents(shared)
        try setParameter(0, 2 << 56 | UInt64(Machine.eventVector), "cannot set the event vector")
        domainPort = try events.bindVirtual(3)
        timerPort = try events.bindVirtual(0)
        Console.beginLine("notice")
        Console.put("event channels by the ")
        Console.put(events.usesQueues ? "FIFO ABI" : "2-level ABI")
        Console.endLine()
    }

    private static func mapShared(_ shared: UnsafeMutableRawPointer) throws(Failure) {
        let arguments = Arguments()
        arguments.set(0, Hypercall.me)
        arguments.set(16, UInt64(UInt(bitPattern: shared) / 4096))
        let code = Hypercall.call(.memory, 7, arguments)
        if code != 0 { throw Failure("cannot map shared_info", code: code) }
    }

    // MARK: Parameters

    private func setParameter(_ index: UInt32, _ value: UInt64, _ what: StaticString) throws(Failure) {
        let arguments = Arguments()
        arguments.set(0, Hypercall.me)
        arguments.set(4, index)
        arguments.set(8, value)
        let code = Hypercall.call(.hvm, 0, arguments)
        if code != 0 { throw Failure(what, code: code) }
    }

    private static func parameter(_ index: UInt32) -> UInt64? {
        let arguments = Arguments()
        arguments.set(0, Hypercall.me)
        arguments.set(4, index)
        return Hypercall.call(.hvm, 1, arguments) == 0 ? arguments.get(8, UInt64.self) : nil
    }

    /// Sends text to the domain's console ring from now on, if it has one.
    static func attachConsole() {
        guard let page = parameter(17), page != 0, page < 1 << 20, let port = parameter(18) else { return }
        guard let ring = UnsafeMutableRawPointer(bitPattern: UInt(page) * 4096) else { return }
        Console.attach(ring, port: UInt32(truncatingIfNeeded: port))
    }

    // MARK: Event channels

    func bind(_ domain: DomainID, remotePort: UInt32) throws(Failure) -> UInt32 {
        try events.bind(domain, remotePort: remotePort)
    }

    func unbind(_ port: UInt32) {
        do throws(Failure) { try events.unbind(port) } catch { complain(error) }
    }

    func notify(_ port: UInt32) {
        do throws(Failure) { try events.notify(port) } catch { complain(error) }
    }

    func takePending(_ body: (UInt32) -> Void) {
        events.take { port in if port != timerPort { body(port) } }
        guard let time = nextLook, now >= time else { return }
        nextLook = nil
        body(domainPort)
    }

    /// What fails while running is told, but not without end.
    @inline(never) private func complain(_ failure: Failure) {
        if !complaints.allows(at: now) { return }
        Console.beginLine("error")
        failure.put()
        Console.endLine()
    }

    // MARK: Time

    var now: UInt64 {
        let time = shared + Self.timeOffset
        while true {
            let version = machine_load32(time)
            let stamp = machine_load64(time + 8)
            let start = machine_load64(time + 16)
            let factor = UInt64(machine_load32(time + 24))
            let shift = (time + 28).load(as: Int8.self)
            let passed = machine_time_stamp() &- stamp
            if version & 1 != 0 || version != machine_load32(time) { continue }
            let shifted = shift < 0 ? passed >> UInt64(-shift) : passed << UInt64(shift)
            let product = shifted.multipliedFullWidth(by: factor)
            return start &+ (product.high << 32 | product.low >> 32)
        }
    }

    func wait(until deadline: UInt64?) {
        if events.hasMore { return }
        if let deadline = nextLook.map({ min($0, deadline ?? .max) }) ?? deadline {
            // 0 would mean never.
            let code = Hypercall.call(.setTimer, max(deadline, 1))
            if code != 0 { complain(Failure("cannot set the timer", code: code)) }
            timerIsSet = true
        } else if timerIsSet {
            Hypercall.call(.setTimer, 0)
            timerIsSet = false
        }
        machine_wait()
    }

    // MARK: Domains

    func domain(_ id: DomainID) -> DomainIdentity? {
        do throws(Failure) {
            return try domains.identity(id)
        } catch {
            complain(error)
            nextLook = now + Self.lookPause
            return domains.lastSeen(id)
        }
    }

    // MARK: Pages

    func map(_ domain: DomainID) throws(Failure) -> UnsafeMutableRawPointer {
        guard let slot = freeSlots.popLast() ?? newSlot() else {
            throw Failure("no place is left to map a page, of ", window.slots)
        }
        let place = window.start + UInt(slot) * 4096
        let arguments = Arguments()
        arguments.set(0, UInt64(place))
        arguments.set(8, UInt32(2))
        arguments.set(12, UInt32(1))
        arguments.set(16, domain.rawValue)
        let code = Hypercall.call(.grantTable, 0, arguments, count: 1)
        let status = Int(arguments.get(18, Int16.self))
        guard code == 0, status == 0, let page = UnsafeMutableRawPointer(bitPattern: place) else {
            freeSlots.append(slot)
            throw Failure("cannot map grant 1", code: code != 0 ? code : status)
        }
        handles[Int(slot)] = arguments.get(20, UInt32.self)
        return page
    }

    private func newSlot() -> UInt32? {
        if usedSlots == window.slots { return nil }
        usedSlots += 1
        handles.append(0)
        return UInt32(usedSlots - 1)
    }

    func unmap(_ page: UnsafeMutableRawPointer) {
        let place = UInt(bitPattern: page)
        let slot = UInt32((place - window.start) / 4096)
        let arguments = Arguments()
        arguments.set(0, UInt64(place))
        arguments.set(16, handles[Int(slot)])
        let code = Hypercall.call(.grantTable, 1, arguments, count: 1)
        let status = Int(arguments.get(20, Int16.self))
        if code == 0 && status == 0 {
            freeSlots.append(slot)
        } else {
            // The place is lost, and the domain cannot go away: somebody should know.
            complain(Failure("cannot unmap a page", code: code != 0 ? code : status))
        }
    }
}
