// A simulated host: a directory that stands for Xen, laid out as docs/simulated-xen.md says.
//
// | name | what it is |
// |---|---|
// | `state` | 32752 entries of 16 bytes, one a domain id: see `SimulatedEntry` |
// | `evtchn` | a FIFO, guests to daemon: the daemon's local ports, 4 bytes each, native byte order |
// | `xsd_port` | text: the port of dom0's kernel |
// | `domN/ring` | the page of domain N, 4096 bytes |
// | `domN/event` | a FIFO, daemon to guest: one byte an event |
//
// An event is pending while the receiver's word is 1. Who turns it from 0 to 1 writes to the FIFO, nobody
// else; the receiver reads the FIFO, then clears the word, then looks at the ring. So events coalesce as
// Xen's do, and a FIFO never holds more than one of each channel.
//
// This is no security border: whoever can open the directory can do what he likes with all domains. It must
// belong to the daemon's user and be closed to all others.

import CLinux
import Glibc
import XenStoreTypes

/// Why a simulated host cannot be used or changed, as one line.
public typealias SimulationFailure = StartFailure

enum SimulatedLayout {
    /// Ids that a simulated host has room for.
    static let domainCount = Int(DomainID.firstReserved)
    static let entrySize = 16
    static let stateSize = domainCount * entrySize
    /// Pages that `state` is mapped with; the last one is not full.
    static let statePages = (stateSize + pageSize - 1) / pageSize
    static let pageSize = 4096
    /// The local port that stands for VIRQ_DOM_EXC.
    static let domainPort: UInt32 = 1
}

/// What `state` says of a domain, bits of an entry's first word.
struct SimulatedFlags: OptionSet {
    let rawValue: UInt32
    static let exists = SimulatedFlags(rawValue: 1)
    static let dying = SimulatedFlags(rawValue: 2)
    static let shutdown = SimulatedFlags(rawValue: 4)
    static let crashed = SimulatedFlags(rawValue: 8)
}

/// One domain's entry in `state`. All who take part have it mapped, and any may change it at any time.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 4 | `SimulatedFlags` |
/// | 4 | 4 | the daemon's local port for this domain; 0: it listens to none |
/// | 8 | 4 | 1: an event is pending towards the daemon |
/// | 12 | 4 | 1: an event is pending towards the guest |
struct SimulatedEntry {
    private let start: UnsafeMutableRawPointer

    init(_ state: UnsafeMutableRawPointer, _ domain: DomainID) {
        start = state + Int(domain.rawValue) * SimulatedLayout.entrySize
    }

    var flags: SimulatedFlags {
        get { SimulatedFlags(rawValue: shared_load(start)) }
        nonmutating set { shared_store(start, newValue.rawValue) }
    }
    /// All words 0.
    func clear() {
        for word in 0..<SimulatedLayout.entrySize / 4 { shared_store(start + 4 * word, 0) }
    }

    func insert(_ flags: SimulatedFlags) { shared_set_bits(start, flags.rawValue) }

    var daemonPort: UInt32 {
        get { shared_load(start + 4) }
        nonmutating set { shared_store(start + 4, newValue) }
    }

    func clearPendingToDaemon() { shared_store(start + 8, 0) }
    func clearPendingToGuest() { shared_store(start + 12, 0) }
    /// True: nothing was pending, so the caller must write to the FIFO.
    func setPendingToDaemon() -> Bool { shared_exchange(start + 8, 1) == 0 }
    /// True: nothing was pending, so the caller must write to the FIFO.
    func setPendingToGuest() -> Bool { shared_exchange(start + 12, 1) == 0 }
}

/// The directory of a simulated host, opened.
final class SimulatedDirectory {
    let path: String
    private let descriptor: Int32

    /// Fails unless `path` is a directory of this process's user that nobody else can enter.
    init(_ path: String) throws(SimulationFailure) {
        self.path = path
        descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw SimulationFailure("cannot open the simulated Xen \(path)", errno: errno)
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw SimulationFailure("cannot look at the simulated Xen \(path)", errno: errno)
        }
        guard status.st_uid == geteuid(), status.st_mode & 0o7777 == 0o700 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw SimulationFailure(
                "the simulated Xen \(path) belongs to uid \(status.st_uid) with mode \(mode), "
                    + "expected uid \(geteuid()) and mode 700: it is no border against other users")
        }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    /// A descriptor of the file `name`, for reading and writing, never blocking; -1 with errno if there is
    /// none, or it is no file of this kind (`S_IFREG`, `S_IFIFO`). The caller closes it.
    func open(_ name: String, _ kind: mode_t, flags: Int32 = 0) -> Int32 {
        let file = openat(
            descriptor, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | flags, 0o600)
        if file < 0 { return -1 }
        var status = stat()
        if fstat(file, &status) == 0, status.st_mode & S_IFMT == kind { return file }
        close(file)
        errno = EINVAL
        return -1
    }

    /// Maps the first `pages` pages of a file of `size` bytes or more at `memory`.
    func map(
        _ name: String, size: Int, pages: Int, at memory: UnsafeMutableRawPointer
    ) throws(HypervisorFailure) {
        let file = open(name, S_IFREG)
        guard file >= 0 else { throw HypervisorFailure("cannot open \(path)/\(name)", errno: errno) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, Int(status.st_size) >= size else {
            throw HypervisorFailure("\(path)/\(name) has \(status.st_size) bytes, expected \(size)")
        }
        guard shared_map(memory, pages, file) == 0 else {
            throw HypervisorFailure("cannot map \(path)/\(name)", errno: errno)
        }
    }

    /// A number that the file has and no other that exists; nil: there is no such file.
    func identity(_ name: String) -> UInt64? {
        var identity: UInt64 = 0
        return shared_identity(descriptor, name, &identity) == 0 ? identity : nil
    }

    /// Removes a file, if it is there.
    func remove(_ name: String) { unlinkat(descriptor, name, 0) }

    /// Makes a directory, if there is none. Its mode is 0700, whatever the umask.
    func makeDirectory(_ name: String) -> Bool {
        (mkdirat(descriptor, name, 0o700) == 0 || errno == EEXIST)
            && fchmodat(descriptor, name, 0o700, 0) == 0
    }

    /// Makes a new FIFO in the place of whatever is there.
    func makeFIFO(_ name: String) -> Bool {
        remove(name)
        return mkfifoat(descriptor, name, 0o600) == 0
    }
}
