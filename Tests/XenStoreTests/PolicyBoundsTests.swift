// Does what policies grant and put off keep the server's promises, and does what they are asked stay bounded
// by what the subject may touch?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct PolicyBoundsTests {
    // MARK: What is asked

    @Test func whoMayNotRemoveAnythingMakesNobodyLookThroughTheTree() {
        let test = TestServer()
        for number in 0..<100 { _ = test.control.write("/big/\(number)/x") }
        _ = test.control.request(.setPermissions, ["/big", "n0"])
        let policy = ScriptedPolicy(decides: .derived(PolicyOperation.removeNode))
        test.server.setPolicies([policy])
        #expect(test.ring(3).request(.remove, ["/big"])?.outcome == "EACCES")
        #expect(policy.takeAsked() == ["REMOVE_NODE /big"])
        // A grant of each node is one of the removal.
        policy.script = { _ in .grant }
        #expect(test.ring(4).request(.remove, ["/big"])?.outcome == "OK")
        #expect(policy.asked.count == 201)
    }

    @Test func whoMayNotCreateAnythingIsAskedAboutOneNode() {
        let test = TestServer()
        _ = test.control.request(.setPermissions, ["/", "n0"])
        let policy = ScriptedPolicy(decides: .derived(PolicyOperation.create))
        test.server.setPolicies([policy])
        let deep = String(repeating: "/a", count: 500)
        #expect(test.ring(3).write(deep)?.outcome == "EACCES")
        #expect(policy.takeAsked() == ["CREATE /a"])
        // A deny of the first still has an error of its own, and a grant of each is one of the write.
        policy.script = { _ in .deny(.noent) }
        #expect(test.ring(4).write("/a/b")?.outcome == "ENOENT")
        policy.script = { _ in .grant }
        #expect(test.ring(5).write("/a/b")?.outcome == "OK")
    }

    // MARK: What is granted

    /// Who writes by a grant, without permission, takes the reservation from whoever read the node before:
    /// both cannot have been first.
    @Test func aGrantedWriteIsSeenByTheTransactionWithTheReservation() throws {
        let test = TestServer()
        _ = test.control.write("/n", "1")
        _ = test.control.write("/other", "1")
        for path in ["/n", "/other"] { _ = test.control.request(.setPermissions, [path, "n0"]) }
        test.server.setPolicies([ScriptedPolicy(decides: .of(.write)) { _ in .grant }])
        let granted = test.ring(3)
        func read() throws -> UInt32 {
            let id = try test.control.start()
            _ = test.control.read("/n", transaction: id)
            return id
        }
        func commit(_ id: UInt32) -> String? {
            _ = test.control.write("/out", transaction: id)
            return test.control.end(id)
        }
        for _ in 0..<2 {
            let id = try read()
            #expect(granted.write("/n", "2")?.outcome == "OK")
            #expect(commit(id) == "EAGAIN")
        }
        let id = try read()
        #expect(test.server.transactions.holder != 0)
        #expect(granted.write("/other", "3")?.outcome == "OK")
        #expect(test.server.transactions.holder != 0)
        #expect(granted.write("/n", "3")?.outcome == "OK")
        #expect(commit(id) == "EAGAIN")
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func aGuestThatMayReleaseOthersCannotReleaseItself() {
        let test = TestServer()
        test.world.domains = [
            DomainID(7): DomainIdentity(uniqueID: 1), DomainID(8): DomainIdentity(uniqueID: 2),
        ]
        test.world.canIntroduce = true
        for domain in ["7", "8"] {
            #expect(test.control.request(.introduce, [domain, "1", "2"])?.outcome == "OK")
        }
        test.server.setPolicies([ScriptedPolicy(decides: .of(.release)) { _ in .grant }])
        guard let ring = test.server.accounts.table[test.server.accounts.account(of: DomainID(7))].ring else {
            Issue.record("domain 7 has no ring")
            return
        }
        let guest = Client(test.server, connection: ring)
        #expect(guest.request(.release, ["7"])?.outcome == "EINVAL")
        #expect(guest.request(.release, ["8"])?.outcome == "OK")
        #expect(guest.request(.isDomainIntroduced, ["7"])?.outcome == "EACCES")
        #expect(test.server.checkInvariants() == 0)
    }

    /// Nor introduce itself, where the one of its number that was introduced has ended unnoticed: that would
    /// be the end of the ring on which it waits for the reply.
    @Test(arguments: [1, 3] as [UInt64]) func aGuestThatMayIntroduceCannotIntroduceItself(identity: UInt64) {
        let test = TestServer()
        test.world.domains = [
            DomainID(7): DomainIdentity(uniqueID: 1), DomainID(8): DomainIdentity(uniqueID: 2),
        ]
        test.world.canIntroduce = true
        #expect(test.control.request(.introduce, ["7", "1", "2"])?.outcome == "OK")
        test.server.setPolicies([ScriptedPolicy(decides: .of(.introduce)) { _ in .grant }])
        guard let ring = test.server.accounts.table[test.server.accounts.account(of: DomainID(7))].ring else {
            Issue.record("domain 7 has no ring")
            return
        }
        test.world.domains?[DomainID(7)] = DomainIdentity(uniqueID: identity)
        let guest = Client(test.server, connection: ring)
        #expect(guest.request(.introduce, ["7", "1", "2"])?.outcome == "EINVAL")
        #expect(guest.request(.introduce, ["8", "1", "2"])?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
    }

    // MARK: What users create

    /// What a socket's user creates belongs to the owner above, but is counted as the user's: his quota
    /// holds, in a transaction too, and he gets back what goes, whoever removes it.
    @Test func nodesThatAUserCreatesAreCountedAsHis() throws {
        let test = TestServer { $0.quotas[.nodes] = 5 }
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        let user = test.user(1000)
        let accounts = test.server.accounts
        let account = accounts.account(of: .user(1000))
        let before = accounts.table[accounts.account(of: .zero)].nodes.now
        #expect(user.write("/a/b/c")?.outcome == "OK")
        #expect(accounts.table[account].nodes.now == 3)
        #expect(user.write("/a/b/c", "another value")?.outcome == "OK")
        #expect(accounts.table[accounts.account(of: .zero)].nodes.now == before)
        #expect(test.server.checkInvariants() == 0)
        let id = try user.start()
        #expect(user.write("/d/e", transaction: id)?.outcome == "OK")
        #expect(user.write("/f", transaction: id)?.outcome == "ENOSPC")
        #expect(user.end(id) == "OK")
        #expect(user.write("/f")?.outcome == "ENOSPC")
        #expect(test.user(1001).write("/f")?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
        // Other permissions leave it his; another owner does not.
        #expect(user.request(.setPermissions, ["/d", "n0", "r3"])?.outcome == "OK")
        #expect(accounts.table[account].nodes.now == 5)
        test.world.domains = [DomainID(3): DomainIdentity(uniqueID: 3)]
        #expect(test.control.request(.setPermissions, ["/d/e", "n3"])?.outcome == "OK")
        #expect(accounts.table[account].nodes.now == 4)
        #expect(accounts.table[accounts.account(of: DomainID(3))].nodes.now == 1)
        #expect(test.server.checkInvariants() == 0)
        #expect(test.control.request(.remove, ["/a"])?.outcome == "OK")
        #expect(accounts.table[account].nodes.now == 1)
        #expect(accounts.table[account].memory.now > 0)
        #expect(test.control.request(.remove, ["/d"])?.outcome == "OK")
        #expect(accounts.table[account].nodes.now == 0)
        #expect(test.server.userNodes.count == 1)
        #expect(test.server.checkInvariants() == 0)
    }

    /// A removal within a transaction gives back what the remover has paid for, and nothing else: neither can
    /// a domain go beyond its quota by what users have created below its nodes, nor is a user held to more.
    @Test func aRemovalInATransactionGivesBackWhatWasPaid() throws {
        let test = TestServer { $0.quotas[.nodes] = 5 }
        test.world.domains = [DomainID(3): DomainIdentity(uniqueID: 3)]
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        let domain = test.ring(3)
        let user = test.user(1000)
        for name in ["/home", "/b", "/c", "/d", "/e"] { #expect(domain.write(name)?.outcome == "OK") }
        for name in ["/home/1", "/home/2", "/home/3"] { #expect(user.write(name)?.outcome == "OK") }
        var id = try domain.start()
        #expect(domain.request(.remove, ["/home"], transaction: id)?.outcome == "OK")
        #expect(domain.write("/f", transaction: id)?.outcome == "OK")
        #expect(domain.write("/g", transaction: id)?.outcome == "ENOSPC")
        #expect(domain.end(id) == "OK")
        let account = test.server.accounts.account(of: DomainID(3))
        #expect(test.server.accounts.table[account].nodes.now == 5)
        #expect(test.server.checkInvariants() == 0)
        for name in ["/1", "/2", "/3", "/4", "/5"] { #expect(user.write(name)?.outcome == "OK") }
        id = try user.start()
        #expect(user.write("/6", transaction: id)?.outcome == "ENOSPC")
        #expect(user.request(.remove, ["/1"], transaction: id)?.outcome == "OK")
        for _ in 0..<3 {
            #expect(user.write("/6", transaction: id)?.outcome == "OK")
            #expect(user.request(.remove, ["/6"], transaction: id)?.outcome == "OK")
        }
        // Somebody else's gives nothing back.
        #expect(user.request(.remove, ["/b"], transaction: id)?.outcome == "OK")
        #expect(user.write("/6", transaction: id)?.outcome == "OK")
        #expect(user.write("/7", transaction: id)?.outcome == "ENOSPC")
        #expect(user.end(id) == "OK")
        #expect(test.server.checkInvariants() == 0)
    }

    /// Nodes in a row, as one user gets them, are no run through which every other node is looked for.
    @Test func aUsersNodesCostOthersNothing() {
        let users = UserNodes()
        defer { users.destroy() }
        func time(_ body: () -> Void) -> Duration {
            (0..<5).map { _ in ContinuousClock().measure(body) }.min()!
        }
        func look() { for node in NodeID(1)...20_000 { #expect(users.user(of: 1_000_000 + node) == 0) } }
        users.insert(1, of: 7)
        let alone = time(look)
        for node in NodeID(2)...90_000 { users.insert(1_000_000 - 90_000 + node, of: 7) }
        #expect(time(look) < alone * 20 + .milliseconds(20))
        for node in NodeID(2)...90_000 { #expect(users.remove(1_000_000 - 90_000 + node) == 7) }
        #expect(users.count == 1)
    }

    /// A node below a domain's that a user has created goes with the domain, and is the user's no more.
    @Test func whatAUserHasBelowADomainsNodesGoesWithThem() {
        let test = TestServer()
        test.world.domains = [DomainID(3): DomainIdentity(uniqueID: 3)]
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        #expect(test.control.write("/home")?.outcome == "OK")
        #expect(test.control.request(.setPermissions, ["/home", "n3"])?.outcome == "OK")
        #expect(test.user(1000).write("/home/x")?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
        test.world.domains = [:]
        test.server.domainsChanged()
        #expect(test.control.read("/home") == "ENOENT")
        #expect(test.server.userNodes.count == 0)
        #expect(test.server.checkInvariants() == 0)
    }

    // MARK: What is put off

    @Test func aRequestThatIsPutOffBreaksNoInvariant() {
        let test = TestServer()
        test.server.setPolicies([ScriptedPolicy(decides: .of(.read)) { _ in .postpone(1000) }])
        let ring = test.ring(3)
        #expect(ring.read("/") == nil)
        #expect(test.server.checkInvariants() == 0)
    }
}
