// The other side of a simulated Xen: what a toolstack or Xen itself does to domains (docs/simulated-xen.md).

import CLinux
import Glibc
import XenStoreTypes

/// A simulated host, for those who make and end its domains. Any process of the directory's user may have it
/// open, as many as like; two of them must not make the same domain at the same time.
public final class SimulatedHost {
    private let directory: SimulatedDirectory
    private let state: UnsafeMutableRawPointer

    /// Makes the host in `path`, whose parent must exist, with domain 0 and no other. One that is there is
    /// emptied: no daemon and no guest may be using it.
    ///
    /// Fails, naming it, where a directory or file cannot be made, or `path` is not this user's alone.
    public static func make(_ path: String) throws(SimulationFailure) {
        // The mode is not left to the umask; that of a directory which is there is its owner's affair.
        if mkdir(path, 0o700) == 0 ? chmod(path, 0o700) != 0 : errno != EEXIST {
            throw SimulationFailure("cannot make the directory \(path)", errno: errno)
        }
        let directory = try SimulatedDirectory(path)
        try write(directory, "state", size: SimulatedLayout.stateSize)
        try write(directory, "xsd_port", text: "1")
        guard directory.makeFIFO("evtchn") else {
            throw SimulationFailure("cannot make the FIFO \(path)/evtchn", errno: errno)
        }
        try SimulatedHost(path).create(.zero)
    }

    /// Opens the host in `path`. Fails if there is none, or if it is not this user's alone.
    public init(_ path: String) throws(SimulationFailure) {
        directory = try SimulatedDirectory(path)
        guard let memory = shared_reserve(SimulatedLayout.statePages) else {
            throw SimulationFailure("cannot reserve addresses for the simulated Xen", errno: errno)
        }
        state = memory
        do throws(HypervisorFailure) {
            try directory.map(
                "state", size: SimulatedLayout.stateSize, pages: SimulatedLayout.statePages, at: state)
        } catch {
            throw SimulationFailure(error.description)
        }
    }

    deinit { shared_release(state) }

    /// Where it is.
    public var path: String { directory.path }

    /// Makes a domain: its page, all zeros, and its FIFO. One that has this id is gone, as if it had been
    /// forgotten, but the daemon is not told.
    public func create(_ domain: DomainID) throws(SimulationFailure) {
        let entry = try entry(domain)
        let name = "dom\(domain.rawValue)"
        guard directory.makeDirectory(name) else {
            throw SimulationFailure("cannot make the directory \(path)/\(name)", errno: errno)
        }
        entry.clear()
        try Self.write(directory, "\(name)/ring", size: SimulatedLayout.pageSize)
        guard directory.makeFIFO("\(name)/event") else {
            throw SimulationFailure("cannot make the FIFO \(path)/\(name)/event", errno: errno)
        }
        entry.flags = .exists
    }

    /// The domain has shut itself down; it is still there.
    public func shutDown(_ domain: DomainID) throws(SimulationFailure) { try set(domain, .shutdown) }

    /// The domain has crashed; it is still there.
    public func crash(_ domain: DomainID) throws(SimulationFailure) {
        try set(domain, [.shutdown, .crashed])
    }

    /// The domain is being taken apart: it is dead, though its id is not free yet. Who plays its guest is
    /// woken, and sees so.
    public func destroy(_ domain: DomainID) throws(SimulationFailure) {
        try set(domain, .dying)
        try wake(domain)
    }

    /// The domain is gone, and its id is free.
    public func forget(_ domain: DomainID) throws(SimulationFailure) {
        try entry(domain).flags = []
        try tellDaemon()
    }

    private func set(_ domain: DomainID, _ flags: SimulatedFlags) throws(SimulationFailure) {
        let entry = try entry(domain)
        guard entry.flags.contains(.exists) else {
            throw SimulationFailure("there is no domain \(domain.rawValue) in \(path)")
        }
        entry.insert(flags)
        try tellDaemon()
    }

    private func entry(_ domain: DomainID) throws(SimulationFailure) -> SimulatedEntry {
        guard Int(domain.rawValue) < SimulatedLayout.domainCount else {
            throw SimulationFailure(
                "found domain \(domain.rawValue), expected 0 to \(SimulatedLayout.domainCount - 1)")
        }
        return SimulatedEntry(state, domain)
    }

    /// An event for the domain. Its FIFO may be gone, or full of events.
    private func wake(_ domain: DomainID) throws(SimulationFailure) {
        guard try entry(domain).setPendingToGuest() else { return }
        let file = directory.open("dom\(domain.rawValue)/event", S_IFIFO)
        if file < 0 { return }
        defer { close(file) }
        var byte = UInt8(ascii: "!")
        _ = Glibc.write(file, &byte, 1)
    }

    /// VIRQ_DOM_EXC. A FIFO that is full already holds enough to wake the daemon.
    private func tellDaemon() throws(SimulationFailure) {
        let file = directory.open("evtchn", S_IFIFO)
        guard file >= 0 else { throw SimulationFailure("cannot open the FIFO \(path)/evtchn", errno: errno) }
        defer { close(file) }
        var port = SimulatedLayout.domainPort
        _ = Glibc.write(file, &port, MemoryLayout<UInt32>.size)
    }

    /// Makes the file anew, so that who has the old one mapped keeps that. It has `text`, then zeros.
    private static func write(
        _ directory: SimulatedDirectory, _ name: String, size: Int = 0, text: String = ""
    ) throws(SimulationFailure) {
        directory.remove(name)
        let file = directory.open(name, S_IFREG, flags: O_CREAT | O_EXCL)
        guard file >= 0 else {
            throw SimulationFailure("cannot make \(directory.path)/\(name)", errno: errno)
        }
        defer { close(file) }
        let bytes = Array(text.utf8)
        guard writeSome(file, bytes.span) == .moved(bytes.count),
            ftruncate(file, max(size, bytes.count)) == 0
        else { throw SimulationFailure("cannot write \(directory.path)/\(name)", errno: errno) }
    }
}
