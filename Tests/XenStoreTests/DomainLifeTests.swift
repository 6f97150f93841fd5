// Domains from introduction to death, in the core alone (specification, section B).

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

/// A world with rings that are no more than a note.
final class RingWorld: World {
    var domains: [DomainID: DomainIdentity] = [:]
    var rings: [DomainID: ConnectionID] = [:]
    var attached: [String] = []
    var failure: ErrorName?

    override var hasHypervisor: Bool { true }
    override func domain(_ id: DomainID) -> DomainIdentity? { domains[id] }

    override func attach(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(ErrorName) {
        if let failure { throw failure }
        rings[domain] = connection
        attached.append("attach \(domain.rawValue) gfn \(gfn) port \(port) features \(features)")
    }

    override func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(ErrorName) {
        if let failure { throw failure }
        attached.append("reattach \(domain.rawValue) port \(port) features \(features)")
    }

    override func detach(_ domain: DomainID) {
        rings[domain] = nil
        attached.append("detach \(domain.rawValue)")
    }

    func create(_ number: UInt16, unique: UInt64) {
        domains[DomainID(number)] = DomainIdentity(uniqueID: unique)
    }
}

@Suite struct DomainLifeTests {
    let world = RingWorld()
    let server: Server
    let toolstack: Client

    init() {
        server = Server(ServerConfiguration(), world: world)
        toolstack = Client(server, domain: 0)
        for number in 3...5 { world.create(UInt16(number), unique: 100 + UInt64(number)) }
    }

    func introduce(_ number: UInt16) -> Client {
        #expect(toolstack.ask(.introduce, ["\(number)", "77", "9"]) == "OK")
        return Client(server, connection: world.rings[DomainID(number)]!)
    }

    func events() -> [String] {
        toolstack.takeEvents().map { String(decoding: $0.payload.map { $0 == 0 ? 0x7C : $0 }, as: UTF8.self) }
    }

    func watchSpecial() {
        for (path, token, depth) in [
            ("@introduceDomain", "i", ""), ("@releaseDomain", "r", ""), ("@releaseDomain", "d", "1"),
            ("@releaseDomain/4", "4", ""), ("@introduceDomain", "j", "1"),
        ] {
            let strings = depth.isEmpty ? [path, token] : [path, token, depth]
            #expect(toolstack.ask(.watch, strings) == "OK")
        }
        _ = events()
    }

    @Test func introductionTellsAndAttaches() {
        watchSpecial()
        #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "F")
        let guest = introduce(3)
        #expect(events() == ["@introduceDomain|i|", "@introduceDomain/3|j|"])
        #expect(world.attached == ["attach 3 gfn 77 port 9 features 15"])
        #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "T")
        #expect(guest.ask(.getDomainPath, ["3"]) == "/local/domain/3")
        #expect(
            toolstack.request(.introduce, ["8", "1", "9"]).map(\.errorName) == "EINVAL", "no such domain")
        for wrong in [["3", "1"], ["3", "1", "0"], ["x", "1", "9"], ["3", "x", "9"]] {
            #expect(toolstack.ask(.introduce, wrong) == "EINVAL")
        }
        #expect(guest.ask(.introduce, ["4", "1", "9"]) == "EACCES")
        #expect(server.checkInvariants() == 0)
    }

    @Test func introductionAgainIsANewBeginning() {
        let guest = introduce(3)
        #expect(toolstack.ask(.setPermissions, ["/", "b0"]) == "OK")
        #expect(guest.ask(.watch, ["/x", "t"]) == "OK")
        #expect(guest.ask(.transactionStart, [""]) == "1")
        guest.send([1, 2, 3])
        watchSpecial()
        #expect(toolstack.ask(.introduce, ["3", "77", "12"]) == "OK")
        #expect(events() == [])
        #expect(world.attached.last == "reattach 3 port 12 features 15")
        // The half header is forgotten, and so are the watch and the transaction.
        #expect(guest.ask(.unwatch, ["/x", "t"]) == "ENOENT")
        #expect(guest.ask(.transactionStart, [""]) == "2")
        #expect(server.checkInvariants() == 0)
    }

