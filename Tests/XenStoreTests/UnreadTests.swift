// What does it cost, and whom, that a client does not read (specification, sections D and E; XSA-326)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct UnreadTests {
    /// Requests stop at the mark, go on as the peer reads, and all are answered in order.
    @Test func slowReaderGetsEverythingInOrder() {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        _ = client.write("/n", String(repeating: "v", count: 4000))
        let size = 4016
        client.send((1...100).flatMap { Message(.read, requestID: $0, [UInt8](strings: ["/n"])).bytes })
        var before = test.server.outputCount(client.id)
        #expect(before == 17 * size)
        #expect(!test.server.wantsInput(client.id))
        // Still over the mark, then just under it: one more is carried out.
        client.fetch(before - Server.outputMark)
        #expect(test.server.outputCount(client.id) == Server.outputMark)
        #expect(!test.server.wantsInput(client.id))
        client.fetch(1)
        #expect(test.server.outputCount(client.id) == Server.outputMark - 1 + size)
        while before > 0 {
            client.fetch(1000)
            before = test.server.outputCount(client.id)
            #expect(before < Server.outputMark + size)
        }
        #expect(client.drain().map(\.requestID) == Array(1...100))
        #expect(test.server.wantsInput(client.id))
        #expect(test.server.checkInvariants() == 0)
    }

    /// A host that hands over more than is wanted finds it kept, but is told not to.
    @Test func changeOfWantsInputIsTold() {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        _ = client.write("/n", String(repeating: "v", count: 4000))
        while test.server.nextChanged() != nil {}
        client.send((1...30).flatMap { Message(.read, requestID: $0, [UInt8](strings: ["/n"])).bytes })
        #expect(test.server.nextChanged() == client.id)
        #expect(test.server.nextChanged() == nil)
        test.server.sent(client.id, test.server.outputCount(client.id))
        #expect(test.server.nextChanged() == client.id)
        #expect(test.server.wantsInput(client.id))
    }

    @Test func eventsPastTheSocketsBoundCloseIt() {
        let test = TestServer { $0.socketOutputMax = 50_000 }
        let user = Client(test.server, .domain(DomainID(3)))
        #expect(user.request(.watch, ["/n", "t"])?.outcome == "OK")
        _ = user.takeEvents()
        _ = test.takeWarnings()
        var count = 0
        while !user.mustClose, count < 10_000 {
            #expect(test.control.write("/n/\(count)")?.outcome == "OK")
            count += 1
        }
        // 16 of header, a path of 6 or so, a token.
        #expect((1500..<2300).contains(count))
        #expect(test.takeWarnings().count == 1)
        #expect(!test.server.wantsInput(user.id))
        let unsent = test.server.outputCount(user.id)
        #expect(unsent > 50_000 && unsent < 50_100)
        _ = test.control.write("/n/more")
        #expect(test.server.outputCount(user.id) == unsent)
        user.close()
        #expect(test.server.checkInvariants() == 0)
    }

    /// A ring over its domain's memory quota loses new events until it reads; dom0's loses none.
    @Test(arguments: [3, 0] as [UInt16]) func ringOverItsMemory(domain: UInt16) {
        let test = TestServer {
            $0.quotas[.memory] = 10_000
            $0.quotas.softMemory = 0
        }
        let ring = test.ring(domain)
        #expect(ring.request(.watch, ["/", "t"])?.outcome == "OK")
        _ = ring.takeEvents()
        _ = test.takeWarnings()
        for number in 0..<1000 { #expect(test.control.write("/n/\(number)")?.outcome == "OK") }
        let count = test.server.outputCount(ring.id)
        let paths = ring.takeEvents().map(\.outcome)
        if domain == 0 {
            #expect(paths == (0..<1000).map { "/n/\($0)" })
            #expect(test.server.lostEvents == 0)
        } else {
            #expect(count > 9000 && count < 10_100)
            #expect(paths == (0..<paths.count).map { "/n/\($0)" })
            #expect(test.server.lostEvents == 1000 - paths.count)
            // At 1, 2, 4 and so on to 512.
            let lines = test.takeWarnings()
            #expect(lines.count == 10 && lines.allSatisfy { $0.contains("domain 3") })
        }
        _ = test.control.write("/last")
        #expect(ring.takeEvents().map(\.outcome) == ["/last"])
        #expect(test.server.checkInvariants() == 0)
    }

    /// Who reads what he gets loses nothing, however long nothing came.
    @Test func ringThatWasIdleLosesNothing() {
        let test = TestServer()
        let ring = test.ring(3)
        test.pass(60 * second)
        #expect(ring.request(.watch, ["/n", "t"])?.outcome == "OK")
        #expect(ring.takeEvents().map(\.outcome) == ["/n"])
        test.pass(60 * second)
        // A reply is queued first, and the event behind it.
        ring.send(Message(.read, [UInt8](strings: ["/n"])).bytes + Message.write("/n", "x").bytes)
        #expect(ring.takeEvents().map(\.outcome) == ["/n"])
        #expect(test.server.lostEvents == 0)
    }

    /// Reading a little now and then is reading.
    @Test func ringThatReadsSlowlyLosesNothing() {
        let test = TestServer()
        let ring = test.ring(3)
        _ = ring.request(.watch, ["/n", "t"])
        _ = ring.takeEvents()
        for number in 0..<10 {
            _ = test.control.write("/n/\(number)")
            test.pass(15 * second)
            ring.fetch(1)
        }
        #expect(ring.takeEvents().map(\.outcome) == (0..<10).map { "/n/\($0)" })
        #expect(test.server.lostEvents == 0)
    }
}
