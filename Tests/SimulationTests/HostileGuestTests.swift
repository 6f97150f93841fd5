// Are others served beside a guest that does its worst?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Test(arguments: UInt64(0)..<20) func hostileGuestStopsNobody(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let hostile = HostileGuest(hashSeed: (random.next(), random.next()))
    var last: [String] = []
    for _ in 0..<500 {
        last = last.suffix(11) + [hostile.act(&random)]
        do {
            try hostile.check()
        } catch {
            Issue.record("seed \(seed): \(error)\nit last: \(last.joined(separator: "\n  "))")
            return
        }
    }
    #expect(hostile.floods > 10)
}

/// How a guest's conversation ends before its time.
enum Interruption: CaseIterable {
    case reintroduction, release, failedReintroduction, reconnection, badIndex, oversized, death
}

/// At every byte of a conversation with all kinds of pending state, with its output unread, half read or
/// read: the ring has a new beginning, nothing of before is left, and the same conversation then goes as it
/// should.
@Suite struct InterruptionTests {
    let world = TestWorld(domains: [0])
    let server: Server
    let toolstack: Client
    let conversation: [UInt8] = [
        Message(.watch, requestID: 1, [UInt8](strings: ["x", "t"])),
        Message(.transactionStart, requestID: 2, [0]),
        Message(.write, requestID: 3, transaction: 1, Array("x/y\0in".utf8)),
        Message(.write, requestID: 4, Array("x/z\0out".utf8)),
        Message(.read, requestID: 5, transaction: 1, [UInt8](strings: ["x/y"])),
        Message(.transactionEnd, requestID: 6, transaction: 1, Array("T\0".utf8)),
    ].flatMap(\.bytes)

    init() {
        world.canIntroduce = true
        server = Server(ServerConfiguration(), world: world)
        toolstack = Client(server, domain: 0)
        _ = toolstack.request(.makeDirectory, ["/other"])
    }

    func begin() throws -> Client {
        if world.domains?[DomainID(1)] == nil { world.create(1) }
        #expect(toolstack.request(.introduce, ["1", "7", "9"])?.strings == ["OK"])
        #expect(toolstack.request(.makeDirectory, ["/local/domain/1"])?.strings == ["OK"])
        #expect(toolstack.request(.setPermissions, ["/local/domain/1", "n1"])?.strings == ["OK"])
        return Client(server, connection: try #require(world.rings[DomainID(1)]))
    }

    /// Answers whether the ring is as good as closed now.
    func interrupt(_ guest: Client, _ way: Interruption) -> Bool {
        switch way {
        case .reintroduction:
            #expect(toolstack.request(.introduce, ["1", "7", "9"])?.strings == ["OK"])
        case .failedReintroduction:
            world.attachFailure = .io
            #expect(toolstack.request(.introduce, ["1", "7", "9"])?.errorName == "EIO")
            world.attachFailure = nil
            return true
        case .release:
            #expect(toolstack.request(.release, ["1"])?.strings == ["OK"])
        case .reconnection: server.reconnect(guest.id)
        case .badIndex:
            server.deactivate(guest.id)
            return true
        case .oversized:
            // Only where a header is expected; elsewhere the bytes are part of a message.
            guest.send(Message.header(2, 9, 0, 5000))
            return false
        case .death:
            world.domains?[DomainID(1)] = nil
            server.domainsChanged()
        }
        return false
    }

    @Test(arguments: Interruption.allCases) func atEveryByte(way: Interruption) throws {
        for cut in 0...conversation.count {
            for reading in [0, 10, Int.max] {
                let guest = try begin()
                guest.send(Array(conversation[..<cut]))
                guest.fetch(reading)
                let isBroken = interrupt(guest, way)
                if isBroken {
                    #expect(guest.mustClose && server.outputCount(guest.id) == 0, "cut at \(cut)")
                    guest.send(conversation)
                    #expect(server.outputCount(guest.id) == 0, "cut at \(cut)")
                }
                #expect(server.checkInvariants() == 0, "cut at \(cut)")
                #expect(toolstack.request(.read, ["/other"])?.payload == [])
                try converse("cut at \(cut), \(reading) read")
            }
        }
    }

    /// The whole conversation, after another beginning.
    func converse(_ place: String) throws {
        let guest = try begin()
        #expect(guest.drain() == [], "\(place)")
        let watch = Message(.watch, requestID: 1, [UInt8](strings: ["x", "t"]))
        #expect(guest.request(watch)?.strings == ["OK"], "\(place)")
        _ = guest.takeEvents()
        let id = try #require(
            guest.request(.transactionStart, [""])?.strings.first.flatMap { UInt32($0) }, "\(place)")
        let write = Message(.write, requestID: 3, transaction: id, Array("x/y\0in".utf8))
        #expect(guest.request(write)?.strings == ["OK"], "\(place)")
        #expect(guest.takeEvents() == [], "\(place)")
        #expect(guest.request(.transactionEnd, ["T"], transaction: id)?.strings == ["OK"], "\(place)")
        #expect(guest.takeEvents().map(\.strings) == [["x/y", "t"]], "\(place)")
        #expect(toolstack.request(.release, ["1"])?.strings == ["OK"])
        #expect(toolstack.request(.directory, ["/local/domain"])?.payload == [], "\(place)")
    }
}
