// What a daemon makes of domains that its store speaks of, when another one was killed (design, "Backends").

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct RestoreTests {
    let world = TestWorld()
    let backend = TestBackend()
    let server: Server
    let toolstack: Client

    init() {
        world.canIntroduce = true
        world.domains = [:]
        for number: UInt16 in [0, 3, 4] { world.create(number) }
        server = Server(ServerConfiguration(), world: world, backend: backend)
        _ = server.recover([], sequence: 0)
        server.restore(SessionImage())
        toolstack = Client(server, domain: 0)
    }

    /// Another daemon on what the first has left in its store; it knows of no sessions.
    func restarted() -> Server {
        server.commit()
        world.forgetRings()
        world.lines = []
        let found = backend.found()
        let other = Server(ServerConfiguration(), world: world, backend: found)
        #expect(other.recover(found.records, sequence: found.sequence))
        other.restore(SessionImage())
        return other
    }

    /// Nothing is told before it is in the store.
    func ask(_ toolstack: Client, _ type: MessageType, _ strings: [String]) -> String? {
        if let early = toolstack.ask(type, strings) { return early }
        toolstack.server.commit()
        return toolstack.reply().map { String(decoding: $0.payload.filter { $0 != 0 }, as: UTF8.self) }
    }

    /// A domain's home, as a toolstack makes it, and the domain in it.
    func create(_ number: UInt16) {
        let home = "/local/domain/\(number)"
        #expect(ask(toolstack, .makeDirectory, [home]) == "OK")
        #expect(ask(toolstack, .setPermissions, [home, "n0", "r\(number)"]) == "OK")
        #expect(ask(toolstack, .makeDirectory, [home + "/data"]) == "OK")
        #expect(ask(toolstack, .setPermissions, [home + "/data", "n\(number)"]) == "OK")
        #expect(ask(toolstack, .introduce, ["\(number)", "77", "9"]) == "OK")
    }

    @Test func nothingIsSaidOfDomainsThatHaveLeftNothing() {
        create(3)
        #expect(ask(toolstack, .remove, ["/local/domain/3"]) == "OK")
        world.domains?[DomainID(3)] = nil
        server.domainsChanged()
        let other = restarted()
        #expect(world.lines.map(\.text) == [])
        #expect(other.accounts.known(DomainID(3)) == nil)
    }

    @Test func whatIsLeftOfAnUnknownDomainGoesAndIsTold() {
        create(4)
        let other = restarted()
        #expect(world.lines.map(\.text) == ["domain 4 is not known from before: what it had is removed"])
        let toolstack = Client(other, domain: 0)
        #expect(ask(toolstack, .directory, ["/local/domain/4"]) == "")
        #expect(Client(other, domain: 4).ask(.read, ["/local/domain/4"]) == "EACCES")
    }
}
