// Are domains introduced, begun anew and ended over a simulated Xen, in the middle of whatever they do?

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct RingLifeTests {
    /// A guest with half a request on its way, and half a response if `response`.
    func halfway(_ host: SimulatedDaemon, _ id: UInt16, response: Bool) throws -> SimulatedGuest {
        let guest = try host.guest(id)
        #expect(guest.text(.write, "v\0" + String(repeating: "v", count: 1500)) == "OK|")
        #expect(guest.text(.watch, "v\0t\0") == "OK|")
        #expect(guest.receive()?.isEvent == true)
        if response {
            #expect(guest.put(Message(.read, Array("v\0".utf8)).bytes) != nil)
            guest.signal()
            #expect(eventually { guest[word: 2060] &- guest[word: 2056] == 1024 })
        }
        #expect(guest.put(Message(.write, Array("w\0never".utf8)).bytes.dropLast(3)) != nil)
        guest.signal()
        #expect(eventually { guest[word: 2048] == guest[word: 2052] })
        return guest
    }

    func expectNew(_ guest: SimulatedGuest, _ host: SimulatedDaemon) throws {
        #expect(guest.page.error == 0)
        #expect(guest.text(.unwatch, "v\0t\0") == "ENOENT|")
        #expect(guest.text(.read, "w\0") == "ENOENT|")
        #expect(guest.text(.write, "w\0now") == "OK|")
        #expect(guest.text(.read, "w\0") == "now")
        try host.expectServed()
    }

    @Test(arguments: [false, true]) func `a reconnection in mid-message begins anew`(response: Bool) throws {
        let host = try SimulatedDaemon()
        let guest = try halfway(host, 5, response: response)
        #expect(guest.reconnect())
        #expect([2048, 2052, 2056, 2060].map { guest[word: $0] } == [0, 0, 0, 0])
        try expectNew(guest, host)
    }

    @Test(arguments: [false, true]) func `INTRODUCE again in mid-message begins anew`(response: Bool) throws {
        let host = try SimulatedDaemon()
        let guest = try halfway(host, 5, response: response)
        guest.forget()
        #expect(host.introduce(5, port: 9) == "OK|")
        try expectNew(guest, host)
    }

    @Test(arguments: [false, true])
    func `RELEASE in mid-message, and INTRODUCE after it`(response: Bool) throws {
        let host = try SimulatedDaemon()
        let guest = try halfway(host, 5, response: response)
        #expect(host.ask(.release, "5\0") == "OK|")
        #expect(guest.daemonPort == 0)
        #expect(host.ask(.isDomainIntroduced, "5\0") == "F|")
        #expect(host.ask(.directory, "/local/domain/5\0") == "ENOENT|")
        guest.signal()
        #expect(guest.put([1, 2, 3]) != nil)
        try host.expectServed()
        guest.forget()
        #expect(host.introduce(5) == "OK|")
        #expect(host.ask(.makeDirectory, "/local/domain/5\0") == "OK|")
        #expect(host.ask(.setPermissions, "/local/domain/5\0n5\0") == "OK|")
        try expectNew(guest, host)
    }

    @Test func `shutdown, resume, crash, destruction and their events`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let watcher = try host.releaseWatcher()
        let event = RawReply(type: 15, requestID: 0, payload: Array("@releaseDomain/5\0t\0".utf8))
        try host.host.shutDown(DomainID(5))
        #expect(watcher.reply() == event)
        #expect(guest.text(.write, "a\0still") == "OK|")
        // The second time is no news; after RESUME it is.
        try host.host.shutDown(DomainID(5))
        #expect(host.ask(.resume, "5\0") == "OK|")
        try host.host.crash(DomainID(5))
        #expect(watcher.reply() == event)
        try host.host.destroy(DomainID(5))
        #expect(watcher.reply() == event)
        #expect(host.ask(.isDomainIntroduced, "5\0") == "F|")
        #expect(host.ask(.directory, "/local/domain/5\0") == "ENOENT|")
        #expect(guest.daemonPort == 0)
        try host.host.forget(DomainID(5))
        try host.expectServed()
        #expect(watcher.reply()?.text == "@releaseDomain/999\0t\0")
    }

    @Test func `a guest that is destroyed is woken`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        host.stop()
        while guest.waitForSignal(0) {}
        try host.host.shutDown(DomainID(5))
        #expect(!guest.waitForSignal(0))
        try host.host.destroy(DomainID(5))
        #expect(guest.waitForSignal(0) && guest.flags & 2 != 0)
        // Once; and one that has no FIFO is destroyed all the same.
        #expect(!guest.waitForSignal(0))
        guest.hideEventChannel(true)
        try host.host.destroy(DomainID(5))
    }

    @Test func `the last requests of a domain that ends are carried out`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        #expect(host.ask(.write, "/note\0") == "OK|")
        #expect(host.ask(.setPermissions, "/note\0n0\0b5\0") == "OK|")
        #expect(guest.put(Message(.write, Array("/note\0last".utf8)).bytes) != nil)
        guest.signal()
        try host.host.destroy(DomainID(5))
        #expect(eventually { host.ask(.isDomainIntroduced, "5\0") == "F|" })
        #expect(host.ask(.read, "/note\0") == "last")
    }

    @Test func `another domain of the same number is another domain`() throws {
        let host = try SimulatedDaemon()
        let first = try host.guest(5)
        #expect(first.text(.write, "a\0first") == "OK|")
        let watcher = try host.releaseWatcher()
        // The toolstack is fast: the daemon sees the end and the new beginning at once.
        let second = try SimulatedGuest(host.host, 5)
        #expect(host.introduce(5) == "OK|")
        #expect(watcher.reply()?.text == "@releaseDomain/5\0t\0")
        #expect(host.ask(.directory, "/local/domain/5\0") == "ENOENT|")
        #expect(second.text(.getDomainPath, "5\0") == "/local/domain/5|")
        // The first one's page is not the second's.
        #expect(first.put(Message(.getDomainPath, Array("5\0".utf8)).bytes) != nil)
        #expect(first.receive(100) == nil)
    }

    @Test func `features are as SET_FEATURE has them`() throws {
        let host = try SimulatedDaemon()
        let guest = try SimulatedGuest(host.host, 5)
        #expect(host.ask(.setFeature, "5\04\0") == "OK|")
        #expect(host.introduce(5) == "OK|")
        #expect(guest.page.features == 4)
        // Neither reconnection nor error word.
        guest.page.requestReconnection()
        guest.signal()
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
        #expect(guest.page.isReconnectRequested)
        guest[word: 2052] = guest[word: 2048] &+ 5000
        guest.signal()
        try host.expectServed()
        #expect(guest.page.error == 0)
        #expect(guest.receive(50) == nil)
    }

    @Test func `what fails is named, and leaves nothing`() throws {
        let host = try SimulatedDaemon()
        #expect(host.introduce(5) == "EINVAL|")
        let guest = try SimulatedGuest(host.host, 5)
        truncate(guest.ringPath, 100)
        #expect(host.introduce(5) == "EINVAL|")
        #expect(eventually { host.log.contains("cannot introduce domain 5: ") })
        #expect(host.log.contains("dom5/ring has 100 bytes, expected 4096"))
        truncate(guest.ringPath, 4096)
        unlink(guest.ringPath.dropLast(4) + "event")
        #expect(host.introduce(5) == "EINVAL|")
        #expect(host.ask(.isDomainIntroduced, "5\0") == "F|")
        // The page is not still mapped.
        try host.host.create(DomainID(5))
        #expect(host.introduce(5) == "OK|")
        // A reattachment that fails leaves the ring still, until the next one.
        let again = try SimulatedGuest(host.host, 5, exists: true)
        #expect(again.text(.getDomainPath, "5\0") == "/local/domain/5|")
        unlink(guest.ringPath.dropLast(4) + "event")
        symlink("/dev/null", guest.ringPath.dropLast(4) + "event")
        #expect(host.introduce(5) == "EINVAL|")
        try host.expectServed()
    }

    @Test func `domains that are there at the start`() throws {
        let host = try SimulatedDaemon { host in
            for id: UInt16 in [3, 4, 5] { try host.create(DomainID(id)) }
            let withPort = try SimulatedGuest(host, 4, exists: true)
            withPort[word: 2076] = 11
        }
        #expect(host.ask(.isDomainIntroduced, "3\0") == "F|")
        #expect(host.ask(.isDomainIntroduced, "4\0") == "T|")
        #expect(eventually { host.log.contains("wait for INTRODUCE: 3, 5") })
        let guest = try SimulatedGuest(host.host, 4, exists: true)
        #expect(guest.text(.getDomainPath, "4\0") == "/local/domain/4|")
        #expect(host.introduce(3) == "OK|")
    }

    @Test func `the next daemon serves the same host`() throws {
        let host = try SimulatedDaemon()
        let guest = try host.guest(5)
        let kernel = try SimulatedGuest(host.host, 0, exists: true)
        // Pending for ever, unless the next daemon begins anew.
        guest.page.requestReconnection()
        host.stop()
        #expect(guest.daemonPort == 0 && kernel.daemonPort == 0)
        try host.start()
        #expect(kernel.text(.getDomainPath, "5\0") == "/local/domain/5|")
        #expect(host.introduce(5) == "OK|")
        #expect(!guest.page.isReconnectRequested)
        #expect(guest.text(.getDomainPath, "5\0") == "/local/domain/5|")
    }

    @Test func `hundreds of domains come and go`() throws {
        let host = try SimulatedDaemon()
        for round in 0..<5 {
            let guests = try (1...100).map { try host.guest($0) }
            for guest in guests { #expect(guest.text(.write, "r\0\(round)") == "OK|") }
            for guest in guests { try host.host.destroy(guest.domain) }
            #expect(eventually { host.ask(.directory, "/local/domain\0") == "" })
            for guest in guests { try host.host.forget(guest.domain) }
        }
        try host.expectServed()
    }
}
