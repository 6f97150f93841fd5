// The two kinds of ends that speak to the daemon: a guest's ring, and a socket. Nothing here waits.

import CLinux
import Glibc
import XenStoreRing
import XenStoreTestKit
import XenStoreTypes

/// Where bytes go and come from. Each call moves what it can at once.
protocol End: AnyObject {
    /// Sends some of the bytes, from the first on. Answers how many.
    func push(_ bytes: ArraySlice<UInt8>) throws -> Int
    func pull() throws -> [UInt8]
}

/// The socket is closed at the other side.
struct Closed: Error {}

/// A guest's end. It sleeps as a kernel does: after it has found a ring empty, or full, it looks again only
/// when it has been signalled.
final class RingEnd: End {
    let guest: SimulatedGuest
    private var mayRead = true
    private var mayWrite = true

    init(_ guest: SimulatedGuest) { self.guest = guest }

    private func takeSignal() {
        if guest.waitForSignal(0) { (mayRead, mayWrite) = (true, true) }
    }

    func push(_ bytes: ArraySlice<UInt8>) throws -> Int {
        takeSignal()
        if !mayWrite { return 0 }
        guard let count = guest.put(bytes) else { throw Broken("the request ring's indexes are wrong") }
        if count == 0 { mayWrite = false } else { guest.signal() }
        return count
    }

    func pull() throws -> [UInt8] {
        takeSignal()
        if !mayRead { return [] }
        if guest.page.error != 0 { throw Broken("the error word is \(guest.page.error)") }
        return try withUnsafeTemporaryAllocation(byteCount: RingPage.ringCount, alignment: 8) { buffer in
            guard case .moved(let count) = guest.page.receiveResponse(into: buffer) else {
                throw Broken("the response ring's indexes are wrong")
            }
            if count == 0 { mayRead = false } else { guest.signal() }
            return [UInt8](buffer[..<count])
        }
    }
}

/// A connected socket.
final class SocketEnd: End {
    private let descriptor: Int32

    /// Nil: nobody listens at `path`.
    init?(_ path: String) {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(107)) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result != 0 {
            close(descriptor)
            return nil
        }
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }

    deinit { close(descriptor) }

    func push(_ bytes: ArraySlice<UInt8>) throws -> Int {
        let count = bytes.withUnsafeBytes {
            send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if count < 0 && errno != EAGAIN { throw Closed() }
        return max(0, count)
    }

    func pull() throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = read(descriptor, &bytes, bytes.count)
        if count == 0 || count < 0 && errno != EAGAIN { throw Closed() }
        return Array(bytes.prefix(max(0, count)))
    }

    /// Waits until there is something to read, 20 ms at most.
    func wait() {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&waiting, 1, 20)
    }
}
