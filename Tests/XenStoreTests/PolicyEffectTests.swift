// What policies say of events, of children in lists, of the time, and what they are told afterwards.

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct PolicyEffectTests {
    // MARK: Events

    @Test func aDenyOfAnEventIsSilence() {
        let test = TestServer()
        let ring = test.ring(3)
        _ = ring.request(.watch, ["/", "t"])
        _ = ring.takeEvents()
        let policy = ScriptedPolicy(decides: .derived(PolicyOperation.event)) { asked in
            asked.path == "/secret" ? .deny(.acces) : .abstain
        }
        test.server.setPolicies([policy])
        for path in ["/secret", "/open"] { _ = test.control.write(path) }
        #expect(ring.takeEvents().map(\.strings) == [["/open", "t"]])
        #expect(policy.asked.allSatisfy { $0.subject.domain == DomainID(3) })
    }

    @Test func aGrantOfAnEventReplacesPermission() {
        let test = TestServer()
        _ = test.control.request(.setPermissions, ["/", "n0"])
        let user = test.user(1000)
        _ = user.request(.watch, ["/", "t"])
        _ = user.takeEvents()
        _ = test.control.write("/a")
        #expect(user.takeEvents().isEmpty)
        test.server.setPolicies([
            ScriptedPolicy(decides: .derived(PolicyOperation.event)) { _ in .grant }
        ])
        _ = test.control.write("/a")
        #expect(user.takeEvents().map(\.strings) == [["/a", "t"]])
    }

    @Test func specialEventsAreAskedAboutToo() {
        let test = TestServer()
        test.world.domains = [DomainID(7): DomainIdentity(uniqueID: 1)]
        test.world.canIntroduce = true
        _ = test.control.request(.watch, ["@introduceDomain", "t"])
        _ = test.control.takeEvents()
        let policy = ScriptedPolicy(decides: .derived(PolicyOperation.event)) { _ in .deny(.acces) }
        test.server.setPolicies([policy])
        #expect(test.control.request(.introduce, ["7", "1", "2"])?.outcome == "OK")
        #expect(test.control.takeEvents().isEmpty)
        #expect(policy.asked.contains { $0.path == "@introduceDomain" })
    }

    // MARK: Lists

    /// Hides children whose names begin with h.
    private static func hiding() -> ScriptedPolicy {
        ScriptedPolicy(decides: .derived(PolicyOperation.listChild)) { asked in
            asked.components.last?.first == "h" ? .deny(.acces) : .abstain
        }
    }

    @Test func aDenyLeavesAChildOutOfALIst() throws {
        let test = TestServer()
        for path in ["/d/h1", "/d/a", "/d/h2", "/d/b"] { _ = test.control.write(path) }
        test.server.setPolicies([Self.hiding()])
        #expect(Set(test.control.request(.directory, ["/d"])?.strings ?? []) == ["a", "b"])
        let transaction = try test.control.start()
        let seen = test.control.request(.directory, ["/d"], transaction: transaction)
        #expect(Set(seen?.strings ?? []) == ["a", "b"])
        // It is there nevertheless.
        #expect(test.control.read("/d/h1") == "x")
    }

    @Test func aFilteredListComesInPartsOfItsOwn() throws {
        let test = TestServer()
        var names: Set<String> = []
        for number in 0..<600 {
            let name = "\(number % 2 == 0 ? "h" : "v")\(number)-some-longer-name"
            _ = test.control.write("/d/\(name)")
            if number % 2 == 1 { names.insert(name) }
        }
        test.server.setPolicies([Self.hiding()])
        var listed: [String] = []
        var generations: Set<String> = []
        var offset = 0
        for _ in 0..<20 {
            let reply = try #require(test.control.request(.directoryPart, ["/d", String(offset)]))
            let strings = reply.strings
            generations.insert(strings[0])
            let part = strings.dropFirst().filter { !$0.isEmpty }
            listed += part
            offset += part.reduce(0) { $0 + $1.utf8.count + 1 }
            if strings.last == "" { break }
        }
        #expect(listed.count == names.count && Set(listed) == names)
        #expect(generations.count == 1)
    }

    @Test func theGenerationOfAFilteredListMovesWithAReload() throws {
        let test = TestServer()
        _ = test.control.write("/d/a")
        func generation() -> String? { test.control.request(.directoryPart, ["/d", "0"])?.strings.first }
        test.server.setPolicies([Self.hiding()])
        let first = generation()
        #expect(generation() == first)
        test.server.setPolicies([Self.hiding()])
        #expect(generation() != first)
    }

    // MARK: Waiting

    /// Puts domain 3's reads off once, for 50 ms.
    private static func slow() -> ScriptedPolicy {
        var isFirst = true
        return ScriptedPolicy(decides: .of(.read)) { _ in
            defer { isFirst = false }
            return isFirst ? .postpone(50) : .abstain
        }
    }

    @Test func aGuestsRequestIsPutOffAndThenAskedAboutAgain() {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        let policy = Self.slow()
        test.server.setPolicies([policy])
        let ring = test.ring(3)
        #expect(ring.read("/a") == nil)
        // What comes behind it waits too, and nobody else does.
        #expect(ring.write("/b")?.outcome == nil)
        #expect(test.control.write("/c")?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
        test.pass(49 * millisecond)
        #expect(ring.reply() == nil)
        test.pass(2 * millisecond)
        #expect(ring.reply()?.payload == Array("1".utf8))
        #expect(ring.reply()?.outcome == "OK")
        #expect(policy.asked.count == 2)
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func eachIsPutOffForItsOwnTime() {
        let test = TestServer()
        let policy = ScriptedPolicy(decides: .of(.read)) { asked in
            asked.now == 100 * second ? .postpone(asked.subject.domain == DomainID(3) ? 50 : 10) : .abstain
        }
        test.server.setPolicies([policy])
        let (late, early) = (test.ring(3), test.ring(4))
        #expect(late.read("/") == nil && early.read("/") == nil)
        test.pass(11 * millisecond)
        #expect(early.reply() != nil && late.reply() == nil)
        test.pass(40 * millisecond)
        #expect(late.reply() != nil)
        #expect(test.server.nextDeadline == nil)
    }

    @Test func aConnectionMayGoWhileItsRequestIsPutOff() {
        let test = TestServer()
        test.server.setPolicies([ScriptedPolicy(decides: .of(.read)) { _ in .postpone(1000) }])
        let ring = test.ring(3)
        #expect(ring.read("/") == nil)
        ring.close()
        test.pass(2 * second)
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func elsewhereItIsAnAbstention() {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        let waiting = ScriptedPolicy { _ in .postpone(10) }
        test.server.setPolicies([waiting])
        #expect(test.control.read("/a") == "1")
        #expect(test.user(1000).read("/a") == "EACCES")
        // It does not hide another's grant.
        test.server.setPolicies([waiting, ScriptedPolicy(decides: .of(.read)) { _ in .grant }])
        #expect(test.user(1000).read("/a") == "1")
        test.server.setPolicies([
            ScriptedPolicy(decides: .derived(PolicyOperation.listChild)) { _ in .postpone(9) }
        ])
        #expect(test.ring(3).request(.directory, ["/"])?.strings.contains("a") == true)
    }

    @Test func aDenyIsNotPutOff() {
        let test = TestServer()
        test.server.setPolicies([
            ScriptedPolicy(decides: .of(.read)) { _ in .postpone(10) },
            ScriptedPolicy(decides: .of(.read)) { _ in .deny(.perm) },
        ])
        #expect(test.ring(3).read("/") == "EPERM")
    }

    // MARK: Outcomes

    @Test func outcomesAreToldWithWhoDecided() {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        let observer = ScriptedPolicy(
            "observer", decides: 0, observes: .of(.read, .write, .control), values: .of(.write))
        let decider = ScriptedPolicy("decider", decides: .of(.read, .write)) { asked in
            asked.path == "/a" ? .grant : asked.path == "/b" ? .deny(.busy) : .abstain
        }
        test.server.setPolicies([observer, decider])
        let user = test.user(1000)
        #expect(user.read("/a") == "1")
        #expect(user.write("/b", "value")?.outcome == "EBUSY")
        #expect(user.read("/c") == "EACCES")
        #expect(test.control.read("/c") == "ENOENT")
        #expect(test.control.read("//") == "EINVAL")
        #expect(user.request(.control, ["help"])?.outcome == "EACCES")
        #expect(observer.asked.isEmpty)
        let told = observer.outcomes
        #expect(told.map(\.asked.text) == ["read /a", "write /b", "read /c", "read /c", "read", "control"])
        #expect(told.map(\.outcome.error) == [nil, .busy, .acces, .noent, .inval, .acces])
        #expect(
            told.map(\.outcome.verdict) == [.grant, .deny(.busy), .abstain, .abstain, .abstain, .abstain])
        #expect(told.map { $0.outcome.decider === decider } == [true, true, false, false, false, false])
        #expect(told[1].asked.value == "value")
        #expect(told[0].asked.subject.peer.user == 1000)
    }

    /// What a list leaves out is no verdict on the request.
    @Test func aHiddenChildIsNoVerdict() {
        let test = TestServer()
        _ = test.control.write("/d/h")
        let hiding = ScriptedPolicy(
            decides: .derived(PolicyOperation.listChild), observes: .of(.directory)
        ) { _ in .deny(.acces) }
        test.server.setPolicies([hiding])
        #expect(test.control.request(.directory, ["/d"])?.strings == [])
        #expect(hiding.outcomes.map(\.outcome.verdict) == [.abstain])
        #expect(hiding.outcomes[0].outcome.decider == nil)
    }

    // MARK: Explaining

    @Test func explainingChangesNothingAndAsksWithADryRun() throws {
        let test = TestServer()
        _ = test.control.write("/a", "1")
        _ = test.control.request(.setPermissions, ["/a", "n0", "r5"])
        var dryRuns: [String] = []
        let policy = ScriptedPolicy { asked in
            if asked.isDryRun { dryRuns.append(asked.text) }
            return asked.path == "/a/b" ? .deny(.perm) : .abstain
        }
        test.server.setPolicies([policy])
        func explain(_ words: String...) -> String {
            String(
                decoding: test.control.request(.control, ["explain"] + words)?.payload ?? [], as: UTF8.self)
        }
        let before = test.server.checkInvariants()
        let read = explain("5", "read", "/a")
        #expect(read.contains("entry 2 gives r") && read.contains("answer: OK"))
        let write = explain("5", "write", "/a")
        #expect(write.contains("entry 2 does not give w") && write.contains("answer: EACCES"))
        let denied = explain("5", "read", "/a/b")
        #expect(denied.contains("policy scripted: denies with EPERM (because of scripted)"))
        #expect(denied.contains("answer: EPERM"))
        let created = explain("0", "write", "/a/b/c")
        #expect(created.contains("to create /a/b:") && created.contains("answer: EPERM"))
        #expect(explain("u1000", "read", "/a").contains("only a policy can grant"))
        #expect(dryRuns.count == 6)
        #expect(policy.asked.allSatisfy { $0.text == "control" })
        #expect(before == 0 && test.server.checkInvariants() == 0)
        #expect(test.control.read("/a/b") == "EPERM")
    }
}
