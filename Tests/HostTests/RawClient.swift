// A client that can do what clients should not: bytes in any cut, half messages, no reading.

import Foundation
import Glibc
import Testing
import XenStoreTypes

@testable import XenStoreHost

/// A message as it came.
struct RawReply: Equatable {
    var type: UInt32
    var requestID: UInt32
    var payload: [UInt8]

    var text: String { String(decoding: payload, as: UTF8.self) }
}

/// A blocking socket whose every call gives up after ten seconds.
final class RawClient {
    let descriptor: Int32

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | closeOnExec, 0)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let result = try SocketPath(path).withAddress { connect(descriptor, $0, $1) }
        try #require(result == 0, "connect \(path): \(errorText(errno))")
    }

    deinit { close(descriptor) }

    /// A request's bytes; `length` overrides what the header says of the payload.
    static func message(
        _ type: MessageType, _ payload: String, id: UInt32 = 0, transaction: UInt32 = 0, length: UInt32? = nil
    ) -> [UInt8] {
        let body = Array(payload.utf8)
        var bytes: [UInt8] = []
        let words: [UInt32] = [type.rawValue, id, transaction, length ?? UInt32(body.count)]
        for word in words {
            withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
        }
        return bytes + body
    }

    /// Sends all of it, and reports an issue if that takes too long or the peer is gone.
    func send(_ bytes: [UInt8]) {
        var start = 0
        while start < bytes.count {
            guard case .moved(let count) = writeSome(descriptor, bytes.span.extracting(start..<bytes.count))
            else {
                Issue.record("cannot send: \(errorText(errno))")
                return
            }
            start += count
        }
    }

    /// Sends what fits now, and says how much that was.
    func sendSome(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes {
            max(0, Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT)))
        }
    }

    /// Exactly `count` bytes, or fewer if the peer closes or ten seconds pass.
    func receive(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let piece = ReadBuffer(capacity: count - bytes.count)
            guard case .moved(let got) = piece.fill(from: descriptor), got > 0 else { break }
            piece.with(first: got) { span in span.withUnsafeBufferPointer { bytes.append(contentsOf: $0) } }
        }
        return bytes
    }

    /// The next message; nil at the end of the stream.
    func reply() -> RawReply? {
        let head = receive(MessageHeader.size)
        guard head.count == MessageHeader.size else { return nil }
        let header = MessageHeader(reading: head.span.bytes)
        let payload = receive(Int(header.length))
        guard payload.count == Int(header.length) else { return nil }
        return RawReply(type: header.type, requestID: header.requestID, payload: payload)
    }

    /// One request and its reply.
    func ask(_ type: MessageType, _ payload: String, id: UInt32 = 0, transaction: UInt32 = 0) -> RawReply? {
        send(RawClient.message(type, payload, id: id, transaction: transaction))
        return reply()
    }

    /// Whether the peer closes within the time limit without sending anything.
    func isClosed() -> Bool {
        var byte: UInt8 = 0
        let result = read(descriptor, &byte, 1)
        return result == 0 || result < 0 && errno == ECONNRESET
    }
}

/// What a new client at `path` is answered; nil if it cannot connect or gets no reply.
func answer(_ path: String, _ type: MessageType = .getPermissions, _ payload: String = "/\0") -> String? {
    try? RawClient(path).ask(type, payload)?.text
}

/// A directory that goes with its test.
final class TestDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/xenstored-test.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
    }

    deinit { remove() }

    /// For those who end the process, and so never see the end of its scope.
    func remove() { try? FileManager.default.removeItem(atPath: path) }

    static func / (directory: TestDirectory, name: String) -> String { directory.path + "/" + name }
}

/// What a file holds; empty where there is none.
func contents(_ path: String) -> String {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
}

/// Asks every few milliseconds, for ten seconds at most.
func eventually(_ condition: () -> Bool) -> Bool {
    let deadline = monotonicNow() + 10_000_000_000
    while monotonicNow() < deadline {
        if condition() { return true }
        usleep(5000)
    }
    return condition()
}

/// Options for a daemon with one socket, `socket`, that logs to `log`, both in `directory`.
func testOptions(_ directory: TestDirectory) -> HostOptions {
    var options = HostOptions()
    options.sockets = [SocketOptions(path: directory / "socket")]
    options.logDestination = .file(directory / "log")
    return options
}