    @Test func aFailingAttachmentLeavesNothing() {
        watchSpecial()
        world.failure = .inval
        #expect(toolstack.ask(.introduce, ["3", "77", "9"]) == "EINVAL")
        #expect(events() == [])
        #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "F")
        world.failure = nil
        _ = introduce(3)
        world.failure = .io
        #expect(toolstack.ask(.introduce, ["3", "77", "9"]) == "EIO")
        #expect(server.mustClose(world.rings[DomainID(3)]!))
        #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "T")
        #expect(server.checkInvariants() == 0)
    }

    @Test func releaseTakesWhatTheDomainHad() {
        let guest = introduce(3)
        _ = introduce(4)
        watchSpecial()
        #expect(toolstack.ask(.watch, ["/own", "w"]) == "OK")
        _ = events()
        #expect(toolstack.request(.write, ["/own/data"], value: "x") == "OK")
        #expect(toolstack.ask(.setPermissions, ["/own/data", "n3"]) == "OK")
        #expect(guest.request(.write, ["/own/data/deep/er"], value: "x") == "OK")
        #expect(toolstack.request(.write, ["/own/kept"], value: "x") == "OK")
        #expect(toolstack.ask(.setPermissions, ["/own/kept", "n0", "b3"]) == "OK")
        #expect(toolstack.ask(.setPermissions, ["@releaseDomain", "n0", "r3"]) == "OK")
        #expect(guest.ask(.watch, ["/own", "mine"]) == "OK")
        _ = events()
        #expect(toolstack.ask(.release, ["3"]) == "OK")
        #expect(events() == ["/own/data|w|", "@releaseDomain|r|", "@releaseDomain/3|d|"])
        #expect(world.attached.last == "detach 3")
        #expect(toolstack.ask(.directory, ["/own"]) == "kept")
        #expect(toolstack.ask(.control, ["quota", "3"]) == "ENOENT")
        // A later domain 3 inherits nothing, but the entries still show.
        world.create(3, unique: 200)
        let next = introduce(3)
        #expect(toolstack.ask(.getPermissions, ["/own/kept"]) == "n0b3")
        #expect(next.ask(.read, ["/own/kept"]) == "EACCES")
        #expect(next.ask(.getPermissions, ["@releaseDomain"]) == "EACCES")
        #expect(toolstack.ask(.release, ["9"]) == "ENOENT")
        #expect(toolstack.ask(.release, ["0"]) == "EINVAL")
        #expect(server.checkInvariants() == 0)
    }

    @Test func shutdownIsToldOnceAndDeathOnce() {
        _ = introduce(4)
        _ = introduce(5)
        watchSpecial()
        world.domains[DomainID(4)]?.isShutdown = true
        server.domainsChanged()
        #expect(events() == ["@releaseDomain|r|", "@releaseDomain/4|d|", "@releaseDomain/4|4|"])
        server.domainsChanged()
        #expect(events() == [])
        #expect(toolstack.ask(.resume, ["4"]) == "OK")
        server.domainsChanged()
        #expect(events() == ["@releaseDomain|r|", "@releaseDomain/4|d|", "@releaseDomain/4|4|"])
        #expect(toolstack.ask(.isDomainIntroduced, ["4"]) == "T")
        world.domains[DomainID(4)]?.isDying = true
        world.domains[DomainID(5)] = nil
        server.domainsChanged()
        #expect(events().count == 5)
        #expect(toolstack.ask(.isDomainIntroduced, ["4"]) == "F")
        #expect(toolstack.ask(.isDomainIntroduced, ["5"]) == "F")
        #expect(toolstack.ask(.resume, ["4"]) == "ENOENT")
        #expect(toolstack.ask(.resume, ["0"]) == "EINVAL")
        #expect(server.checkInvariants() == 0)
    }

