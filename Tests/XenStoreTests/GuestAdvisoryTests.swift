// The advisories that only guests can reach, in the core alone: each test is named after its own
// (specification, section J). Those that need the shared page itself stand with the ring; those that sockets
// reach too, with the transcripts.

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct GuestAdvisoryTests {
    let world = TestWorld(domains: [0])
    let server: Server
    let toolstack: Client

    init() {
        world.canIntroduce = true
        var configuration = ServerConfiguration()
        configuration.quotas[.nodes] = 20
        server = Server(configuration, world: world)
        toolstack = Client(server, domain: 0)
        for number in 3...6 { world.create(UInt16(number)) }
    }

    func introduce(_ number: UInt16) -> Client {
        #expect(toolstack.ask(.introduce, ["\(number)", "77", "9"]) == "OK")
        return Client(server, connection: world.rings[DomainID(number)]!)
    }

    /// A node with these permissions.
    func make(_ path: String, _ permissions: String...) {
        #expect(toolstack.request(.write, [path], value: "v") == "OK")
        #expect(toolstack.ask(.setPermissions, [path] + permissions) == "OK")
    }

    /// The domain goes, and the store is told.
    func destroy(_ numbers: UInt16...) {
        for number in numbers { world.domains?[DomainID(number)] = nil }
        server.domainsChanged()
    }

    /// The paths of the toolstack's events since the last look.
    func eventPaths() -> [String] { toolstack.takeEvents().map { $0.strings[0] } }

    func expectSound(at location: SourceLocation = #_sourceLocation) {
        #expect(
            server.checkInvariants() == 0, "\(world.lines.map(\.text).suffix(5))", sourceLocation: location)
    }

    /// IS_DOMAIN_INTRODUCED is for the privileged, and the special nodes ask for r on themselves, not on `/`.
    @Test func xsa115() {
        let guest = introduce(3)
        let other = introduce(4)
        #expect(guest.ask(.isDomainIntroduced, ["3"]) == "EACCES")
        #expect(toolstack.ask(.setPermissions, ["/", "r0"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["@releaseDomain", "n0", "r4"]) == "OK")
        for client in [guest, other] {
            for path in ["@introduceDomain", "@releaseDomain", "@releaseDomain/5"] {
                #expect(client.ask(.watch, [path, "t"]) == "OK")
            }
            _ = client.takeEvents()
        }
        _ = introduce(5)
        destroy(5)
        #expect(guest.takeEvents() == [])
        #expect(other.takeEvents().map { $0.strings[0] }.sorted() == ["@releaseDomain", "@releaseDomain/5"])
        expectSound()
    }

    /// A guest's transaction, half a message and unread output do not outlive a reset, whoever resets.
    @Test(arguments: ["introduce", "release", "reconnect", "deactivate"]) func xsa425(by way: String) {
        make("/shared", "b0")
        for round in 0..<5 {
            let guest = introduce(3)
            #expect(guest.ask(.watch, ["/shared", "t"]) == "OK")
            #expect(guest.ask(.transactionStart, [""]) != nil)
            #expect(toolstack.request(.write, ["/shared"], value: "\(round)") == "OK")
            guest.send(Array(Message(.read, [UInt8](strings: ["/shared"])).bytes.prefix(3 + 7 * round)))
            let ring = world.rings[DomainID(3)]!
            switch way {
            case "introduce": break
            case "release": #expect(toolstack.ask(.release, ["3"]) == "OK")
            case "reconnect": server.reconnect(ring)
            default: server.deactivate(ring)
            }
            if way == "deactivate" { #expect(server.mustClose(ring) && server.outputCount(ring) == 0) }
            expectSound()
            let again = introduce(3)
            #expect(again.ask(.read, ["/shared"]) == "\(round)")
            #expect(again.ask(.unwatch, ["/shared", "t"]) == "ENOENT")
            #expect(again.takeEvents() == [])
            expectSound()
        }
    }

    /// A domain and its stub domain die together, in either order and in one look.
    @Test(arguments: [[3, 4], [4, 3], []]) func xsa233(order: [UInt16]) {
        let (guest, stub) = (introduce(3), introduce(4))
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "OK")
        make("/home", "n3")
        make("/home/of", "n4")
        make("/home/of/stub", "n3")
        #expect(stub.request(.write, ["/home/made"], value: "x") == "OK")
        #expect(guest.ask(.read, ["/home/made"]) == "EACCES", "it is the stub's")
        #expect(toolstack.ask(.watch, ["@releaseDomain", "r", "1"]) == "OK")
        _ = eventPaths()
        if order.isEmpty { destroy(3, 4) } else { for number in order { destroy(number) } }
        #expect(eventPaths().sorted() == ["@releaseDomain/3", "@releaseDomain/4"])
        #expect(toolstack.ask(.read, ["/home"]) == "ENOENT")
        #expect(world.rings.isEmpty)
        expectSound()
        // A stub whose target has gone has no target, and none in the next domain of that number.
        world.create(3)
        world.create(4)
        let next = introduce(4)
        _ = introduce(3)
        make("/new", "n3")
        #expect(next.ask(.read, ["/new"]) == "EACCES")
    }

    /// Another domain of the same number has none of the rights that the one before it had, whether its end
    /// was noticed at once or not, whether it was introduced or not, on nodes and on special nodes.
    @Test(arguments: [true, false], [true, false]) func xsa322(isNoticed: Bool, isIntroduced: Bool) {
        if isIntroduced { _ = introduce(5) }
        make("/entry", "n0", "b5")
        #expect(toolstack.ask(.setPermissions, ["@releaseDomain", "n0", "r5"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["@introduceDomain", "n5"]) == "OK")
        if isNoticed { destroy(5) }
        world.create(5)
        let next = introduce(5)
        #expect(next.ask(.read, ["/entry"]) == "EACCES")
        #expect(next.request(.write, ["/entry"], value: "x") == "EACCES")
        #expect(next.ask(.getPermissions, ["@releaseDomain"]) == "EACCES")
        #expect(next.ask(.setPermissions, ["@introduceDomain", "n5"]) == "EACCES")
        #expect(toolstack.ask(.getPermissions, ["/entry"]) == "n0b5", "it still shows")
        // What is said of the new one holds.
        #expect(toolstack.ask(.setPermissions, ["/entry", "n0", "r5"]) == "OK")
        #expect(next.ask(.read, ["/entry"]) == "v")
        server.domainsChanged()
        #expect(next.ask(.read, ["/entry"]) == "v")
        expectSound()
    }

    /// The same for the nodes that it owned.
    @Test(arguments: [true, false]) func xsa322Owner(isNoticed: Bool) {
        make("/own", "n5")
        make("/own/below", "n0")
        if isNoticed { destroy(5) }
        world.create(5)
        let next = introduce(5)
        #expect(next.ask(.read, ["/own"]) == "EACCES")
        #expect(toolstack.ask(.read, ["/own"]) == "ENOENT")
        expectSound()
    }

    /// What is said of the new domain, before anybody has noticed that the old one is gone, is not the old
    /// one's.
    @Test func xsa322NewcomerFirst() {
        _ = introduce(5)
        make("/old", "n5")
        world.create(5)
        make("/entry", "n0", "r5")
        make("/own", "n5")
        #expect(toolstack.ask(.setQuota, ["5", "nodes", "7"]) == "OK")
        server.domainsChanged()
        #expect(toolstack.ask(.read, ["/old"]) == "ENOENT")
        #expect(toolstack.ask(.read, ["/own"]) == "v")
        #expect(toolstack.ask(.getQuota, ["5", "nodes"]) == "7")
        #expect(introduce(5).ask(.read, ["/entry"]) == "v")
        expectSound()
    }

    /// A guest that breaks the protocol keeps its domain: only its real end is told, and told once.
    @Test func xsa325() {
        let guest = introduce(3)
        make("/mine", "n3")
        #expect(toolstack.ask(.watch, ["@releaseDomain", "r"]) == "OK")
        _ = eventPaths()
        for breaking in [Message.header(2, 1, 0, 4097), Message.header(2, 1, 0, .max)] {
            guest.send(breaking)
            #expect(guest.mustClose)
            server.domainsChanged()
            #expect(eventPaths() == [])
            #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "T")
            #expect(toolstack.ask(.read, ["/mine"]) == "v")
            expectSound()
            server.reconnect(world.rings[DomainID(3)]!)
            #expect(guest.ask(.read, ["/mine"]) == "v")
        }
        server.deactivate(world.rings[DomainID(3)]!)
        world.domains?[DomainID(3)]?.isDying = true
        server.domainsChanged()
        #expect(eventPaths() == ["@releaseDomain"])
        destroy(3)
        #expect(eventPaths() == [])
        expectSound()
    }

    /// What a domain is given before it is introduced counts against its quotas from the beginning.
    @Test func xsa326() {
        for number in 0..<19 { make("/early/\(number)", "n3") }
        make("/early", "b0")
        let guest = introduce(3)
        #expect(guest.request(.write, ["/early/a"], value: "x") == "OK")
        #expect(guest.request(.write, ["/early/b"], value: "x") == "ENOSPC")
        #expect(guest.ask(.remove, ["/early/0"]) == "OK")
        #expect(guest.request(.write, ["/early/b"], value: "x") == "OK")
        expectSound()
    }

    /// A guest that reads nothing costs no more than its quota and stops nobody, however much it asks for.
    @Test func xsa326Unread() {
        #expect(toolstack.ask(.setQuota, ["memory", "50000"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["/", "r0"]) == "OK")
        let guest = introduce(3)
        let token = String(repeating: "t", count: 2000)
        #expect(guest.ask(.watch, ["/", token]) == "OK")
        _ = guest.takeEvents()
        for number in 0..<200 {
            #expect(toolstack.request(.write, ["/n/\(number)"], value: "x") == "OK")
            guest.send(Message(.directory, [UInt8](strings: ["/"])).bytes)
        }
        #expect(server.outputCount(guest.id) < 60_000)
        expectSound()
        #expect(toolstack.ask(.release, ["3"]) == "OK")
        #expect(toolstack.ask(.control, ["quota", "3"]) == "ENOENT")
        expectSound()
    }

    /// An entry for a domain that is dead, is dying or dies before the commit does not come alive with the
    /// next one.
    @Test func xsa417() {
        world.domains?[DomainID(5)] = nil
        make("/dead", "n0", "b5")
        world.domains?[DomainID(6)]?.isDying = true
        make("/dying", "n0", "b6")
        #expect(toolstack.ask(.setPermissions, ["/dying", "n6"]) == "ENOENT")
        #expect(toolstack.ask(.transactionStart, [""]) == "1")
        #expect(toolstack.ask(.makeDirectory, ["/late"], transaction: 1) == "OK")
        #expect(toolstack.ask(.setPermissions, ["/late", "n0", "b4"], transaction: 1) == "OK")
        destroy(4)
        #expect(toolstack.ask(.transactionEnd, ["T"], transaction: 1) == "OK")
        destroy(6)
        for number in 4...6 { world.create(UInt16(number)) }
        for (number, path) in [(UInt16(4), "/late"), (5, "/dead"), (6, "/dying")] {
            #expect(introduce(number).ask(.read, [path]) == "EACCES")
        }
        expectSound()
    }

    /// Nor does a node that a transaction gives to a domain which dies before the commit.
    @Test(arguments: [true, false]) func xsa417Owner(isNew: Bool) {
        if !isNew { make("/late", "n0") }
        #expect(toolstack.ask(.transactionStart, [""]) == "1")
        if isNew { #expect(toolstack.ask(.makeDirectory, ["/late"], transaction: 1) == "OK") }
        #expect(toolstack.ask(.setPermissions, ["/late", "n4", "b5"], transaction: 1) == "OK")
        destroy(4)
        #expect(toolstack.ask(.transactionEnd, ["T"], transaction: 1) == "EAGAIN")
        world.create(4)
        #expect(introduce(4).ask(.read, ["/late"]) == "EACCES")
        #expect(toolstack.ask(.getPermissions, ["/late"]) == (isNew ? "ENOENT" : "n0"))
        expectSound()
    }

    /// Nodes go with their owner wherever they are, also those that only a transaction sees, and others'
    /// below them.
    @Test func xsa419() {
        let guest = introduce(3)
        make("/open", "b0")
        #expect(guest.request(.write, ["/open/a/b/c"], value: "x") == "OK")
        make("/open/a/b/c/toolstack", "n0")
        make("/local/domain/4/device", "n3")
        #expect(toolstack.ask(.transactionStart, [""]) == "1")
        #expect(toolstack.ask(.read, ["/open/a/b/c"], transaction: 1) == "x")
        #expect(toolstack.ask(.watch, ["/", "t"]) == "OK")
        _ = eventPaths()
        destroy(3)
        #expect(eventPaths().sorted() == ["/local/domain/4/device", "/open/a"])
        #expect(toolstack.ask(.directory, ["/open"]) == "")
        #expect(toolstack.ask(.directory, ["/local/domain/4"]) == "")
        #expect(toolstack.ask(.read, ["/open/a/b/c"], transaction: 1) == "x", "it sees what was")
        #expect(toolstack.ask(.makeDirectory, ["/open/a/b/c/d"], transaction: 1) == "OK")
        #expect(toolstack.ask(.transactionEnd, ["T"], transaction: 1) == "EAGAIN")
        expectSound()
    }

    /// The root cannot go with its owner: it falls to the control domain.
    @Test func xsa419Root() {
        _ = introduce(3)
        make("/kept", "n0")
        make("/gone", "n3")
        #expect(toolstack.ask(.setPermissions, ["/", "r3", "b4"]) == "OK")
        destroy(3)
        #expect(toolstack.ask(.getPermissions, ["/"]) == "r0b4")
        #expect(toolstack.ask(.directory, ["/"]) == "toolkept")
        expectSound()
    }

    /// Two transactions delete the same nodes, and the owner dies between and after.
    @Test func xsa440() {
        let (guest, other) = (introduce(3), introduce(4))
        make("/both", "b0")
        for number in 0..<5 { #expect(guest.request(.write, ["/both/\(number)"], value: "x") == "OK") }
        for client in [guest, other] {
            #expect(client.ask(.transactionStart, [""]) == "1")
            #expect(client.ask(.remove, ["/both/1"], transaction: 1) == "OK")
            #expect(client.ask(.remove, ["/both/2"], transaction: 1) == "OK")
        }
        #expect(guest.ask(.transactionEnd, ["T"], transaction: 1) == "OK")
        destroy(3)
        expectSound()
        #expect(other.ask(.transactionEnd, ["T"], transaction: 1) == "EAGAIN")
        #expect(toolstack.ask(.directory, ["/both"]) == "")
        expectSound()
    }

    /// Usage, limits and features of its own end with the domain.
    @Test func xsa483() {
        make("/open", "b0")
        for round in 0..<3 {
            #expect(toolstack.ask(.setFeature, ["3", "3"]) == "OK")
            let guest = introduce(3)
            #expect(toolstack.ask(.setQuota, ["3", "nodes", "2"]) == "OK")
            #expect(guest.request(.write, ["/open/a\(round)"], value: "x") == "OK")
            #expect(guest.request(.write, ["/open/b\(round)"], value: "x") == "OK")
            #expect(guest.request(.write, ["/open/c\(round)"], value: "x") == "ENOSPC")
            #expect(guest.ask(.watch, ["/open", "t"]) == "OK")
            #expect(guest.ask(.transactionStart, [""]) == "1")
            if round % 2 == 0 { destroy(3) }
            world.create(3)
            server.domainsChanged()
            #expect(toolstack.ask(.control, ["quota", "3"]) == "ENOENT")
            #expect(toolstack.ask(.getQuota, ["3", "nodes"]) == "20")
            #expect(toolstack.ask(.getFeature, ["3"]) == "15")
            expectSound()
        }
    }
}
