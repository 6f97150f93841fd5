// Real Xen, by its own libraries.
//
// Event channels and pages need libxenevtchn and libxengnttab, whose interfaces are stable; domain states
// need libxenmanage, libxenctrl or libxencall (XenDomainStates.swift). libxenforeignmemory is the second way
// to a page: that it is missing is told when a page cannot be mapped without it.
//
// The daemon is in the control domain, where the kernel keeps that domain's ring for it (`xen.kva`,
// `xen.port`), or in a domain of its own: then the control domain's ring is its grant 1, and the port a
// number that the command line has.
//
// Invariant: `mappings` has every page that was handed out and not unmapped.

import CXen
import Glibc
import XenStore
import XenStoreTypes

/// The ring of the control domain, for a daemon that is in another one: its grant 1, and the port that it has
/// for us.
struct ControlRing: Equatable {
    var domain: DomainID
    var port: UInt32
}

/// Xen, as a daemon with a domain's privileges sees it.
final class XenHypervisor: Hypervisor {
    /// How a page came here, and so how it must go.
    private enum Mapping {
        case grant, foreign, own
    }

    /// How many ports are taken in one turn.
    private static let pendingMax = 256
    private static let pageSize = 4096

    let domainPort: UInt32
    let descriptor: Int32
    let ownDomain: DomainID?
    private let eventCalls: xen_evtchn_calls
    private let events: OpaquePointer
    private let grantCalls: xen_gnttab_calls
    private let grants: OpaquePointer
    private let names: XenLibraryNames
    private let foreign: XenForeignMemory
    private let source: any XenDomainSource
    private let configuration: Configuration.Xen
    private let control: ControlRing?
    private let log: Log
    private var mappings: [UnsafeMutableRawPointer: Mapping] = [:]
    /// What a domain was when Xen last told: what counts while Xen does not answer.
    private var lastSeen: [DomainID: DomainIdentity] = [:]
    private var isFailing = false

    /// Loads the libraries, opens what they stand for and binds VIRQ_DOM_EXC.
    ///
    /// Fails, naming it, on the first thing that is missing; nothing stays open.
    ///
    /// - Parameter control: where the daemon is not in the control domain, how that one is reached.
    init(
        _ configuration: Configuration.Xen, control: ControlRing? = nil, log: Log,
        names: XenLibraryNames = XenLibraryNames()
    ) throws(HypervisorFailure) {
        self.configuration = configuration
        self.control = control
        self.log = log
        self.names = names
        foreign = XenForeignMemory(library: names.foreignMemory)
        var (eventCalls, grantCalls) = (xen_evtchn_calls(), xen_gnttab_calls())
        try loadXenLibrary(names.eventChannels, into: &eventCalls, xen_load_evtchn)
        try loadXenLibrary(names.grants, into: &grantCalls, xen_load_gnttab)
        source = try openDomainSource(names, inControlDomain: control == nil)
        ownDomain = control == nil ? nil : try source.storeDomain()
        if control != nil && ownDomain == nil {
            throw HypervisorFailure(
                "--event is for a daemon in XenStore's own domain, and no domain has that capability")
        }
        guard let events = eventCalls.xenevtchn_open(nil, 0) else {
            throw HypervisorFailure("\(names.eventChannels): cannot open event channels", errno: errno)
        }
        guard let grants = grantCalls.xengnttab_open(nil, 0) else {
            let code = errno
            _ = eventCalls.xenevtchn_close(events)
            throw HypervisorFailure("\(names.grants): cannot open the grant table", errno: code)
        }
        let port = eventCalls.xenevtchn_bind_virq(events, UInt32(VIRQ_DOM_EXC))
        descriptor = eventCalls.xenevtchn_fd(events)
        guard port >= 0, descriptor >= 0, Self.makeNonBlocking(descriptor) else {
            let code = errno
            _ = grantCalls.xengnttab_close(grants)
            _ = eventCalls.xenevtchn_close(events)
            throw HypervisorFailure("cannot bind VIRQ_DOM_EXC (is another xenstored running?)", errno: code)
        }
        domainPort = UInt32(port)
        (self.eventCalls, self.events) = (eventCalls, events)
        (self.grantCalls, self.grants) = (grantCalls, grants)
    }

    deinit {
        for page in mappings.keys { _ = release(page) }
        _ = grantCalls.xengnttab_close(grants)
        _ = eventCalls.xenevtchn_close(events)
    }

    var name: String {
        let place = ownDomain.map { ", in domain \($0.rawValue)" } ?? ""
        return "Xen, domain states by \(source.name)\(place)"
    }

    private static func makeNonBlocking(_ descriptor: Int32) -> Bool {
        let flags = fcntl(descriptor, F_GETFL)
        return flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0
    }
}

/// Event channels.
extension XenHypervisor {
    func takePending(_ body: (UInt32) -> Void) {
        for _ in 0..<Self.pendingMax {
            let port = eventCalls.xenevtchn_pending(events)
            if port >= 0 {
                body(UInt32(port))
                continue
            }
            let code = errno
            if code == EINTR { continue }
            if code != EAGAIN { log.write(.error, "cannot read pending event channels: \(errorText(code))") }
            return
        }
    }

