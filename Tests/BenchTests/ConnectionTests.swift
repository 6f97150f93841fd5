// Does the benchmark's client speak the wire: over a socket, against a peer that answers by rote.

import Glibc
import Testing
import XenStoreTypes

@testable import xenstore_bench

/// Answers one connection: an event before every reply; READ gets the path back, TRANSACTION_END EAGAIN, RM
/// ENOENT, all else OK. It ends with the connection.
private final class RotePeer {
    let path: String
    private let listener: Int32
    private var thread = pthread_t()

    init() throws {
        path = "/tmp/xenstore-bench-test.\(getpid()).\(UInt32.random(in: 0 ... .max))"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0 && listen(listener, 1) == 0)
        // Nobody comes: accept fails in time, and so does the test.
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let descriptor = UnsafeMutableRawPointer(bitPattern: Int(listener))
        let answer: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
            RotePeer.answer(accept(Int32(Int(bitPattern: argument)), nil, nil))
            return nil
        }
        try #require(pthread_create(&thread, nil, answer, descriptor) == 0)
    }

    func end() {
        pthread_join(thread, nil)
        close(listener)
        unlink(path)
    }

    private static func answer(_ fd: Int32) {
        defer { close(fd) }
        var header = [UInt32](repeating: 0, count: 4)
        while recv(fd, &header, 16, Int32(MSG_WAITALL)) == 16 {
            var payload = [UInt8](repeating: 0, count: Int(header[3]) + 1)
            _ = recv(fd, &payload, Int(header[3]), Int32(MSG_WAITALL))
            var type = header[0]
            var text = Array("OK\0".utf8)
            switch MessageType(rawValue: type) {
            case .read: text = Array(payload.prefix { $0 != 0 })
            case .transactionEnd: (type, text) = (MessageType.error.rawValue, Array("EAGAIN\0".utf8))
            case .remove: (type, text) = (MessageType.error.rawValue, Array("ENOENT\0".utf8))
            default: break
            }
            var answer: [UInt8] = []
            for word in [15, 0, 0, 4, 0x0061_002F, type, header[1], header[2], UInt32(text.count)] {
                withUnsafeBytes(of: word) { answer += $0 }
            }
            answer += text
            _ = send(fd, answer, answer.count, Int32(MSG_NOSIGNAL))
        }
    }
}

private func withConnection(_ body: (Connection) throws -> Void) throws {
    let peer = try RotePeer()
    defer { peer.end() }
    let connection = try Connection(to: peer.path)
    defer { connection.shutDown() }
    try body(connection)
}

@Test func callsSkipEventsAndReportErrors() throws {
    try withConnection { connection in
        try #expect(connection.call(.read, "/some/path\0") == "/some/path")
        try #expect(connection.call(.write, "/a\0x") == "OK\0")
        #expect(connection.events == 2)
        #expect(throws: Failure.self) { try connection.call(.remove, "/a\0") }
        try #expect(connection.callUnlessAgain(.transactionEnd, transaction: 1, "T\0") == nil)
        #expect(throws: Failure.self) { try connection.callUnlessAgain(.remove, transaction: 1, "/a\0") }
        try #expect(connection.call(.read, "/b\0") == "/b")
    }
}

@Test(arguments: [1, 32])
func loadsAreAnsweredInWhole(_ outstanding: Int) throws {
    try withConnection { connection in
        var asked: [Int] = []
        let size = LoadSize(requests: 500, outstanding: outstanding, seconds: 60)
        let load = try connection.run(size, from: 7) { index, bytes in
            asked.append(index)
            bytes.add(.read, "/\(index)\0")
        }
        #expect(asked == Array(7..<507))
        #expect(load.latencies.count == 500)
        #expect(load.elapsed >= load.latencies.max()!)
        #expect(connection.events == 500)
        try #expect(connection.hasReply() == false)
        try #expect(connection.call(.read, "/after\0") == "/after")
    }
}

@Test func loadsEndInTimeWithEveryReplyTaken() throws {
    try withConnection { connection in
        let size = LoadSize(requests: .max >> 32, outstanding: 8, seconds: 0.05)
        let load = try connection.run(size) { _, bytes in bytes.add(.read, "/a\0") }
        #expect(load.latencies.count < size.requests)
        try #expect(connection.call(.read, "/after\0") == "/after")
    }
}

@Test func loadsFailAtAnError() throws {
    try withConnection { connection in
        let size = LoadSize(requests: 10, outstanding: 4, seconds: 60)
        #expect(throws: Failure.self) {
            try connection.run(size) { index, bytes in bytes.add(index == 5 ? .remove : .read, "/a\0") }
        }
    }
}

@Test func ourOwnProcessIsMeasured() throws {
    var before = try Process.own.cpuTime()
    let start = now()
    var hasGrown = false
    while !hasGrown && now() - start < 10_000_000_000 {
        let time = try Process.own.cpuTime()
        hasGrown = time > before
        // A thread of another test that has ended takes its time with it.
        before = time
    }
    #expect(hasGrown)
    let memory = try Process.own.memory()
    #expect(memory.resident >= memory.proportional && memory.proportional > 0)
    #expect(Process.own.openFileLimit() != nil)
    #expect(throws: Failure.self) { try Process(pid: 1 << 30).cpuTime() }
}
