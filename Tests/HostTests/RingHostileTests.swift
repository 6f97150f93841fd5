// Can a guest, or a file of the simulated host, do harm to others?

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct RingHostileTests {
    /// The guest is cut off for this reason, and comes back by a reconnection.
    func expectCutOff(_ guest: SimulatedGuest, error: UInt32, _ host: SimulatedDaemon) throws {
        #expect(eventually { guest.page.error == error })
        let before = guest[word: 2048]
        guest.signal()
        try host.expectServed()
        #expect(guest[word: 2048] == before)
        #expect(host.ask(.isDomainIntroduced, "\(guest.domain.rawValue)\0") == "T|")
        #expect(guest.reconnect())
        #expect(guest.page.error == 0)
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
    }

    @Test(arguments: [1025, 5000, 0x8000_0000, 0xFFFF_FFFF] as [UInt32])
    func `a bad index of requests cuts the guest off`(distance: UInt32) throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(guest.text(.watch, "@releaseDomain\0t\0") == "EACCES|" || guest.receive() != nil)
        guest[word: 2052] = guest[word: 2048] &+ distance
        guest.signal()
        try expectCutOff(guest, error: 2, host)
    }

    @Test func `a bad index of responses cuts the guest off`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        guest[word: 2056] = guest[word: 2060] &+ 7
        #expect(guest.put(Message(.getDomainPath, Array("5\0".utf8)).bytes) != nil)
        guest.signal()
        try expectCutOff(guest, error: 2, host)
    }

    @Test func `a payload of 4097 bytes cuts the guest off`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(guest.put(Message.header(MessageType.write.rawValue, 0, 0, 4097)) == 16)
        guest.signal()
        try expectCutOff(guest, error: 3, host)
    }

    @Test func `one that was cut off comes back by INTRODUCE`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        guest[word: 2052] = guest[word: 2048] &+ 4000
        guest.signal()
        #expect(eventually { guest.page.error == 2 })
        #expect(host.introduce(5) == "OK|")
        #expect(guest.page.error == 0)
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
    }

    @Test func `the end of one that was cut off is told when it comes`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let watcher = try host.releaseWatcher()
        guest[word: 2052] = guest[word: 2048] &+ 4000
        guest.signal()
        #expect(eventually { guest.page.error == 2 })
        try host.host.destroy(DomainID(5))
        #expect(watcher.reply()?.text == "@releaseDomain/5\0t\0")
    }

    @Test func `a page that changes at any moment harms nobody else`() throws {
        let host = try SimulatedDaemon()
        var random = SplitMix64(seed: 41)
        for _ in 0..<20 {
            let guest = try host.guest(5)
            for _ in 0..<400 {
                let word = UInt32(truncatingIfNeeded: random.next())
                switch random.next() % 8 {
                case 0: guest[word: Int(2048 + random.next() % 8 * 4)] = word
                case 1: guest[word: Int(random.next() % 512 * 4)] = word
                case 2: guest[word: 2052] &+= UInt32(random.next() % 64)
                case 3: guest[word: 2056] &+= UInt32(random.next() % 64)
                case 4: guest.page.requestReconnection()
                case 5: _ = guest.put((0..<random.next() % 300).map { _ in UInt8(random.next() % 40) })
                case 6: _ = guest.put(Message(.write, Array("a\0b".utf8)).bytes)
                default: guest.signal()
                }
            }
            guest.signal()
            #expect(host.ask(.control, "check\0") == "OK|")
            #expect(host.ask(.release, "5\0") == "OK|")
        }
        try host.expectServed()
    }

    // MARK: Files

    @Test func `a page that is cut short concerns its own domain only`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(guest.text(.write, "a\0x") == "OK|")
        truncate(guest.ringPath, 0)
        guest.signal()
        #expect(eventually { host.log.contains("the shared page of domain 5 is gone") })
        try host.expectServed()
        #expect(host.ask(.isDomainIntroduced, "5\0") == "T|")
        // Not before the page is there again.
        #expect(host.introduce(5) == "EINVAL|")
        truncate(guest.ringPath, 4096)
        #expect(host.introduce(5) == "OK|")
        #expect(guest.text(.read, "a\0") == "x")
    }

    @Test func `dom0's page too may be cut short`() throws {
        let host = try SimulatedDaemon()
        let kernel = try SimulatedGuest(host.host, 0, exists: true)
        truncate(kernel.ringPath, 0)
        kernel.signal()
        #expect(eventually { host.log.contains("the shared page of domain 0 is gone") })
        truncate(kernel.ringPath, 4096)
        #expect(host.introduce(0) == "OK|")
        #expect(kernel.text(.getDomainPath, "5\0") == "/local/domain/5|")
        try host.expectServed()
    }

    @Test func `a page is cut short under a watch's event`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(guest.text(.watch, "a\0t\0") == "OK|")
        #expect(guest.receive()?.isEvent == true)
        truncate(guest.ringPath, 0)
        #expect(host.ask(.write, "/local/domain/5/a\0x") == "OK|")
        #expect(eventually { host.log.contains("the shared page of domain 5 is gone") })
        try host.expectServed()
        try host.host.destroy(DomainID(5))
        #expect(eventually { host.ask(.isDomainIntroduced, "5\0") == "F|" })
    }

    @Test func `nonsense in the daemon's FIFO is passed over`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let fifo = open(host.directory / "host/evtchn", O_WRONLY | O_NONBLOCK)
        defer { close(fifo) }
        for port: UInt32 in [0, 2, 6, 8, 40_000, 65_535, 65_536, 0xFFFF_FFFF] {
            var port = port
            #expect(write(fifo, &port, 4) == 4)
        }
        var odd: [UInt8] = [1, 2, 3]
        #expect(write(fifo, &odd, 3) == 3)
        try host.expectServed()
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
        // A flood: every event of it is for a ring with nothing in it.
        var many = [UInt32](repeating: guest.daemonPort, count: 1000)
        for _ in 0..<50 { _ = write(fifo, &many, 4000) }
        #expect(guest.text(.getDomainPath, "6\0") == "/local/domain/6|")
    }

    @Test func `a guest that fills its own FIFO hears of nothing, and delays nobody`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let fifo = open(guest.ringPath.dropLast(4) + "event", O_RDWR | O_NONBLOCK)
        defer { close(fifo) }
        let bytes = [UInt8](repeating: 0, count: 65536)
        while write(fifo, bytes, bytes.count) > 0 {}
        #expect(guest.put(Message(.write, Array("a\0x".utf8)).bytes) != nil)
        guest.signal()
        #expect(eventually { host.ask(.read, "/local/domain/5/a\0") == "x" })
        try host.expectServed()
    }
}
