// Do many share one connection, and is the daemon found where it should be?

import CLinux
import Foundation
import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct ConnectionTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    @Test func `100 tasks on one connection`() async throws {
        let client = try await daemon.client()
        try await withThrowingTaskGroup { group in
            for task in 0..<100 {
                group.addTask {
                    for round in 0..<30 {
                        try await client.write("/task/\(task)", "\(task) \(round)")
                        #expect(try await client.readString("/task/\(task)") == "\(task) \(round)")
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await client.list("/task").count == 100)
    }

    @Test func `requests do not wait for each other's replies`() async throws {
        let peer = ScriptedPeer { peer in
            let requests = (0..<50).map { _ in peer.next() }
            for request in requests { peer.reply(request, "x") }
        }
        let client = try peer.client()
        try await withThrowingTaskGroup { group in
            for _ in 0..<50 { group.addTask { _ = try await client.read("/a") } }
            try await group.waitForAll()
        }
        #expect(await peer.messages().count == 50)
    }

    @Test func `places are those of libxenstore`() {
        let devices = ["/dev/xen/xenbus", "/proc/xen/xenbus"]
        #expect(XenStorePlace.candidates(path: "/p", runDirectory: "/r") == ["/p"])
        #expect(XenStorePlace.candidates(path: nil, runDirectory: "/r") == ["/r/socket"] + devices)
        #expect(
            XenStorePlace.candidates(path: nil, runDirectory: nil)
                == ["/run/xenstored/socket", "/var/run/xenstored/socket"] + devices)
    }

    @Test func `a place is what its file is`() async throws {
        #expect(try XenStorePlace(daemon.directory + "/socket") == .socket(daemon.directory + "/socket"))
        #expect(try XenStorePlace("/dev/null") == .device("/dev/null"))
        #expect(try XenStorePlace(daemon.directory) == .simulatedRing(daemon.directory))
        #expect(throws: XenStoreError.self) { try XenStorePlace(daemon.directory + "/log") }
        #expect(throws: XenStoreError.self) { try XenStorePlace(daemon.directory + "/none") }
    }

    @Test func `the first place that answers is taken`() async throws {
        let places = [daemon.directory + "/none", daemon.directory + "/socket"]
        let client = try await XenStoreClient.connect(toFirstOf: places, XenStoreOptions())
        #expect(try await client.list("/") == ["tool"])
    }

    @Test func `where nobody answers, the error says what was tried`() async throws {
        let directory = temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let places = [directory + "/none", directory]
        let error = await #expect(throws: XenStoreError.self) {
            try await XenStoreClient.connect(toFirstOf: places, XenStoreOptions())
        }
        let text = error.map { "\($0)" } ?? ""
        for place in places { #expect(text.contains(place + ": ")) }
    }

    @Test func `a path that no socket can have`() async throws {
        for path in ["", String(repeating: "x", count: 108)] {
            let cause = await failure { _ = try await XenStoreClient.connect(to: .socket(path)) }
            #expect(cause == .notConnected("\(path): no path that a socket can have"))
        }
    }

    @Test func `a listener that does not accept delays no longer than patience`() async throws {
        let directory = temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: (directory + "/s").utf8) }
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        listen(listener, 0)
        var options = XenStoreOptions()
        options.patience = .milliseconds(100)
        var clients: [XenStoreClient] = []
        let cause = await failure {
            for _ in 0..<10 {
                clients.append(
                    try await XenStoreClient.connect(to: .socket(directory + "/s"), options: options))
            }
        }
        guard case .notConnected = cause else {
            Issue.record("\(String(describing: cause))")
            return
        }
    }
}

/// What the kernel's device does otherwise than a socket.
@Suite(.timeLimit(.minutes(10)))
struct DeviceTests {
    @Test func `many requests at once pass through it`() async throws {
        let peer = ScriptedPeer(type: SOCK_SEQPACKET) { peer in
            for _ in 0..<40 { peer.reply(peer.next(), "x") }
        }
        let client = XenStoreClient(try Connection(DeviceTransport(peer.nearEnd), XenStoreOptions()))
        try await withThrowingTaskGroup { group in
            for _ in 0..<40 { group.addTask { _ = try await client.read("/some/path") } }
            try await group.waitForAll()
        }
        #expect(await peer.messages().count == 40)
    }

    @Test func `each write is one message`() throws {
        // A socket that keeps the borders of writes.
        var ends: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        defer { close(ends[1]) }
        let device = DeviceTransport(ends[0])
        let first = Message(.read, requestID: 1, [1, 2, 3]).bytes
        let bytes = first + Message(.read, requestID: 2).bytes
        #expect(device.send(bytes.span) == .moved(19))
        #expect(device.send(bytes.span.extracting(19...)) == .moved(16))
        var buffer = [UInt8](repeating: 0, count: 100)
        #expect(read(ends[1], &buffer, 100) == 19)
        #expect(read(ends[1], &buffer, 100) == 16)
    }

    @Test func `a write that fails is that request's refusal`() async throws {
        let client = XenStoreClient(try Connection(RefusingDevice(), XenStoreOptions()))
        #expect(await failure { _ = try await client.watch("/w") } == .refused(.exist))
        #expect(try await client.readString("/a") == "fine")
        #expect(await failure { _ = try await client.watch("/w") } == .refused(.exist))
    }
}

/// Refuses WATCH by errno, and answers everything else at once.
private final class RefusingDevice: Transport {
    let descriptor = eventfd(0, Int32(EFD_NONBLOCK))
    var reportsRoom: Bool { false }
    private let replies = Locked<[UInt8]>([])

    deinit { close(descriptor) }

    func noticeSignal() {}

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        replies.with { bytes in
            defer { bytes = [] }
            buffer.copyBytes(from: bytes)
            return bytes.isEmpty ? .wouldBlock : .moved(bytes.count)
        }
    }

    func send(_ bytes: Span<UInt8>) -> Transfer {
        let count = RequestBytes.count(ofFirstIn: bytes)
        let header = MessageHeader(reading: bytes.bytes)
        if header.type == MessageType.watch.rawValue { return .refused(EEXIST, count: count) }
        replies.with { $0 += Message(.read, requestID: header.requestID, Array("fine".utf8)).bytes }
        return .moved(count)
    }
}
