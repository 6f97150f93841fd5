// Are guests served over their rings, one turn at a time, with no more signals than batches?

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct RingConnectionTests {
    @Test func `a guest reads, writes and watches`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(guest.page.features == 15)
        #expect(guest.text(.write, "a\0one") == "OK|")
        #expect(guest.text(.read, "/local/domain/5/a\0") == "one")
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
        #expect(guest.text(.watch, "a\0t\0") == "OK|")
        #expect(guest.receive().map { Message.printable($0.payload) } == "a|t|")
        #expect(host.ask(.write, "/local/domain/5/a\0two") == "OK|")
        #expect(guest.receive() == Message(.watchEvent, Array("a\0t\0".utf8)))
        #expect(guest.text(.read, "a\0") == "two")
        #expect(guest.text(.introduce, "6\01\07\0") == "EACCES|")
    }

    @Test func `dom0's kernel has its ring from the start`() throws {
        let host = try SimulatedDaemon()
        let kernel = try SimulatedGuest(host.host, 0, exists: true)
        #expect(kernel.daemonPort != 0)
        #expect(kernel.text(.write, "/made/by\0dom0") == "OK|")
        #expect(host.ask(.read, "/made/by\0") == "dom0")
    }

    @Test func `what a guest signals before it is introduced is not forgotten`() throws {
        let host = try SimulatedDaemon()
        let guest = try SimulatedGuest(host.host, 5)
        #expect(guest.daemonPort == 0)
        guest.signal()
        #expect(host.introduce(5) == "OK|")
        #expect(guest.text(.getDomainPath, "1\0") == "/local/domain/1|")
    }

    @Test func `a request may come byte by byte`() throws {
        let guest = try SimulatedDaemonGuest(5)
        for byte in Message(.write, Array("b\0value".utf8)).bytes {
            #expect(guest.guest.put([byte]) == 1)
            guest.guest.signal()
        }
        #expect(guest.guest.receive()?.strings == ["OK"])
    }

    @Test func `messages larger than the ring pass in both directions`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let value = String(repeating: "v", count: 2000)
        #expect(guest.text(.write, "big\0\(value)") == "OK|")
        let reply = guest.ask(.read, "big\0")
        #expect(reply?.payload == Array(value.utf8))
        // 0 bytes of quota are no limit: a domain's own privileged messages have 4096 bytes.
        let kernel = try SimulatedGuest(host.host, 0, exists: true)
        let largest = String(repeating: "w", count: 4096 - "/big\0".utf8.count)
        #expect(kernel.text(.write, "/big\0\(largest)") == "OK|")
        #expect(kernel.ask(.read, "/big\0")?.payload.count == largest.utf8.count)
    }

    @Test func `a batch costs one signal, not one a message`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        // 24 requests fit into the ring, and their 24 replies too.
        let request = Message(.getDomainPath, Array("5\0".utf8)).bytes
        var counts: [Int] = []
        #expect(guest.waitForSignal(), "that of the introduction")
        for _ in 0..<20 {
            let before = guest.signals
            #expect(guest.put((0..<24).flatMap { _ in request }) == 24 * request.count)
            guest.signal()
            for _ in 0..<24 { #expect(guest.receive()?.strings == ["/local/domain/5"]) }
            // Taking what was there has signalled the daemon, which has nothing to say to that.
            guest.waitForSignal(50)
            counts.append(guest.signals - before)
        }
        #expect(counts.allSatisfy { $0 == 1 }, "\(counts)")
    }

    @Test func `a full response ring waits for its reader and loses nothing`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let value = String(repeating: "v", count: 1500)
        #expect(guest.text(.write, "v\0\(value)") == "OK|")
        let request = Message(.read, Array("v\0".utf8)).bytes
        #expect(guest.put((0..<10).flatMap { _ in request }) == 10 * request.count)
        guest.signal()
        #expect(eventually { guest[word: 2060] &- guest[word: 2056] == 1024 })
        try host.expectServed()
        for _ in 0..<10 { #expect(guest.receive()?.payload.count == 1500) }
        #expect(guest.receive(50) == nil)
    }

    @Test func `a guest that reads nothing is not read from, and then goes on`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let request = Message(.getDomainPath, Array("5\0".utf8)).bytes
        var sent = 0
        // 20 requests may wait for their replies (quota outstanding); the ring holds some more.
        while sent < 1000 {
            guard let count = guest.put(request[(sent % request.count)...]) else { break }
            sent += count
            guest.signal()
            if count == 0 && !guest.waitForSignal(100) { break }
        }
        #expect(sent >= 1000)
        while sent % request.count != 0 {
            sent += guest.put(request[(sent % request.count)...]) ?? 0
            guest.signal()
            guest.fetch()
        }
        for _ in 0..<sent / request.count { #expect(guest.receive()?.strings == ["/local/domain/5"]) }
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
    }

    /// Linux signals only if it has found the ring empty when it put something, or full when it took
    /// something. Both sides look and store at the same time here, so each order comes up sooner or later.
    @Test func `a guest that leaves out what signals it may is served all the same`() throws {
        let host = try SimulatedDaemon()
        let kernel = try SimulatedGuest(host.host, 0, exists: true)
        let request = Message(.getDomainPath, Array("5\0".utf8)).bytes
        let replyCount = MessageHeader.size + "/local/domain/5\0".utf8.count
        let rounds = 50_000
        // Few at a time: a full ring would be looked at again anyway.
        let unanswered = 3
        var random = SplitMix64(seed: 7)
        var (sent, taken) = (0, 0)
        var buffer = [UInt8](repeating: 0, count: 1024)
        while taken < rounds * replyCount {
            var moved = 0
            let isOpen = sent / request.count < min(rounds, taken / replyCount + unanswered)
            if isOpen {
                // So that puts meet the daemon at any step of its turn.
                for _ in 0..<random.next() % 200 { _ = kernel[word: 2064] }
                let before = kernel[word: 2052]
                moved = kernel.put(request[(sent % request.count)...]) ?? 0
                sent += moved
                if moved > 0 && kernel[word: 2048] == before { kernel.signal() }
            }
            if isOpen { continue }
            let before = kernel[word: 2056]
            let outcome = buffer.withUnsafeMutableBytes { kernel.page.receiveResponse(into: $0) }
            if case .moved(let count) = outcome, count > 0 {
                taken += count
                moved += count
                if kernel[word: 2060] &- before >= 1024 { kernel.signal() }
            }
            if moved == 0 && !kernel.waitForSignal() { break }
        }
        #expect(taken == rounds * replyCount)
    }

    @Test func `a guest that never stops asking delays nobody`() throws {
        let host = try SimulatedDaemon()
        let greedy = try host.guest(5)
        let modest = try host.guest(6)
        let request = Message(.getDomainPath, Array("5\0".utf8)).bytes
        let batch = (0..<40).flatMap { _ in request }
        var sent = 0
        for round in 0..<200 {
            sent = (sent + (greedy.put(batch[(sent % request.count)...]) ?? 0)) % request.count
            greedy.signal()
            greedy.fetch()
            if round % 20 == 0 { #expect(modest.text(.write, "n\0\(round)") == "OK|") }
        }
        #expect(host.ask(.read, "/local/domain/6/n\0") == "180")
    }

    @Test func `events and replies of many guests do not mix`() throws {
        let host = try SimulatedDaemon()
        let guests = try (1...30).map { try host.guest($0) }
        for guest in guests { #expect(guest.text(.watch, "w\0t\0") == "OK|") }
        for guest in guests { #expect(guest.receive()?.isEvent == true) }
        for guest in guests {
            #expect(host.ask(.write, "/local/domain/\(guest.domain.rawValue)/w\0x") == "OK|")
        }
        for guest in guests {
            #expect(guest.receive()?.strings == ["w", "t"])
            #expect(guest.receive(0) == nil)
        }
    }
}

/// A guest with a host of its own.
struct SimulatedDaemonGuest {
    let host: SimulatedDaemon
    let guest: SimulatedGuest

    init(_ id: UInt16) throws {
        host = try SimulatedDaemon()
        guest = try host.guest(id)
    }
}
