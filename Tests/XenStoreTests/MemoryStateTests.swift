// A host whose memory is bounded: what would grow is refused in time, and nothing else is.

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct MemoryStateTests {
    let world = TestWorld(domains: [0, 3])
    let server: Server
    let control: Client
    let guest: Client

    init() throws {
        world.canIntroduce = true
        world.memory = .ample
        server = Server(ServerConfiguration(), world: world)
        control = Client(server, domain: 0)
        #expect(control.ask(.introduce, ["3", "7", "9"]) == "OK")
        #expect(control.ask(.makeDirectory, ["/g"]) == "OK")
        #expect(control.ask(.setPermissions, ["/g", "n3"]) == "OK")
        guest = Client(server, connection: try #require(world.rings[DomainID(3)]))
        #expect(guest.write("/g/a", "1")?.outcome == "OK")
    }

    @Test func scarceMemoryIsTheControlDomains() throws {
        let transaction = try guest.start()
        world.memory = .scarce
        for type in [MessageType.makeDirectory, .watch, .transactionStart] {
            #expect(guest.ask(type, type == .watch ? ["/g/a", "t"] : ["/g/b"]) == "ENOSPC", "\(type)")
        }
        #expect(guest.write("/g/a", "2")?.outcome == "ENOSPC")
        #expect(guest.ask(.read, ["/g/a"], transaction: transaction) == "ENOSPC")
        #expect(guest.ask(.read, ["/g/a"]) == "1")
        #expect(guest.end(transaction, "F") == "OK")
        #expect(guest.ask(.remove, ["/g/a"]) == "OK")
        #expect(control.write("/c", "1")?.outcome == "OK")
        #expect(world.lines.contains { $0.text.hasPrefix("memory is short") })
        world.memory = .ample
        #expect(guest.write("/g/a", "2")?.outcome == "OK")
    }

    @Test func exhaustedMemoryIsForRemoving() {
        world.memory = .exhausted
        #expect(control.write("/c", "1")?.outcome == "ENOSPC")
        #expect(control.ask(.remove, ["/g"]) == "OK")
        #expect(control.ask(.release, ["3"]) == "OK")
        #expect(server.checkInvariants() == 0)
    }

    /// A guest that does not read is not answered again before it has, and its events are lost.
    @Test func whatWaitsToBeReadDoesNotGrow() {
        #expect(guest.ask(.watch, ["/g", "t"]) == "OK")
        _ = guest.takeEvents()
        world.memory = .scarce
        guest.send(Message(.read, [UInt8](strings: ["/g/a"])).bytes)
        let waiting = server.queuedCount(guest.id)
        #expect(waiting > 0)
        #expect(!server.wantsInput(guest.id))
        #expect(control.write("/g/new", "1")?.outcome == "OK")
        #expect(server.queuedCount(guest.id) == waiting)
        _ = guest.drain()
        #expect(server.wantsInput(guest.id))
    }
}