    func unmask(_ port: UInt32) {
        if eventCalls.xenevtchn_unmask(events, port) != 0 {
            log.write(.error, "cannot unmask event channel \(port): \(errorText(errno))")
        }
    }

    func bind(_ domain: DomainID, remotePort: UInt32) throws(HypervisorFailure) -> UInt32 {
        let port = eventCalls.xenevtchn_bind_interdomain(events, UInt32(domain.rawValue), remotePort)
        guard port >= 0 else {
            throw HypervisorFailure(
                "cannot bind port \(remotePort) of domain \(domain.rawValue)", errno: errno)
        }
        return UInt32(port)
    }

    /// The channel may be gone already, with its domain.
    func unbind(_ port: UInt32) { _ = eventCalls.xenevtchn_unbind(events, port) }

    /// The domain may be gone already.
    func notify(_ port: UInt32) { _ = eventCalls.xenevtchn_notify(events, port) }
}

/// Domains.
extension XenHypervisor {
    /// Where Xen does not answer, what it said last: that a question failed is no domain's death.
    func domain(_ id: DomainID) -> DomainIdentity? {
        guard id.rawValue < DomainID.firstReserved else { return nil }
        switch source.domain(id) {
        case .exists(let found):
            isFailing = false
            lastSeen[id] = found
            return found
        case .absent:
            isFailing = false
            lastSeen[id] = nil
            return nil
        case .failed(let code):
            if !isFailing {
                log.write(.error, "\(source.name): no state of domain \(id.rawValue): \(errorText(code))")
            }
            isFailing = true
            return lastSeen[id]
        }
    }

    func domains() -> [DomainID] {
        do throws(HypervisorFailure) {
            return try source.domains()
        } catch {
            log.write(.error, "the domains that exist are not known: \(error)")
            return []
        }
    }
}

/// Pages.
extension XenHypervisor {
    func map(_ domain: DomainID, gfn: UInt64) throws(HypervisorFailure) -> UnsafeMutableRawPointer {
        let number = UInt32(domain.rawValue)
        let reference = UInt32(GNTTAB_RESERVED_XENSTORE)
        if let page = grantCalls.xengnttab_map_grant_ref(grants, number, reference, PROT_READ | PROT_WRITE) {
            mappings[page] = .grant
            return page
        }
        let failure = HypervisorFailure(
            "cannot map grant \(reference) of domain \(number)", errno: errno)
        guard gfn != noFrame else { throw failure }
        do throws(HypervisorFailure) {
            let page = try foreign.map(number, gfn: gfn)
            mappings[page] = .foreign
            return page
        } catch {
            throw HypervisorFailure("\(failure); \(error)")
        }
    }

    func unmap(_ page: UnsafeMutableRawPointer) {
        if !release(page) {
            log.write(.error, "cannot unmap a domain's page: \(errorText(errno))")
        }
        mappings[page] = nil
    }

    /// False, with errno, if Xen refuses.
    private func release(_ page: UnsafeMutableRawPointer) -> Bool {
        switch mappings[page] {
        case .grant: grantCalls.xengnttab_unmap(grants, page, 1) == 0
        case .foreign: foreign.unmap(page)
        case .own: munmap(page, Self.pageSize) == 0
        case nil: true
        }
    }

    /// The control domain's grant, where the daemon has a domain of its own; else the page and the port that
    /// this machine's kernel keeps for the daemon, in the files that the configuration names.
    func ownRing() throws(HypervisorFailure) -> (page: UnsafeMutableRawPointer, remotePort: UInt32)? {
        if let control { return (try map(control.domain, gfn: noFrame), control.port) }
        guard let path = configuration.kva else { return nil }
        let port: UInt32 =
            switch configuration.port {
            case .number(let number): number
            case .file(let path): try Self.portNumber(path)
            }
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw HypervisorFailure("cannot open \(path)", errno: errno) }
        defer { close(descriptor) }
        let page = mmap(nil, Self.pageSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let page, page != MAP_FAILED else {
            throw HypervisorFailure("cannot map \(path)", errno: errno)
        }
        mappings[page] = .own
        return (page, port)
    }

    /// The number that a file holds, in decimal digits.
    private static func portNumber(_ path: String) throws(HypervisorFailure) -> UInt32 {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw HypervisorFailure("cannot open \(path)", errno: errno) }
        defer { close(descriptor) }
        let buffer = ReadBuffer(capacity: 32)
        guard case .moved(let count) = buffer.fill(from: descriptor) else {
            throw HypervisorFailure("cannot read \(path)", errno: errno)
        }
        let text = buffer.with(first: count) { span in
            span.withUnsafeBufferPointer { bytes in
                String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != 0 }, as: UTF8.self)
            }
        }
        guard let port = wholeNumber(text, in: 1...UInt32.max) else {
            throw HypervisorFailure("\(path): found \(quoted(text)), expected an event channel's port")
        }
        return port
    }
}
