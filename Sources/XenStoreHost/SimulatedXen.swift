// A simulated Xen (docs/simulated-xen.md): what a daemon on a simulated host needs.
//
// Invariants:
// - `memory` is `state`, then a page for each domain id, in one range of addresses in which a page whose file
//   is cut short turns into zeros, rather than into the end of the process (shared_files.h).
// - The local port of domain N is N + 2, always: a guest's event that is on its way while the daemon binds
//   anew still says whose it is.
// - A domain whose channel is bound has it at its id in `channels`, and our port in its entry.

import CLinux
import Glibc
import XenStore
import XenStoreTypes

/// The host that stands in a directory.
final class SimulatedXen: Hypervisor {
    private struct Channel {
        /// The guest's FIFO; -1: not bound.
        var descriptor: Int32 = -1
        /// Which domain of this id it was bound to.
        var identity: UInt64 = 0
    }

    /// The local port of domain 0.
    private static let firstPort = SimulatedLayout.domainPort + 1
    /// Ports that one call of `takePending` hands over.
    private static let batch = 256

    let name: String
    let descriptor: Int32
    let isEdgeTriggered = true
    private(set) var hasMorePending = false
    let domainPort = SimulatedLayout.domainPort
    private let directory: SimulatedDirectory
    private let ownDomain: DomainID
    private let memory: UnsafeMutableRawPointer
    private let pending = UnsafeMutableBufferPointer<UInt32>.allocate(capacity: batch)
    /// Not checked at run time that nobody else is at it: every event comes by here.
    @exclusivity(unchecked) private var channels: [Channel] = []
    private var mapped: Set<DomainID> = []

    /// The host at `path`, for a daemon that runs in `domain`.
    ///
    /// Fails unless the directory is this process's own and closed to others, and holds a host.
    init(_ path: String, domain: DomainID = .zero) throws(StartFailure) {
        name = "simulated Xen in \(path)"
        ownDomain = domain
        directory = try SimulatedDirectory(path)
        // Open for writing too: so the FIFO never ends, whoever comes and goes.
        let events = directory.open("evtchn", S_IFIFO)
        guard events >= 0 else {
            throw StartFailure("cannot open the FIFO \(path)/evtchn (simulated-domain init?)", errno: errno)
        }
        let pages = SimulatedLayout.statePages + SimulatedLayout.domainCount
        guard let memory = shared_reserve(pages) else {
            let code = errno
            close(events)
            throw StartFailure("cannot reserve addresses for the simulated Xen", errno: code)
        }
        descriptor = events
        self.memory = memory
        do throws(HypervisorFailure) {
            try directory.map(
                "state", size: SimulatedLayout.stateSize, pages: SimulatedLayout.statePages, at: memory)
        } catch {
            throw StartFailure(error.description)
        }
    }

    deinit {
        for id in channels.indices { release(DomainID(UInt16(id))) }
        shared_release(memory)
        close(descriptor)
        pending.deallocate()
    }

    private func entry(_ domain: DomainID) -> SimulatedEntry { SimulatedEntry(memory, domain) }

    private func isInRange(_ domain: DomainID) -> Bool {
        Int(domain.rawValue) < SimulatedLayout.domainCount
    }
}

// Domains.
extension SimulatedXen {
    func domain(_ id: DomainID) -> DomainIdentity? {
        guard isInRange(id) else { return nil }
        let flags = entry(id).flags
        guard flags.contains(.exists) || id == .zero, let identity = identity(id) else { return nil }
        return DomainIdentity(
            uniqueID: identity, isShutdown: flags.contains(.shutdown), isDying: flags.contains(.dying))
    }

    /// What is told apart is the domain's FIFO, which is made anew with it. Making a domain also clears its
    /// entry, so one that is bound, and still has our port there, needs no look at the directory.
    private func identity(_ id: DomainID) -> UInt64? {
        if let channel = channel(id), entry(id).daemonPort == port(id) { return channel.identity }
        return directory.identity("dom\(id.rawValue)/event")
    }

    /// A host that is made anew has another FIFO.
    var bootID: String? { directory.identity("evtchn").map { "simulated \($0)" } }

    func domains() -> [DomainID] {
        (0..<UInt16(SimulatedLayout.domainCount)).map { DomainID($0) }
            .filter { $0 == .zero || entry($0).flags.contains(.exists) }
    }
}

// Pages.
extension SimulatedXen {
    /// There are no grants here and no frames: a domain has the one page.
    func map(_ domain: DomainID, gfn: UInt64) throws(HypervisorFailure) -> UnsafeMutableRawPointer {
        guard isInRange(domain) else { throw HypervisorFailure("there is no domain \(domain.rawValue)") }
        guard !mapped.contains(domain) else {
            throw HypervisorFailure("the page of domain \(domain.rawValue) is mapped already")
        }
        try restore(page(of: domain))
        mapped.insert(domain)
        return page(of: domain)
    }

