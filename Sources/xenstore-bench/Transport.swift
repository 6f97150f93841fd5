// What carries a connection's bytes: a daemon's Unix socket. (A guest's ring is in RingTransport.swift.)

import Glibc

/// Two streams of bytes between a client and a daemon. What waits, waits two minutes at most, and then fails.
protocol Transport: AnyObject {
    /// Sends some of `bytes`, of which there is one at least, and returns how many. 0: there is room when the
    /// daemon has answered some of what it was sent, and its replies have been received.
    func send(_ bytes: Span<UInt8>) throws(Failure) -> Int

    /// Receives as many bytes as there are and fit into `buffer`, one at least if `waiting`. Fails where the
    /// daemon has ended the connection.
    func receive(into buffer: UnsafeMutableRawBufferPointer, waiting: Bool) throws(Failure) -> Int

    /// Makes every wait fail, from now on and in other threads too.
    func shutDown()
}

/// How long a daemon may leave us without an answer, in seconds.
let patience = 120

/// A connected Unix socket.
final class SocketTransport: Transport {
    private let fd: Int32

    init(to path: String) throws(Failure) {
        fd = try SocketTransport.connected(to: path)
    }

    deinit { close(fd) }

    func shutDown() { _ = shutdown(fd, Int32(SHUT_RDWR)) }

    func send(_ bytes: Span<UInt8>) throws(Failure) -> Int {
        while true {
            let count = bytes.withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count > 0 { return count }
            if errno != EINTR { throw .call("send") }
        }
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer, waiting: Bool) throws(Failure) -> Int {
        while true {
            let flags = waiting ? 0 : Int32(MSG_DONTWAIT)
            let count = recv(fd, buffer.baseAddress, buffer.count, flags)
            if count > 0 { return count }
            if count == 0 { throw Failure("the daemon closed the connection") }
            if !waiting, errno == EAGAIN { return 0 }
            if errno != EINTR { throw .call("recv") }
        }
    }

    private static func connected(to path: String) throws(Failure) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < room else { throw Failure("\(path): too long for a socket's path") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw .call("socket") }
        var patience = timeval(tv_sec: patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(fd, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let failed = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) != 0
            }
        }
        guard !failed else {
            let failure = Failure.call(path)
            close(fd)
            throw failure
        }
        return fd
    }
}
