// Rings with a new beginning at awkward moments (specification, section B).

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct RingLifeTests {
    let world = TestWorld(domains: [0])
    let server: Server
    let toolstack: Client

    init() {
        world.canIntroduce = true
        server = Server(ServerConfiguration(), world: world)
        toolstack = Client(server, domain: 0)
        world.create(3)
    }

    /// The control domain introduces itself again by its own ring: what it said behind that is carried
    /// out, unless the ring could not be attached, and then nothing is left.
    @Test(arguments: [true, false]) func aRingThatBeginsAnewInItsOwnRequest(fails: Bool) throws {
        #expect(toolstack.ask(.introduce, ["0", "7", "9"]) == "OK")
        let ring = Client(server, connection: try #require(world.rings[.zero]))
        #expect(ring.ask(.watch, ["/x", "t"]) == "OK")
        _ = ring.takeEvents()
        world.attachFailure = fails ? .io : nil
        let requests = [
            Message(.getDomainPath, requestID: 1, [UInt8](strings: ["1"])),
            Message(.introduce, requestID: 2, [UInt8](strings: ["0", "7", "9"])),
            Message(.write, requestID: 3, Array("/x\0v".utf8)),
        ]
        ring.send(requests.flatMap(\.bytes) + Message.header(2, 4, 0, 7))
        #expect(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
        #expect(server.mustClose(ring.id) == fails)
        #expect(server.outputCount(ring.id) == (fails ? 0 : 2 * (16 + 3)))
        #expect(toolstack.ask(.read, ["/x"]) == (fails ? "ENOENT" : "v"))
        world.attachFailure = nil
        #expect(toolstack.ask(.introduce, ["0", "7", "9"]) == "OK")
        #expect(ring.drain() == [])
        #expect(ring.ask(.unwatch, ["/x", "t"]) == "ENOENT")
        #expect(server.checkInvariants() == 0)
    }

    /// A list that has become equal to another, because the domain in which they differed has ended, is no
    /// change.
    @Test func listsThatBecameEqualAreEqual() {
        world.domains?[DomainID(3)] = nil
        #expect(toolstack.ask(.makeDirectory, ["/ignored"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["/ignored", "n0", "r3"]) == "OK")
        world.create(3)
        #expect(toolstack.ask(.makeDirectory, ["/named"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["/named", "n0", "r3"]) == "OK")
        for (path, transaction) in [("/named", UInt32(1)), ("/ignored", 2)] {
            #expect(toolstack.ask(.transactionStart, [""]) == "\(transaction)")
            #expect(toolstack.ask(.makeDirectory, [path + "/x"], transaction: transaction) == "OK")
        }
        world.domains?[DomainID(3)] = nil
        server.domainsChanged()
        for path in ["/named", "/ignored"] {
            #expect(toolstack.ask(.setPermissions, [path, "n0"]) == "OK")
            #expect(toolstack.ask(.setPermissions, [path, "n0", "r3"]) == "OK")
        }
        for transaction in UInt32(1)...2 {
            #expect(toolstack.ask(.transactionEnd, ["T"], transaction: transaction) == "OK")
        }
        #expect(server.checkInvariants() == 0)
    }

    /// A domain that is introduced by the host itself, in place of one that had ended, ends that one's
    /// reservation too: who waited for it goes on at once.
    @Test func whoWaitsForADomainThatIsReplacedGoesOn() throws {
        #expect(toolstack.ask(.introduce, ["3", "7", "9"]) == "OK")
        #expect(toolstack.ask(.makeDirectory, ["/n"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["/n", "n3"]) == "OK")
        let guest = Client(server, connection: try #require(world.rings[DomainID(3)]))
        for round in UInt32(1)...2 {
            #expect(guest.ask(.transactionStart, [""]) == "\(round)")
            #expect(guest.ask(.read, ["/n"], transaction: round) == "")
            #expect(guest.ask(.makeDirectory, ["/n/a\(round)"], transaction: round) == "OK")
            #expect(toolstack.request(.write, ["/n"], value: "") == "OK")
            #expect(guest.ask(.transactionEnd, ["T"], transaction: round) == "EAGAIN")
        }
        #expect(guest.ask(.transactionStart, [""]) == "3")
        #expect(guest.ask(.read, ["/n"], transaction: 3) == "")
        toolstack.send(Message(.write, requestID: 5, Array("/n\0waits".utf8)).bytes)
        #expect(toolstack.reply() == nil)
        world.create(3)
        try server.introduce(DomainID(3), gfn: 7, port: 9)
        #expect(toolstack.reply()?.strings == ["OK"])
        #expect(toolstack.ask(.getPermissions, ["/n"]) == "n0", "the old one went with its owner")
        #expect(server.checkInvariants() == 0)
    }
}
