// Do labels of domains and nodes decide what the file says, and does the file say where it is wrong?

import CXenStorePlugin
import Foundation
import Glibc
import Testing
import TypeLabelsFile
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

private let base = """
    domains:
      - { label: dom0_t, members: dom0 }
      - { label: driver_t, members: [5, 17-19] }
      - { label: guest_t, members: guest }
      - { label: user_t, members: user }
    nodes:
      - { label: store_t, path: / }
      - { label: home_t, path: /local/domain/* }
      - { label: data_t, path: /local/domain/*/data }
      - { label: own_t, path: /local/domain/*/data, owner: guest_t }
      - { label: nine_t, path: /local/domain/9/data }
      - { label: release_t, path: "@releaseDomain" }

    """

/// Classes that are asked about, for texts.
private func allow(_ subject: String, _ object: String, _ classes: String) -> String {
    "allow:\n  - { subject: \(subject), object: \(object), classes: [\(classes)] }\n"
}

@Suite struct TypeLabelsTests {
    let scratch = ModuleScratch()
    private var path: String { scratch / "labels.yaml" }

    private func tester(_ text: String, _ options: (String, String)...) throws -> PolicyTester {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        return try PolicyTester(typeLabels, [("file", path)] + options)
    }

    /// Whether it is let be.
    private func allows(_ labels: PolicyTester, _ asked: Asked) -> Bool {
        let answer = labels.decide(asked)
        #expect(answer.verdict == Int32(XENSTORE_ABSTAIN) || answer.error == EACCES)
        return answer.verdict == Int32(XENSTORE_ABSTAIN)
    }