    func unmap(_ page: UnsafeMutableRawPointer) {
        mapped.remove(domain(of: page))
        shared_unmap(page, 1)
    }

    func isLost(_ page: UnsafeMutableRawPointer) -> Bool { shared_is_lost(page) != 0 }

    func restore(_ page: UnsafeMutableRawPointer) throws(HypervisorFailure) {
        let name = "dom\(domain(of: page).rawValue)/ring"
        try directory.map(name, size: SimulatedLayout.pageSize, pages: 1, at: page)
    }

    private func page(of domain: DomainID) -> UnsafeMutableRawPointer {
        memory + (SimulatedLayout.statePages + Int(domain.rawValue)) * SimulatedLayout.pageSize
    }

    private func domain(of page: UnsafeMutableRawPointer) -> DomainID {
        DomainID(UInt16((page - memory) / SimulatedLayout.pageSize - SimulatedLayout.statePages))
    }

    func ownRing() throws(HypervisorFailure) -> (page: UnsafeMutableRawPointer, remotePort: UInt32)? {
        let file = directory.open("xsd_port", S_IFREG)
        if file < 0 && errno == ENOENT { return nil }
        let name = "\(directory.path)/xsd_port"
        guard file >= 0 else { throw HypervisorFailure("cannot open \(name)", errno: errno) }
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: 16)
        let count = max(0, read(file, &text, text.count))
        let digits = text[..<count].prefix { $0 != UInt8(ascii: "\n") }
        guard let port = wholeNumber(String(decoding: digits, as: UTF8.self), in: 1...UInt32.max) else {
            throw HypervisorFailure("found no port in \(name), expected a number")
        }
        return (try map(ownDomain, gfn: noFrame), port)
    }
}

// Event channels.
extension SimulatedXen {
    /// What is read is as many ports as were written: a piece of less than 4 bytes at the end is nobody's,
    /// and goes.
    func takePending(_ body: (UInt32) -> Void) {
        let size = MemoryLayout<UInt32>.size
        let count = read(descriptor, pending.baseAddress, Self.batch * size)
        hasMorePending = count == Self.batch * size
        for index in 0..<max(0, count / size) {
            let port = pending[index]
            if port == domainPort {
                body(port)
            } else if port > domainPort, let id = UInt16(exactly: port - Self.firstPort),
                isInRange(DomainID(id))
            {
                // Bound or not by now: the guest waits for the word.
                entry(DomainID(id)).clearPendingToDaemon()
                if channel(DomainID(id)) != nil { body(port) }
            }
        }
    }

    /// Nothing masks a port here.
    func unmask(_ port: UInt32) {}

    private func port(_ domain: DomainID) -> UInt32 { Self.firstPort + UInt32(domain.rawValue) }

    /// The domain's channel, if it is bound.
    private func channel(_ domain: DomainID) -> Channel? {
        let index = Int(domain.rawValue)
        return index < channels.count && channels[index].descriptor >= 0 ? channels[index] : nil
    }

    /// A domain has one channel, whatever `remotePort` is.
    func bind(_ domain: DomainID, remotePort: UInt32) throws(HypervisorFailure) -> UInt32 {
        let name = "dom\(domain.rawValue)/event"
        guard isInRange(domain), channel(domain) == nil else {
            throw HypervisorFailure("domain \(domain.rawValue) has no other event channel")
        }
        let fifo = directory.open(name, S_IFIFO)
        guard fifo >= 0 else {
            throw HypervisorFailure("cannot open the FIFO \(directory.path)/\(name)", errno: errno)
        }
        let missing = Int(domain.rawValue) + 1 - channels.count
        if missing > 0 { channels += repeatElement(Channel(), count: missing) }
        channels[Int(domain.rawValue)] = Channel(
            descriptor: fifo, identity: directory.identity(name) ?? 0)
        // What an earlier daemon left pending would keep both sides silent for ever.
        entry(domain).clearPendingToDaemon()
        entry(domain).clearPendingToGuest()
        entry(domain).daemonPort = port(domain)
        return port(domain)
    }

    func unbind(_ port: UInt32) { release(DomainID(UInt16(port - Self.firstPort))) }

    private func release(_ domain: DomainID) {
        guard let channel = channel(domain) else { return }
        if entry(domain).daemonPort == port(domain) { entry(domain).daemonPort = 0 }
        close(channel.descriptor)
        channels[Int(domain.rawValue)].descriptor = -1
    }

    /// A full FIFO is one that the guest has filled itself: it has then enough to wake it.
    func notify(_ port: UInt32) {
        let domain = DomainID(UInt16(port - Self.firstPort))
        guard let channel = channel(domain), entry(domain).setPendingToGuest() else { return }
        var byte = UInt8(ascii: "!")
        _ = write(channel.descriptor, &byte, 1)
    }
}
