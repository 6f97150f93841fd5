// The guest's end of a ring on a simulated host, whose layout docs/simulated-xen.md has: what a guest's
// kernel does on Xen.
//
// Invariants: the ring and the host's state stay mapped, and the ring's file locked, as long as this lives.
// No byte goes into the ring, or is taken out, while a new connection is asked for and not yet confirmed.

import CLinux
import Glibc
import XenStoreRing

final class SimulatedRing: Transport, @unchecked Sendable {
    private let files: Files
    private let page: RingPage
    private var isConnecting = false

    var descriptor: Int32 { files.event }
    /// The daemon signals when it has made room.
    var reportsRoom: Bool { false }

    /// The ring of the domain whose directory is `path`, its last part `dom` and the domain's number.
    ///
    /// Asks the daemon for a new connection where it offers that, so that nothing is left of whoever used the
    /// ring before; otherwise drops the responses that are left. Nil: another client uses the ring, or has
    /// not quite gone. Throws `.notConnected`: there is no such host or domain, or the domain is dying or not
    /// introduced.
    init?(_ path: String) throws(XenStoreError) {
        guard let files = try Files(path) else { return nil }
        self.files = files
        page = RingPage(files.ring)
        guard files.isAlive else { throw XenStoreError(.notConnected("\(path): the domain is not alive")) }
        guard files.daemonPort != 0 else {
            throw XenStoreError(.notConnected("\(path): the domain has not been introduced"))
        }
        noticeSignal()
        if page.offersReconnection {
            isConnecting = true
            page.requestReconnection()
            _ = files.signal()
        } else {
            let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: RingPage.ringCount, alignment: 16)
            defer { scratch.deallocate() }
            _ = page.receiveResponse(into: scratch)
        }
    }

    /// A ring has no end of file: asking for a new connection is how the daemon learns that this one is over.
    deinit {
        if page.offersReconnection && files.isAlive {
            page.requestReconnection()
            _ = files.signal()
        }
    }

    /// Reads the FIFO, then clears the word; whoever calls looks at the ring after that.
    func noticeSignal() {
        var bytes: (UInt64, UInt64) = (0, 0)
        while read(files.event, &bytes, MemoryLayout.size(ofValue: bytes)) > 0 {}
        files.clearPending()
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        move { page.receiveResponse(into: buffer) }
    }

    func send(_ bytes: Span<UInt8>) -> Transfer {
        move { page.sendRequest(bytes) }
    }

    private func move(_ body: () -> RingPage.Outcome) -> Transfer {
        guard files.isAlive else { return .lost(.domainGone) }
        if isConnecting {
            guard !page.isReconnectRequested else { return .wouldBlock }
            isConnecting = false
        }
        let error = page.error
        guard error == 0 else { return .lost(.ringError(error)) }
        switch body() {
        case .moved(0): return .wouldBlock
        case .moved(let count): return files.signal() ?? .moved(count)
        case .badIndex: return .lost(.violation("the ring's indexes are no ring's"))
        }
    }
}

extension RingPage {
    fileprivate var offersReconnection: Bool {
        features & XenStoreFeatures.reconnection.rawValue != 0
    }
}

/// The files of one domain, opened and mapped.
private final class Files {
    let event: Int32
    let ring: UnsafeMutableRawPointer
    private let ringFile: Int32
    private let channel: Int32
    private let state: UnsafeMutableRawPointer
    private let entry: UnsafeMutableRawPointer

    /// Bytes of one domain's entry in `state`, and how many entries there are.
    private static let entrySize = 16
    private static let domainCount = 32752
    private static let stateSize = domainCount * entrySize

    /// Nil: another client has them locked.
    init?(_ path: String) throws(XenStoreError) {
        let trimmed = path.last == "/" ? String(path.dropLast()) : path
        let slash = trimmed.lastIndex(of: "/")
        let name = slash.map { trimmed[trimmed.index(after: $0)...] } ?? trimmed[...]
        let host = slash.map { String(trimmed[...$0]) } ?? ""
        guard name.hasPrefix("dom"), let domain = UInt16(name.dropFirst(3)), domain < Files.domainCount else {
            throw XenStoreError(.notConnected("\(path): no simulated domain's directory"))
        }
        var opened: [Int32] = []
        var mapped: [(UnsafeMutableRawPointer, Int)] = []
        do throws(XenStoreError) {
            let ringFile = try opening(trimmed + "/ring", S_IFREG, &opened)
            guard flock(ringFile, LOCK_EX | LOCK_NB) == 0 else {
                close(ringFile)
                return nil
            }
            let ring = try mapping(trimmed + "/ring", ringFile, RingPage.byteCount, &mapped)
            let event = try opening(trimmed + "/event", S_IFIFO, &opened)
            let channel = try opening(host + "evtchn", S_IFIFO, &opened)
            let stateFile = try opening(host + "state", S_IFREG, &opened)
            let state = try mapping(host + "state", stateFile, Files.stateSize, &mapped)
            close(stateFile)
            (self.ringFile, self.ring, self.event) = (ringFile, ring, event)
            (self.channel, self.state, self.entry) = (channel, state, state + Int(domain) * Files.entrySize)
        } catch {
            for descriptor in opened { close(descriptor) }
            for (start, count) in mapped { munmap(start, count) }
            throw error
        }
    }

    deinit {
        munmap(ring, RingPage.byteCount)
        munmap(state, Files.stateSize)
        close(channel)
        close(event)
        close(ringFile)
    }

    /// The domain exists and is not dying.
    var isAlive: Bool { shared_load(entry) & 3 == 1 }
    /// The daemon's port for the domain; 0: none.
    var daemonPort: UInt32 { shared_load(entry + 4) }

    func clearPending() { _ = shared_exchange(entry + 12, 0) }

    /// Tells the daemon to look. Nil, or why that cannot be done any more. A daemon that is away looks when
    /// it comes back.
    func signal() -> Transfer? {
        var port = daemonPort
        guard port != 0, shared_exchange(entry + 8, 1) == 0 else { return nil }
        let size = MemoryLayout<UInt32>.size
        return write(channel, &port, size) == size ? nil : .lost(.system(errno))
    }
}

/// A descriptor of a file of this kind, which never blocks; added to `opened`.
private func opening(_ path: String, _ kind: mode_t, _ opened: inout [Int32]) throws(XenStoreError) -> Int32 {
    let descriptor = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC)
    guard descriptor >= 0 else { throw XenStoreError(.notConnected("\(path): \(errorText(errno))")) }
    opened.append(descriptor)
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == kind else {
        throw XenStoreError(
            .notConnected("\(path): it is no file of the kind that a simulated host has there"))
    }
    return descriptor
}

/// The first `count` bytes of a file that is as long at least, shared; added to `mapped`.
private func mapping(
    _ path: String, _ descriptor: Int32, _ count: Int, _ mapped: inout [(UnsafeMutableRawPointer, Int)]
) throws(XenStoreError) -> UnsafeMutableRawPointer {
    var status = stat()
    guard fstat(descriptor, &status) == 0, Int(status.st_size) >= count else {
        throw XenStoreError(.notConnected("\(path): it has \(status.st_size) bytes, expected \(count)"))
    }
    let start = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let start, start != MAP_FAILED else {
        throw XenStoreError(.notConnected("\(path): \(errorText(errno))"))
    }
    mapped.append((start, count))
    return start
}
