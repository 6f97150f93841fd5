// Does the benchmark's guest do its part, and does its host have the documented layout: against a daemon's
// side that is played here.

import CLinux
import Glibc
import Testing
import XenStoreRing
import XenStoreTypes

@testable import xenstore_bench

private func withHost(_ body: (SimulatedHost) throws -> Void) throws {
    let path = "/tmp/xenstore-bench-test.\(getpid()).\(UInt32.random(in: 0 ... .max))"
    let host = try SimulatedHost.make(at: path)
    defer {
        host.erase()
        #expect(access(path, F_OK) == -1)
    }
    try body(host)
}

private func size(_ path: String) -> Int? {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : nil
}

@Test func aHostHasTheDocumentedLayout() throws {
    try withHost { host in
        try host.create(7)
        #expect(size(host.path + "/state") == 32752 * 16)
        #expect(size(host.path + "/dom0/ring") == 4096 && size(host.path + "/dom7/ring") == 4096)
        #expect(readFile(host.path + "/xsd_port") == "1")
        #expect(host.load(7, .flags) == 1 && host.load(8, .flags) == 0)
        #expect(throws: Failure.self) { try host.create(7) }
        #expect(throws: Failure.self) { try host.create(32752) }
        host.remove(7)
        #expect(host.load(7, .flags) == 0)
        #expect(host.domains == [0])
        #expect(access(host.path + "/dom7", F_OK) == -1)
    }
}

@Test func pendingEventsAreSentOnce() throws {
    try withHost { host in
        try host.create(1)
        let daemon = open(host.path + "/evtchn", O_RDWR | O_NONBLOCK)
        defer { close(daemon) }
        shared_store(host.word(1, .daemonPort), 9)
        try host.notifyDaemon(of: 1)
        try host.notifyDaemon(of: 1)
        var ports = [UInt32](repeating: 0, count: 4)
        #expect(read(daemon, &ports, 16) == 4)
        #expect(ports[0] == 9)
        shared_store(host.word(1, .pendingForDaemon), 0)
        try host.notifyDaemon(of: 1)
        #expect(read(daemon, &ports, 16) == 4)
    }
}

@Test func anUnboundPortIsAFailure() throws {
    try withHost { host in
        try host.create(1)
        #expect(throws: Failure.self) { try host.notifyDaemon(of: 1) }
    }
}

@Test func aGuestsRequestsAndRepliesCrossTheRing() throws {
    try withHost { host in
        try host.create(1)
        shared_store(host.word(1, .daemonPort), 2)
        let guest = try RingTransport(of: 1, on: host)
        let connection = Connection(guest)
        try connection.send(.one(.read, "/a\0"))
        #expect(guest.page.requestCount == .moved(19))
        var reply: [UInt8] = []
        for word in [MessageType.read.rawValue, 0, 0, 1] { withUnsafeBytes(of: word) { reply += $0 } }
        reply += Array("x".utf8)
        #expect(guest.page.send(reply.span) == .moved(17))
        #expect(try connection.hasReply())
        try connection.takeReply()
        #expect(try !connection.hasReply())
    }
}

@Test func aFullRingTakesNothing() throws {
    try withHost { host in
        try host.create(1)
        shared_store(host.word(1, .daemonPort), 2)
        let guest = try RingTransport(of: 1, on: host)
        let bytes = [UInt8](repeating: 1, count: 1000)
        #expect(try guest.send(bytes.span) == 1000)
        #expect(try guest.send(bytes.span) == 24)
        #expect(try guest.send(bytes.span) == 0)
    }
}

@Test func everyEventIsCounted() throws {
    try withHost { host in
        try host.create(1)
        let guest = try RingTransport(of: 1, on: host)
        let counter = try EventCounter(of: guest, on: host, daemonCPU: nil)
        defer { counter.stop() }
        let fifo = open(host.folder(1) + "/event", O_RDWR | O_NONBLOCK)
        defer { close(fifo) }
        let send = {
            for _ in 0..<5 {
                let start = now()
                // The counter makes the guest ready for the next event.
                while shared_load(host.word(1, .pendingForGuest)) != 0, now() < start + 5_000_000_000 {}
                #expect(shared_exchange(host.word(1, .pendingForGuest), 1) == 0)
                #expect(write(fifo, "!", 1) == 1)
            }
        }
        #expect(try counter.count(longestPause: .max, during: send) == 5)
        #expect(try counter.count(longestPause: .max) {} == 0)
        // Nobody looks twice within a nanosecond.
        #expect(try counter.count(longestPause: 1, during: send) == nil)
    }
}
