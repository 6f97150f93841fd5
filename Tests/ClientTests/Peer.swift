// The other ends that the client is tested against: a daemon of ours, and a peer that says what a test wants.

import Foundation
import Glibc
import Testing
import XenStoreHost
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreClient

/// A daemon with a socket of its own, for the length of a test.
final class TestDaemon: Sendable {
    let directory: String
    private let thread: DaemonThread

    init() throws {
        directory = temporaryDirectory()
        var options = HostOptions()
        options.sockets = [SocketOptions(path: directory + "/socket")]
        options.logDestination = .file(directory + "/log")
        thread = try DaemonThread(options)
    }

    deinit {
        thread.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    func client(_ options: XenStoreOptions = XenStoreOptions()) async throws -> XenStoreClient {
        try await XenStoreClient.connect(to: .socket(directory + "/socket"), options: options)
    }

    func stop() { thread.stop() }
}

func temporaryDirectory() -> String {
    var template = Array("/tmp/xenstore-client.XXXXXX".utf8CString)
    let path = String(cString: mkdtemp(&template)!)
    chmod(path, 0o700)  // whatever the umask, which another test's daemon may be changing
    return path
}

/// The far end of a socket pair, which follows a script on a thread of its own. Its waits end after ten
/// seconds.
final class ScriptedPeer: Sendable {
    private let near: Int32
    private let far: Int32
    private let seen = Locked<[Message]>([])
    private let buffer = Locked<[UInt8]>([])
    private let ended = DispatchSemaphore(value: 0)

    /// `script` runs at once; the socket stays open after it, until `close` or the end of the test.
    init(type: __socket_type = SOCK_STREAM, _ script: @escaping @Sendable (ScriptedPeer) -> Void) {
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(type.rawValue), 0, &ends)
        (near, far) = (ends[0], ends[1])
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(far, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(far, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        Thread.detachNewThread { [self] in
            script(self)
            ended.signal()
        }
    }

    deinit { Glibc.close(far) }

    /// A client on the near end, which it closes.
    func client(_ options: XenStoreOptions = XenStoreOptions()) throws -> XenStoreClient {
        try XenStoreClient(socket: near, options: options)
    }

    /// The near end, for a transport that closes it.
    var nearEnd: Int32 { near }

    /// The next whole message; nil after ten seconds without one, or at the end of the stream.
    @discardableResult func next() -> Message? {
        while true {
            if let message = buffer.with({ Message.take(from: &$0) }) {
                seen.with { $0.append(message) }
                return message
            }
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = recv(far, &bytes, bytes.count, 0)
            guard count > 0 else { return nil }
            buffer.with { $0 += bytes[..<count] }
        }
    }

    func send(_ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { Glibc.send(far, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    /// Answers a request with a payload of its type.
    func reply(_ request: Message?, _ payload: [UInt8]) {
        guard let request else { return }
        send(
            Message(
                type: request.type, requestID: request.requestID, transactionID: request.transactionID,
                payload: payload
            ).bytes)
    }

    func reply(_ request: Message?, _ text: String = "OK\0") { reply(request, Array(text.utf8)) }

    func refuse(_ request: Message?, _ name: String) {
        guard let request else { return }
        send(Message(.error, requestID: request.requestID, Array((name + "\0").utf8)).bytes)
    }

    func event(_ path: String, _ token: String) {
        send(Message(.watchEvent, [UInt8](strings: [path, token])).bytes)
    }

    /// Answers everything with `answer`, or with OK, until the client has gone.
    func serve(_ answer: (Message) -> String? = { _ in nil }) {
        while let request = next() { reply(request, answer(request) ?? "OK\0") }
    }

    func close() { shutdown(far, Int32(SHUT_RDWR)) }

    /// All that was received, once the script has ended.
    func messages() async -> [Message] {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [self] in
                _ = ended.wait(timeout: .now() + 20)
                continuation.resume(returning: seen.with { $0 })
            }
        }
    }

    /// Waits until so many messages were received, at most ten seconds.
    func received(_ count: Int) async -> [Message] {
        await eventually { self.seen.with { $0.count } >= count }
        return seen.with { $0 }
    }
}

/// Looks every few milliseconds, for ten seconds at most, until `condition` holds.
@discardableResult func eventually(_ condition: () async throws -> Bool) async rethrows -> Bool {
    for _ in 0..<2000 {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return try await condition()
}

/// What a request fails with; nil if it succeeds, or fails with something else than a `XenStoreError`.
func failure(_ body: () async throws -> Void) async -> XenStoreError.Cause? {
    do {
        try await body()
        return nil
    } catch {
        return (error as? XenStoreError)?.cause
    }
}
