// Are policies asked about all that the plugin interface's table promises, and does what they say hold
// (design, "Policies in the order of checks")?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct PolicyTests {
    // MARK: What is asked

    @Test func aWriteIsAskedAboutAndThenEachNodeThatItCreates() throws {
        let test = TestServer()
        let policy = ScriptedPolicy(values: .of(.write) | .derived(PolicyOperation.create))
        test.server.setPolicies([policy])
        let ring = test.ring(3)
        #expect(ring.write("/a/b/c", "x")?.outcome == "OK")
        #expect(policy.asked.map(\.text) == ["write /a/b/c", "CREATE /a", "CREATE /a/b", "CREATE /a/b/c"])
        #expect(policy.asked.map(\.after) == ["", "b3", "b3", "b3"])
        #expect(policy.asked.map(\.value) == ["x", "", "", "x"])
        #expect(policy.asked.allSatisfy { !$0.nodeExists && $0.request == MessageType.write.rawValue })
        #expect(policy.asked[0].components == ["a", "b", "c"])
        #expect(policy.asked[0].subject.domain == DomainID(3))
        #expect(!policy.asked[0].subject.isSocket && !policy.asked[0].subject.isPrivileged)
        _ = policy.takeAsked()
        #expect(ring.write("/a/b", "y")?.outcome == "OK")
        #expect(policy.asked.map(\.text) == ["write /a/b"])
        #expect(policy.asked[0].before == "b3" && policy.asked[0].nodeExists)
    }

    @Test func aRemovalIsAskedAboutAndThenEachNodeThatGoesTheNamedOneFirst() throws {
        let test = TestServer()
        for path in ["/a/b", "/a/c/d", "/e"] { _ = test.control.write(path) }
        let policy = ScriptedPolicy()
        test.server.setPolicies([policy])
        #expect(test.control.request(.remove, ["/a"])?.outcome == "OK")
        let asked = policy.takeAsked()
        #expect(asked.prefix(2) == ["remove /a", "REMOVE_NODE /a"])
        #expect(
            Set(asked.dropFirst(2)) == ["REMOVE_NODE /a/b", "REMOVE_NODE /a/c", "REMOVE_NODE /a/c/d"])
        #expect(asked.count == 5)
        #expect(test.control.request(.remove, ["/gone"])?.outcome == "OK")
        #expect(policy.takeAsked() == ["remove /gone"])
    }

    @Test(arguments: [
        (MessageType.read, ["/a"], "read /a"), (.getPermissions, ["/a"], "getPermissions /a"),
        (.makeDirectory, ["/a"], "makeDirectory /a"),
        (.setPermissions, ["/a", "r0", "w5"], "setPermissions /a"),
        (.directoryPart, ["/a", "0"], "directoryPart /a"), (.watch, ["/a", "t"], "watch /a"),
        (.unwatch, ["/a", "t"], "unwatch /a"), (.transactionStart, [""], "transactionStart"),
        (.resetWatches, [""], "resetWatches"), (.getDomainPath, ["7"], "getDomainPath"),
        (.isDomainIntroduced, ["7"], "isDomainIntroduced"), (.control, ["help"], "control"),
        (.getQuota, ["7", "nodes"], "getQuota"), (.setQuota, ["7", "nodes", "9"], "setQuota"),
        (.getFeature, ["7"], "getFeature"), (.setFeature, ["7", "0"], "setFeature"),
    ])
    func everyRequestIsAskedAboutOnce(type: MessageType, strings: [String], text: String) {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        let policy = ScriptedPolicy(decides: .of(type))
        test.server.setPolicies([policy])
        _ = test.control.request(type, strings)
        #expect(policy.asked.map(\.text) == [text])
        let asked = policy.asked[0]
        switch type {
        case .setPermissions:
            #expect(asked.before == "b0" && asked.after == "r0 w5")
        case .watch, .unwatch: #expect(asked.arguments == ["t"])
        case .read, .getPermissions, .makeDirectory, .directoryPart:
            #expect(asked.before == "b0" && asked.nodeExists)
        case .transactionStart, .resetWatches: #expect(asked.arguments == [""])
        case .control: #expect(asked.arguments == ["help"] && asked.object == nil)
        default: #expect(asked.arguments == strings && asked.object == 7)
        }
        #expect(asked.subject.isPrivileged && asked.subject.isSocket)
    }

    @Test func requestsAboutDomainsShowThem() {
        let test = TestServer()
        test.world.domains = [
            DomainID(7): DomainIdentity(uniqueID: 1), DomainID(8): DomainIdentity(uniqueID: 2),
        ]
        test.world.canIntroduce = true
        let policy = ScriptedPolicy(decides: .of(.introduce, .setTarget, .resume, .release))
        test.server.setPolicies([policy])
        #expect(test.control.request(.introduce, ["7", "1", "2"])?.outcome == "OK")
        #expect(test.control.request(.introduce, ["8", "1", "2"])?.outcome == "OK")
        #expect(test.control.request(.setTarget, ["7", "8"])?.outcome == "OK")
        #expect(test.control.request(.release, ["7"])?.outcome == "OK")
        #expect(policy.asked.map(\.object) == [7, 8, 7, 7])
        #expect(policy.asked[2].secondObject == 8)
        #expect(policy.endedDomains == [DomainID(7)])
    }

    @Test func whatNoPolicyWantsToSeeIsNotAskedAbout() {
        let test = TestServer()
        let policy = ScriptedPolicy(decides: .of(.read)) { _ in .deny(.perm) }
        test.server.setPolicies([policy])
        #expect(test.control.write("/a/b")?.outcome == "OK")
        #expect(policy.asked.isEmpty)
        #expect(test.control.read("/a") == "EPERM")
    }

    @Test func aTransactionIsShownAsSuchWithWhatItSees() throws {
        let test = TestServer()
        let ring = test.ring(3)
        let policy = ScriptedPolicy(decides: .of(.write, .read))
        let transaction = try ring.start()
        test.server.setPolicies([policy])
        _ = ring.write("/a", "1", transaction: transaction)
        #expect(ring.read("/a", transaction: transaction) == "1")
        #expect(policy.asked.map(\.isInTransaction) == [true, true])
        #expect(policy.asked.map(\.nodeExists) == [false, true])
        #expect(policy.asked[1].before == "b3")
    }

    @Test func aSocketsUserIsShownWithHisGroups() {
        let test = TestServer()
        let policy = ScriptedPolicy(decides: .of(.read))
        test.server.setPolicies([policy])
        #expect(test.user(1000).read("/") == "EACCES")
        let subject = policy.asked[0].subject
        #expect(subject.domain == nil && subject.isSocket && !subject.isPrivileged)
        #expect(subject.peer == XenStore.SocketPeer(user: 1000, group: 100, process: 77, groups: [4]))
    }

    // MARK: What they say

    @Test(arguments: [
        ([PolicyVerdict.abstain], "EACCES"), ([.grant], "1"), ([.deny(.perm)], "EPERM"),
        ([.grant, .deny(.noent)], "ENOENT"), ([.deny(.noent), .grant], "ENOENT"),
        ([.deny(.busy), .deny(.perm)], "EBUSY"), ([.abstain, .grant], "1"), ([.grant, .abstain], "1"),
    ])
    func anyDenyWinsThenAnyGrantThenPermissions(verdicts: [PolicyVerdict], answer: String) {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        _ = test.control.request(.setPermissions, ["/a", "n0"])
        let policies = verdicts.map { verdict in ScriptedPolicy(decides: .of(.read)) { _ in verdict } }
        test.server.setPolicies(policies)
        #expect(test.ring(3).read("/a") == answer)
        // All of them are asked, whatever the others say.
        #expect(policies.allSatisfy { $0.asked.count == 1 })
    }

    @Test func aDenyHoldsForTheControlDomainToo() {
        let test = TestServer()
        test.server.setPolicies([ScriptedPolicy(decides: .of(.write)) { _ in .deny(.acces) }])
        #expect(test.control.write("/a")?.outcome == "EACCES")
    }

    @Test func theChecksComeInTheirOrder() {
        let test = TestServer()
        let policy = ScriptedPolicy { _ in .deny(.perm) }
        test.server.setPolicies([policy])
        // The type, a read-only socket, the transaction and the syntax come before.
        #expect(test.control.request(Message(type: 99, payload: []))?.outcome == "ENOSYS")
        let reader = Client(test.server, domain: 0, readOnly: true)
        #expect(reader.write("/a")?.outcome == "EROFS")
        #expect(test.control.read("/", transaction: 99) == "ENOENT")
        #expect(test.control.read("/a//b") == "EINVAL")
        #expect(policy.asked.isEmpty)
        // Permissions and quotas after.
        #expect(test.ring(3).read("/") == "EPERM")
    }

    @Test func aGrantReplacesNoQuotaNorTheOwnersRule() {
        let test = TestServer { $0.quotas[.nodeSize] = 4 }
        _ = test.control.write("/a", "1")
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        let ring = test.ring(3)
        #expect(ring.write("/a", "12345")?.outcome == "ENOSPC")
        #expect(ring.write("/a", "1234")?.outcome == "OK")
        #expect(ring.request(.setPermissions, ["/a", "n3"])?.outcome == "EPERM")
        #expect(ring.request(.setPermissions, ["/a", "n0", "r3"])?.outcome == "OK")
        let reader = test.user(1000, readOnly: true)
        #expect(reader.write("/a", "1")?.outcome == "EROFS")
        #expect(reader.read("/a") == "1234")
    }

    @Test func aGrantReplacesPrivilege() {
        let test = TestServer()
        let granting = ScriptedPolicy(decides: .of(.control, .isDomainIntroduced)) { asked in
            asked.operation == MessageType.control.rawValue && asked.arguments.first != "help"
                ? .abstain : .grant
        }
        let user = test.user(1000)
        #expect(user.request(.control, ["help"])?.outcome == "EACCES")
        test.server.setPolicies([granting])
        #expect(user.request(.isDomainIntroduced, ["7"])?.outcome == "F")
        #expect(user.request(.control, ["help"])?.errorName == nil)
        #expect(user.request(.control, ["check"])?.errorName == "EACCES")
        // A subcommand that writes files is root's alone.
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        #expect(user.request(.control, ["logfile", "/tmp/x"])?.errorName == "EACCES")
        #expect(test.world.traceFiles.isEmpty)
        #expect(test.ring(3).request(.control, ["help"])?.errorName == nil)
    }

    @Test func withoutAGrantASocketsUserMayDoNothing() {
        let test = TestServer()
        let user = test.user(1000)
        for path in ["/", "/tool"] { #expect(user.read(path) == "EACCES") }
        #expect(user.write("/a")?.outcome == "EACCES")
        #expect(user.request(.directory, ["/"])?.outcome == "EACCES")
        test.server.setPolicies([ScriptedPolicy { _ in .grant }])
        #expect(user.write("/a/b", "1")?.outcome == "OK")
        #expect(user.read("/a/b") == "1")
        // It owns nothing: its nodes are the parent's owner's.
        #expect(test.control.request(.getPermissions, ["/a/b"])?.strings == ["b0"])
    }

    // MARK: One deny, and nothing is

    @Test(arguments: ["/a", "/a/b", "/a/b/c", "write"])
    func aDenyOfAnyNodeToComeChangesNothing(denied: String) throws {
        let test = TestServer()
        let before = test.everything()
        let policy = ScriptedPolicy { asked in
            denied == "write" && asked.operation == MessageType.write.rawValue
                || asked.text == "CREATE \(denied)" ? .deny(.nospc) : .grant
        }
        test.server.setPolicies([policy])
        let ring = test.ring(3)
        _ = test.control.request(.watch, ["/", "t"])
        _ = test.control.takeEvents()
        #expect(ring.write("/a/b/c")?.outcome == "ENOSPC")
        let transaction = try ring.start()
        #expect(ring.write("/a/b/c", transaction: transaction)?.outcome == "ENOSPC")
        #expect(ring.end(transaction) == "OK")
        #expect(test.control.takeEvents().isEmpty)
        test.server.setPolicies([])
        #expect(test.everything() == before)
        #expect(test.server.checkInvariants() == 0)
    }

    @Test(arguments: ["/a", "/a/b", "/a/c/d"])
    func aDenyOfAnyNodeToGoChangesNothing(denied: String) throws {
        let test = TestServer()
        for path in ["/a/b", "/a/c/d"] { _ = test.control.write(path) }
        let before = test.everything()
        test.server.setPolicies([
            ScriptedPolicy { $0.text == "REMOVE_NODE \(denied)" ? .deny(.busy) : .abstain }
        ])
        #expect(test.control.request(.remove, ["/a"])?.outcome == "EBUSY")
        let transaction = try test.control.start()
        #expect(test.control.request(.remove, ["/a"], transaction: transaction)?.outcome == "EBUSY")
        #expect(test.control.end(transaction) == "OK")
        test.server.setPolicies([])
        #expect(test.everything() == before)
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func cleanupAfterADeathIsNotAskedAbout() {
        let test = TestServer()
        test.world.domains = [DomainID(7): DomainIdentity(uniqueID: 1)]
        test.world.canIntroduce = true
        #expect(test.control.request(.introduce, ["7", "1", "2"])?.outcome == "OK")
        _ = test.control.write("/x", "1")
        _ = test.control.request(.setPermissions, ["/x", "n7"])
        let policy = ScriptedPolicy(decides: ~PolicyOperations.of(.release)) { _ in .deny(.acces) }
        test.server.setPolicies([policy])
        #expect(test.control.request(.release, ["7"])?.outcome == "OK")
        test.server.setPolicies([])
        #expect(test.control.read("/x") == "ENOENT")
    }
}
