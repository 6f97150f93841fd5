// How bytes get to the daemon: what the connection's thread asks of a socket, a device or a ring.

import CLinux
import Glibc

/// What one attempt to move bytes came to.
enum Transfer: Equatable {
    /// So many bytes, at least 1.
    case moved(Int)
    /// None can be moved now.
    case wouldBlock
    /// The first message of this many bytes was taken and refused, for this errno. Only from `send`.
    case refused(Int32, count: Int)
    /// The peer has closed its side. Only from `receive`.
    case closed
    case lost(ConnectionLoss)

    /// The outcome of a read(2) or write(2) on a descriptor that does not block.
    init(_ result: Int) {
        if result > 0 {
            self = .moved(result)
        } else if result == 0 {
            self = .closed
        } else {
            let code = errno
            self = code == EAGAIN || code == EINTR ? .wouldBlock : .lost(.system(code))
        }
    }
}

/// One way to a daemon. Used by one thread at a time; it closes what it has opened when it goes.
protocol Transport: AnyObject, Sendable {
    /// Readable when something may have become possible: to receive, and to send where `reportsRoom` is
    /// false.
    var descriptor: Int32 { get }
    /// The descriptor also becomes writable when there is room to send.
    var reportsRoom: Bool { get }
    /// To be called when the descriptor has become readable, before anything is received.
    func noticeSignal()
    /// Moves what has arrived, in order, to the beginning of `buffer`.
    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer
    /// Sends some of `bytes`, from the first on. They begin where the last call ended. They hold whole
    /// messages, but for the first one's beginning that is sent already. `.closed` is no answer.
    func send(_ bytes: Span<UInt8>) -> Transfer
}

/// A connected stream socket that does not block.
final class SocketTransport: Transport {
    let descriptor: Int32
    var reportsRoom: Bool { true }

    /// Takes the descriptor over.
    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit { close(descriptor) }

    func noticeSignal() {}

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        Transfer(read(descriptor, buffer.baseAddress, buffer.count))
    }

    /// A peer that is gone is an EPIPE, and no SIGPIPE.
    func send(_ bytes: Span<UInt8>) -> Transfer {
        bytes.withUnsafeBufferPointer {
            Transfer(Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)))
        }
    }
}

/// /dev/xen/xenbus, through which the kernel lets processes use its own connection.
///
/// What it does otherwise than a socket: a write(2) takes one message, and drops what follows it. WATCH and
/// UNWATCH are carried out before the write returns, and refused by its errno. They and some errors are
/// answered by the kernel, ahead of requests that wait for the daemon. It never reports room: a write takes
/// the message or waits until it can, which is why only the connection's own thread may write.
final class DeviceTransport: Transport, @unchecked Sendable {
    let descriptor: Int32
    var reportsRoom: Bool { false }
    /// How much of the current message is still to be written; 0: the next byte begins a message.
    private var left = 0

    /// Takes the descriptor over.
    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit { close(descriptor) }

    func noticeSignal() {}

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        Transfer(read(descriptor, buffer.baseAddress, buffer.count))
    }

    func send(_ bytes: Span<UInt8>) -> Transfer {
        if left == 0 { left = RequestBytes.count(ofFirstIn: bytes) }
        let count = left
        let result = bytes.withUnsafeBufferPointer { write(descriptor, $0.baseAddress, count) }
        if result > 0 {
            left -= result
            return .moved(result)
        }
        let code = result == 0 ? EIO : errno
        if code == EINTR || code == EAGAIN { return .wouldBlock }
        // No errno of XenStore's: the device itself is gone.
        if [EBADF, ENODEV, ENXIO, EPIPE, ECONNRESET].contains(code) { return .lost(.system(code)) }
        left = 0
        return .refused(code, count: count)
    }
}