    /// The object's label that a reason speaks of.
    private func label(_ labels: PolicyTester, _ asked: Asked) throws -> String {
        let reason = labels.decide(asked).reason
        return String(try #require(reason.firstMatch(of: /to [a-z]+ ([a-z0-9_]+)/), "\(reason)").1)
    }

    @Test(arguments: [
        ("/", "store_t"), ("/local", "store_t"), ("/local/domain", "store_t"), ("/local/domain/7", "home_t"),
        ("/local/domain/7/name/x", "home_t"), ("/local/domain/7/data", "data_t"),
        ("/local/domain/7/data/a/b", "data_t"), ("/local/domain/7/database", "home_t"),
        // Equally deep: the file's first.
        ("/local/domain/9/data/x", "data_t"), ("@releaseDomain", "release_t"),
        ("@introduceDomain", "unlabeled"), ("/@releaseDomain", "store_t"),
    ])
    func aNodeHasTheLabelOfTheDeepestLine(path: String, name: String) throws {
        let labels = try tester(base)
        #expect(try label(labels, Asked(.read, path)) == name)
    }

    @Test func anOwnerMayDecideTheLabel() throws {
        let lines = base.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        // The line with the owner before the one without.
        let text = (lines[0..<8] + [lines[9], lines[8]] + lines[10...]).joined(separator: "\n")
        let labels = try tester(text)
        var asked = Asked(.write, "/local/domain/7/data/x")
        asked.exists = true
        for (owner, name): (UInt16, String) in [
            (7, "own_t"), (5, "data_t"), (0, "data_t"), (0x7FF4, "data_t"),
        ] {
            asked.before = [Permission(.none, DomainID(owner))]
            #expect(try label(labels, asked) == name)
        }
    }

    @Test func whoAsksHasALabel() throws {
        let labels = try tester(base)
        func subject(_ asked: Asked) throws -> String {
            let reason = labels.decide(asked).reason
            return String(try #require(reason.firstMatch(of: /allows ([a-z0-9_]+)/), "\(reason)").1)
        }
        for (domain, name): (UInt16, String) in [
            (0, "dom0_t"), (5, "driver_t"), (17, "driver_t"), (19, "driver_t"), (20, "guest_t"),
            (32751, "guest_t"),
        ] { #expect(try subject(Asked(.read, "/", domain: domain)) == name) }
        var user = Asked(.read, "/", domain: 0x7FF4)
        user.peer = (1000, 1000, 1)
        #expect(try subject(user) == "user_t")
        // A privileged domain is no guest, whatever its id.
        var other = Asked(.read, "/", domain: 30)
        other.isPrivileged = true
        #expect(try subject(other) == "dom0_t")
    }

    // MARK: Classes

    /// For each operation exactly the classes that it needs: with all of them it is let be, without any one
    /// it is denied.
    private func expect(_ asked: Asked, needs: [(object: String, what: String)]) throws {
        for left in 0...needs.count {
            var text = base + "allow: []\n"
            if needs.count > 1 || left == needs.count {
                let lines = needs.enumerated().filter { $0.offset != left }.map {
                    "  - { subject: guest_t, object: \($0.element.object), classes: \($0.element.what) }\n"
                }
                if !lines.isEmpty { text = base + "allow:\n" + lines.joined() }
            }
            let labels = try tester(text)
            #expect(allows(labels, asked) == (left == needs.count), "\(asked) without \(left) of \(needs)")
        }
    }

    @Test(arguments: [PolicyOperation.read, .directory, .directoryPart, .getPermissions, .watch, .event])
    func looking(operation: PolicyOperation) throws {
        try expect(Asked(operation, "/local/domain/7/name"), needs: [("home_t", "read")])
    }

    @Test func writing() throws {
        var asked = Asked(.write, "/local/domain/7/name")
        asked.exists = true
        try expect(asked, needs: [("home_t", "write")])
        // What is not there is created, and asked about as that.
        asked.exists = false
        try expect(asked, needs: [])
    }

    @Test func creating() throws {
        var asked = Asked(.create, "/local/domain/7/name")
        asked.after = [Permission(.none, DomainID(7))]
        try expect(asked, needs: [("home_t", "create"), ("home_t", "bind")])
        asked.path = "/local/domain/7"
        try expect(asked, needs: [("home_t", "create"), ("store_t", "bind"), ("home_t", "transition")])
    }

    @Test func removing() throws {
        try expect(Asked(.removeNode, "/local/domain/7/name"), needs: [("home_t", "delete")])
        try expect(Asked(.remove, "/local/domain/7/name"), needs: [])
    }

    @Test func changingPermissions() throws {
        var asked = Asked(.setPermissions, "/local/domain/7/name")
        asked.exists = true
        asked.before = [Permission(.none, DomainID(7))]
        asked.after = [Permission(.read, DomainID(7))]
        try expect(asked, needs: [("home_t", "chmod")])
    }

    @Test func givingAway() throws {
        let text = """
            domains:
              - { label: dom0_t, members: dom0 }
              - { label: guest_t, members: guest }
            nodes:
              - { label: guests_t, path: /x, owner: guest_t }
              - { label: ours_t, path: /x }
            allow:
              - { subject: dom0_t, object: any, classes: chmod }

            """
        var asked = Asked(.setPermissions, "/x/y", domain: 0)
        asked.exists = true
        asked.before = [Permission(.none, DomainID(0))]
        asked.after = [Permission(.none, DomainID(7))]
        let line = "  - { subject: dom0_t, object: OBJECT, classes: relabel }\n"
        let one = text + line.replacing("OBJECT", with: "guests_t")
        let other = text + line.replacing("OBJECT", with: "ours_t")
        #expect(try !allows(tester(text), asked))
        #expect(try !allows(tester(one), asked))
        #expect(try !allows(tester(other), asked))
        #expect(try allows(tester(text + line.replacing("OBJECT", with: "[guests_t, ours_t]")), asked))
        asked.after = asked.before
        #expect(try allows(tester(text), asked))
    }

    // MARK: Modes, reasons, the log

    @Test func reasonsNameTheLines() throws {
        let labels = try tester(base + allow("guest_t", "home_t", "read"))
        let read = labels.decide(Asked(.read, "/local/domain/7"))
        #expect(read.reason == "\(path):14 allows guest_t (\(path):4) to read home_t (\(path):8)")
        var asked = Asked(.write, "/local/domain/7")
        asked.exists = true
        let write = labels.decide(asked)
        #expect(write.reason == "no line allows guest_t (\(path):4) to write home_t (\(path):8)")
        #expect(write.error == EACCES && write.verdict == Int32(XENSTORE_DENY))
    }

    @Test(arguments: [("permissive: true\n", "enforce"), ("", "permissive")])
    func permissiveOnlyLogs(line: String, mode: String) throws {
        let labels = try tester(line + base, ("mode", mode))
        var asked = Asked(.read, "/a")
        for step in UInt64(0)..<30 {
            asked.now = 1_000_000_000 + step * 100_000_000
            #expect(labels.decide(asked).verdict == Int32(XENSTORE_ABSTAIN))
        }
        asked.isDryRun = true
        asked.now += 10_000_000_000
        _ = labels.decide(asked)
        #expect(labels.logged.all.count == 4)
        #expect(labels.logged.all[0] == "1 \(path) is not enforced: what it denies is only logged")
        #expect(labels.logged.all[1].hasPrefix("2 no line allows (permissive) guest_t ("))
        #expect(
            labels.logged.all[1].hasSuffix("to read store_t (\(path):\(line.isEmpty ? 7 : 8)): domain 7, /a"))
        #expect(labels.logged.all[2].hasSuffix("/a (and 9 more since)"))
    }

    @Test func onlyWhatHasAClassIsAskedAbout() throws {
        let decides = PolicyOperations(rawValue: try tester(base).interest.decides)
        for operation: PolicyOperation in [
            .introduce, .control, .transactionStart, .listChild, .makeDirectory,
        ] {
            #expect(!decides.contains(operation))
        }
    }

    // MARK: Mistakes

    private static let mistakes: [(String, String)] = [
        ("", ":1:1: found nothing, expected a mapping of: domains, nodes, allow, permissive"),
        (
            "labels: []",
            ":1:1: found the unknown key \"labels\", expected one of: domains, nodes, allow, permissive"
        ),
        (
            "domains: [{ label: any, members: dom0 }]",
            ":1:20: found \"any\", expected a label: 1 to 60 letters, digits and _, the first a letter, "
                + "and not any"
        ),
        (
            "domains:\n  - { label: a, members: [guest, guests] }",
            ":2:34: found \"guests\", expected any, guest, dom0, user, a domain id, or a range of them (5-9)"
        ),
        (
            "domains:\n  - { label: a, members: 9-5 }",
            ":2:26: found \"9-5\", expected any, guest, dom0, user, a domain id, or a range of them (5-9)"
        ),
        ("domains:\n  - { label: a }", ":2:5: found a mapping without \"members\", expected one with it"),
        ("nodes:\n  - { label: a }", ":2:5: found a mapping without \"path\", expected one with it"),
        (
            "nodes:\n  - { label: a, path: local }",
            ":2:23: found \"local\", expected an absolute path of names and * for any name, such as "
                + "/local/domain/*/data, or @releaseDomain and its like"
        ),
        (
            "nodes:\n  - { label: a, path: /a//b }",
            ":2:23: found \"/a//b\", expected an absolute path of names and * for any name, such as "
                + "/local/domain/*/data, or @releaseDomain and its like"
        ),
        (
            "nodes:\n  - { label: home_t, path: /a, owner: guest_t }",
            ":2:39: found \"guest_t\", expected a label that domains or nodes give"
        ),
        (
            "allow:\n  - { subject: hom_t, object: any, classes: all }\n"
                + "nodes:\n  - { label: home_t, path: / }",
            ":2:16: found \"hom_t\", expected a label that domains or nodes give, a list of them, or any "
                + "(did you mean home_t?)"
        ),
        (
            "allow:\n  - { subject: any, object: any, classes: [read, move] }",
            ":2:50: found \"move\", expected all, or of these one or a list: create, bind, transition, "
                + "delete, read, write, chmod, relabel"
        ),
        (
            "allow:\n  - { subject: any, classes: read }",
            ":2:5: found a mapping without \"object\", expected one with it"
        ),
        ("domains: 5", ":1:10: found \"5\", expected a list of at most 10000 mappings"),
    ]

    @Test(arguments: mistakes) func mistakesInTheFileAreTold(text: String, reason: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
        #expect(reasonOfFailure(typeLabels, [("file", path)]) == path + reason)
    }

    @Test func otherMistakesAreTold() throws {
        #expect(reasonOfFailure(typeLabels, []) == "the option file is missing")
        #expect(
            reasonOfFailure(typeLabels, [("file", "/nowhere/x")])
                == "/nowhere/x: cannot be read: No such file or directory")
        #expect(
            reasonOfFailure(typeLabels, [("file", "x"), ("mode", "on")])
                == "f.yaml:5:11: found \"on\", expected enforce or permissive")
        let many = (0..<200).map { "  - { label: l\($0), path: / }\n" }.joined()
        try ("nodes:\n" + many).write(toFile: path, atomically: false, encoding: .utf8)
        let reason = try #require(reasonOfFailure(typeLabels, [("file", path)]))
        #expect(
            reason == "\(path):129:5: found the label \"l127\", expected no more than 128 labels, "
                + "\"unlabeled\" among them (and 50 more)")
    }

    // MARK: In the daemon

    @Test func theDaemonObeysTheShippedFile() async throws {
        let shipped = ModuleScratch.top + "/config/policies/type-labels.yaml"
        let daemon = try ModuleDaemon(
            policies: """
                  - module: type-labels
                    options: { file: \(shipped) }
                """)
        let toolstack = try await daemon.connect()
        let guest = try await daemon.guest(5, toolstack)
        try await toolstack.makeDirectory("/local/domain/5/device")
        try await toolstack.setPermissions("/local/domain/5/device", [Permission(.none, DomainID(5))])
        #expect(guest.text(.write, "device/vif/0/state\04") == "OK|")
        #expect(guest.text(.write, "data/agent\0on") == "OK|")
        #expect(guest.text(.read, "data/agent\0") == "on")
        #expect(guest.text(.remove, "data\0") == "OK|")
        // It owns its home, and may not write there all the same.
        #expect(guest.text(.write, "name\0x") == "EACCES|")
        #expect(guest.text(.setPermissions, "/local/domain/5\0n5\0r0\0") == "EACCES|")
        #expect(guest.text(.remove, "/local/domain/5\0") == "EACCES|")
        // And permissions go on to count: another one's nodes are not its own for their label's sake.
        try await toolstack.write("/local/domain/9/data/x", "secret")
        #expect(guest.text(.read, "/local/domain/9/data/x\0") == "EACCES|")
        let why = try await toolstack.control("explain", ["5", "write", "/local/domain/5/name"])
        #expect(why.contains("type-labels.yaml:"), "\(why)")
    }
}
