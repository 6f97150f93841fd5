// A directory that stands for a Xen host: its domains, their pages and their event channels. The layout is
// that of docs/simulated-xen.md; here we are the hypervisor and the domains' builder, the daemon is a peer.
//
//     state          32752 entries of 16 bytes, one a domain id, mapped by all sides:
//                        0   4  flags: 1 exists, 2 dying, 4 shut down, 8 crashed
//                        4   4  the daemon's port for this domain, 0 while there is none
//                        8   4  1 while an event for the daemon is pending
//                        12  4  1 while an event for the guest is pending
//     evtchn         FIFO to the daemon: a u32 port for each event
//     xsd_port       text: the event channel of domain 0's own ring
//     domN/ring      the shared page
//     domN/event     FIFO to the guest: a byte for each event
//
// Who sets a pending word from 0 to 1 writes to the FIFO; the receiver reads the FIFO, clears the word, and
// then looks at the ring.
//
// Invariants: `domains` are those that we made and have not removed, and their files are there.

import CLinux
import Glibc

/// The words of a domain in the state table, by their offset in bytes.
enum DomainWord: Int {
    case flags = 0
    case daemonPort = 4
    case pendingForDaemon = 8
    case pendingForGuest = 12
}

final class SimulatedHost {
    let path: String
    private(set) var domains: Set<UInt32> = []
    private let table: UnsafeMutableRawPointer
    private let events: Int32

    private static let domainLimit: UInt32 = 32752
    private static let entrySize = 16
    private static let tableSize = Int(domainLimit) * entrySize
    private static let exists: UInt32 = 1

    /// Uses the host that is there.
    init(at path: String) throws(Failure) {
        self.path = path
        table = try mapFile(path + "/state", size: SimulatedHost.tableSize)
        // Open for reading too: so neither end waits for the other one to appear.
        events = open(path + "/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard events >= 0 else {
            munmap(table, SimulatedHost.tableSize)
            throw .call(path + "/evtchn")
        }
    }

    deinit {
        close(events)
        munmap(table, SimulatedHost.tableSize)
    }

    /// Makes a host with nothing but domain 0 in a directory that must not be there yet.
    static func make(at path: String) throws(Failure) -> SimulatedHost {
        guard mkdir(path, 0o700) == 0 else { throw .call(path) }
        try makeFile(path + "/state", size: tableSize)
        guard mkfifo(path + "/evtchn", 0o600) == 0 else { throw .call(path + "/evtchn") }
        try makeFile(path + "/xsd_port", text: "1")
        let host = try SimulatedHost(at: path)
        try host.create(0)
        return host
    }

    /// Removes all files of a host that `make` made.
    func erase() {
        for domain in domains { remove(domain) }
        for name in ["state", "evtchn", "xsd_port"] { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// Makes a domain exist, with a page of zeros. Fails if there is one of that id.
    func create(_ domain: UInt32) throws(Failure) {
        guard domain < SimulatedHost.domainLimit, load(domain, .flags) == 0 else {
            throw Failure("domain \(domain) of \(path) is there already, or its id is none")
        }
        let directory = folder(domain)
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw .call(directory) }
        try makeFile(directory + "/ring", size: 4096)
        unlink(directory + "/event")
        guard mkfifo(directory + "/event", 0o600) == 0 else { throw .call(directory + "/event") }
        for word: DomainWord in [.daemonPort, .pendingForDaemon, .pendingForGuest] {
            shared_store(self.word(domain, word), 0)
        }
        shared_store(word(domain, .flags), SimulatedHost.exists)
        domains.insert(domain)
    }

    /// Lets a domain be gone, with its files. A daemon that had it introduced must have released it.
    func remove(_ domain: UInt32) {
        shared_store(word(domain, .flags), 0)
        let directory = folder(domain)
        for name in ["ring", "event"] { unlink("\(directory)/\(name)") }
        rmdir(directory)
        domains.remove(domain)
    }

    /// Signals the daemon on the domain's behalf, unless an event is pending for it already.
    func notifyDaemon(of domain: UInt32) throws(Failure) {
        guard shared_exchange(word(domain, .pendingForDaemon), 1) == 0 else { return }
        var port = load(domain, .daemonPort)
        guard port != 0 else { throw Failure("domain \(domain): the daemon has not bound its port") }
        guard write(events, &port, 4) == 4 else { throw .call(path + "/evtchn") }
    }

    func load(_ domain: UInt32, _ word: DomainWord) -> UInt32 { shared_load(self.word(domain, word)) }

    /// Where the domain's page and FIFO are.
    func folder(_ domain: UInt32) -> String { "\(path)/dom\(domain)" }

    /// A word of the table, which other processes read and write at any time.
    func word(_ domain: UInt32, _ word: DomainWord) -> UnsafeMutableRawPointer {
        table + Int(domain) * SimulatedHost.entrySize + word.rawValue
    }
}

/// Maps the beginning of a file that others map too.
func mapFile(_ path: String, size: Int) throws(Failure) -> UnsafeMutableRawPointer {
    let fd = open(path, O_RDWR | O_CLOEXEC)
    guard fd >= 0 else { throw .call(path) }
    defer { close(fd) }
    guard let place = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), place != MAP_FAILED else {
        throw .call("mmap of \(path)")
    }
    return place
}

/// Makes or empties a file that is `size` bytes of zeros, or a text.
private func makeFile(_ path: String, size: Int = 0, text: String = "") throws(Failure) {
    let fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard fd >= 0 else { throw .call(path) }
    defer { close(fd) }
    let bytes = Array(text.utf8)
    guard ftruncate(fd, size) == 0, write(fd, bytes, bytes.count) == bytes.count else { throw .call(path) }
}