    @Test func anotherDomainOfTheSameNumberIsAnotherDomain() {
        _ = introduce(3)
        #expect(toolstack.request(.write, ["/own"], value: "x") == "OK")
        #expect(toolstack.ask(.setPermissions, ["/own", "n3"]) == "OK")
        world.create(3, unique: 999)
        watchSpecial()
        let next = introduce(3)
        #expect(
            events() == [
                "@releaseDomain|r|", "@releaseDomain/3|d|", "@introduceDomain|i|", "@introduceDomain/3|j|",
            ])
        #expect(world.attached.suffix(2) == ["detach 3", "attach 3 gfn 77 port 9 features 15"])
        #expect(next.ask(.read, ["/own"]) == "EACCES", "gone with its owner, and / is not readable")
        #expect(toolstack.ask(.read, ["/own"]) == "ENOENT")
    }

    @Test func whatADomainOwnedBeforeItWasIntroducedGoesToo() {
        #expect(toolstack.request(.write, ["/early"], value: "x") == "OK")
        #expect(toolstack.ask(.setPermissions, ["/early", "n5"]) == "OK")
        server.domainsChanged()
        watchSpecial()
        world.domains[DomainID(5)] = nil
        server.domainsChanged()
        #expect(events() == [])
        #expect(toolstack.ask(.read, ["/early"]) == "ENOENT")
        #expect(server.checkInvariants() == 0)
    }

    @Test func aBrokenRingKeepsItsDomain() {
        let guest = introduce(3)
        let ring = world.rings[DomainID(3)]!
        watchSpecial()
        #expect(guest.ask(.watch, ["@releaseDomain", "t"]) == "OK")
        guest.send([UInt8](repeating: 0xFF, count: 16))
        #expect(server.mustClose(ring))
        #expect(toolstack.ask(.isDomainIntroduced, ["3"]) == "T")
        #expect(events() == [])
        server.reconnect(ring)
        #expect(!server.mustClose(ring))
        #expect(guest.ask(.getDomainPath, ["3"]) == "/local/domain/3")
        server.deactivate(ring)
        #expect(server.mustClose(ring))
        #expect(toolstack.ask(.introduce, ["3", "77", "9"]) == "OK")
        #expect(guest.ask(.unwatch, ["@releaseDomain", "t"]) == "ENOENT")
        world.domains[DomainID(3)] = nil
        server.deactivate(ring)
        server.domainsChanged()
        #expect(events() == ["@releaseDomain|r|", "@releaseDomain/3|d|"])
        #expect(server.checkInvariants() == 0)
    }

    @Test func featuresAreHonoured() {
        #expect(toolstack.ask(.setFeature, ["3", "3"]) == "OK")
        let guest = introduce(3)
        #expect(world.attached == ["attach 3 gfn 77 port 9 features 3"])
        #expect(toolstack.ask(.setFeature, ["3", "15"]) == "EBUSY")
        #expect(guest.ask(.watch, ["/x", "t", "1"]) == "EINVAL")
        #expect(guest.ask(.watch, ["/x", "t"]) == "OK")
        #expect(toolstack.ask(.release, ["3"]) == "OK")
        #expect(toolstack.ask(.getFeature, ["3"]) == "15")
    }

    /// Removing a domain costs what it owned: the same number of nodes beside few and beside many others.
    @Test func manyAreBornAndDie() {
        for round in 0..<300 {
            let number = UInt16(3 + round % 40)
            world.create(number, unique: 1000 + UInt64(round))
            _ = introduce(number)
            let home = "/local/domain/\(number)"
            for leaf in ["a", "a/b", "c"] {
                #expect(toolstack.request(.write, ["\(home)/\(leaf)"], value: "x") == "OK")
            }
            #expect(
                toolstack.ask(.setPermissions, ["\(home)", "n\(number)", "r\(3 + (round + 7) % 40)"]) != nil)
            #expect(toolstack.ask(.setPermissions, ["\(home)/a", "n\(number)"]) == "OK")
        }
        for number in 3..<UInt16(43) {
            world.domains[DomainID(number)] = nil
            server.domainsChanged()
        }
        #expect(server.checkInvariants() == 0)
        #expect(toolstack.ask(.directory, ["/local/domain"]) == "")
        #expect(
            server.nodeCount == 7, "/, /tool, /tool/xenstored, /local, /local/domain and the special ones")
    }
}
