// Do access policies hold in the daemon's own process: at its start, at a reload, and for who is not root?

import Foundation
import Glibc
import Testing
import XenStoreTypes

@testable import XenStoreHost

/// A daemon with path-rules, whose files a test may change.
private final class PolicedDaemon {
    let directory = TestDirectory()
    let daemon: DaemonProcess
    var socket: String { directory / "socket" }

    /// - Parameters:
    ///   - rules: what the rule file holds.
    ///   - options: the module's other options, a line each, as `mode: permissive`.
    ///   - socket: the socket's other keys.
    init(_ rules: String, options: [String] = [], socket: [String] = []) throws {
        try Self.write(rules, directory / "rules.yaml")
        chmod(directory.path, 0o755)
        let own = socket.map { "    \($0)\n" }.joined()
        let given = options.map { "      \($0)\n" }.joined()
        let text = """
            hypervisor: none
            log: {level: info, destination: stderr}
            store: {sessions: \(directory / "sessions")}
            sockets:
              - path: \(directory / "socket")
            \(own)policies:
              - module: path-rules
                options:
                  file: rules.yaml
            """
        try Self.write(text + "\n" + given, directory / "xenstored.yaml")
        daemon = try DaemonProcess(["--config", directory / "xenstored.yaml"], in: directory)
    }

    static func write(_ text: String, _ path: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }

    func setRules(_ text: String) throws { try Self.write(text, directory / "rules.yaml") }

    var serves: Bool { eventually { access(socket, F_OK) == 0 } && answer(socket) != nil }

    func logs(_ text: String, times: Int = 1) -> Bool {
        eventually { daemon.errors.components(separatedBy: text).count > times }
    }
}

private let denySecret = """
    rules:
      - name: secret
        effect: deny
        subjects: any
        operations: change
        paths: /secret/**
        error: EPERM

    """

@Suite struct PolicyDaemonTests {
    @Test func rulesHoldAndAreReadAgainAllOrNothing() throws {
        let it = try PolicedDaemon(denySecret)
        try #require(it.serves)
        #expect(answer(it.socket, .write, "/secret/x\01") == "EPERM\0")
        #expect(answer(it.socket, .write, "/open\01") == "OK\0")
        // A mistake: the old rules stay, and the log says where it is.
        try it.setRules("rules:\n  - effect: dany\n    subjects: any\n")
        kill(it.daemon.identifier, SIGHUP)
        #expect(it.logs("rules.yaml:2:13: found \"dany\", expected deny, grant or abstain"))
        #expect(answer(it.socket, .write, "/secret/x\01") == "EPERM\0")
        // Others, by CONTROL.
        try it.setRules(denySecret.replacing("/secret", with: "/open").replacing("EPERM", with: "EBUSY"))
        #expect(answer(it.socket, .control, "reload\0") == "OK\0")
        #expect(it.logs("the configuration was read again"))
        #expect(answer(it.socket, .write, "/secret/x\01") == "OK\0")
        #expect(answer(it.socket, .write, "/open\01") == "EBUSY\0")
        // What CONTROL explain says names the rule.
        let words = "explain\0" + "0\0write\0/open\0"
        let explained = answer(it.socket, .control, words) ?? ""
        #expect(explained.contains("policy path-rules: denies with EBUSY (rule secret (\(it.directory.path)"))
        #expect(explained.contains("/rules.yaml:2))"))
        let command = answer(it.socket, .control, "explain\u{0}0\u{0}control\u{0}check\u{0}") ?? ""
        #expect(command.hasPrefix("domain 0 (privileged) control check\n"), "\(command)")
        #expect(it.daemon.stop() == 0)
    }

    @Test func aMistakeInTheRulesStopsTheStart() throws {
        let it = try PolicedDaemon("rules: [{effect: deny, subjects: any, paths: nowhere}]\n")
        #expect(it.daemon.status() == 1)
        #expect(it.daemon.errors.contains("/rules.yaml:1:46: found \"nowhere\", expected an absolute path"))
    }

    @Test func permissiveRulesOnlySayWhatTheyWouldDo() throws {
        let it = try PolicedDaemon(denySecret, options: ["mode: permissive"])
        try #require(it.serves)
        for _ in 0..<5 { #expect(answer(it.socket, .write, "/secret/x\01") == "OK\0") }
        #expect(it.logs("the rules are not enforced (mode permissive)"))
        #expect(it.logs("would deny with EPERM: domain 0 WRITE /secret/x"))
        // Not for every request.
        #expect(it.daemon.errors.components(separatedBy: "would deny").count < 5)
        #expect(it.daemon.stop() == 0)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can be somebody else"))
    func membersOfTheGroupReadAndWatchAndOthersDoNothing() async {
        await #expect(processExitsWith: .success) {
            let rules = String(
                decoding: try packageFile("config/policies/monitoring-group.yaml"), as: UTF8.self)
            let it = try PolicedDaemon(rules, socket: ["mode: \"0666\""])
            #expect(it.serves)
            #expect(answer(it.socket, .write, "/a/b\0x") == "OK\0")
            // A member by a group that is not his own.
            var groups: [gid_t] = [getgrnam("adm").pointee.gr_gid, 65533]
            #expect(setgroups(2, &groups) == 0)
            setegid(65534)
            seteuid(65534)
            let member = try RawClient(it.socket)
            #expect(member.ask(.read, "/a/b\0")?.text == "x")
            #expect(member.ask(.directory, "/a\0")?.text == "b\0")
            #expect(member.ask(.watch, "/a\0t\0")?.text == "OK\0")
            #expect(member.reply()?.text == "/a\0t\0")
            #expect(member.ask(.write, "/a/b\0y")?.text == "EACCES\0")
            #expect(member.ask(.control, "help\0")?.text == "EACCES\0")
            seteuid(0)
            #expect(answer(it.socket, .write, "/a/b\0z") == "OK\0")
            #expect(member.reply()?.text == "/a/b\0t\0")
            // Nobody in particular.
            #expect(setgroups(0, nil) == 0)
            seteuid(65534)
            #expect(answer(it.socket, .read, "/a/b\0") == "EACCES\0")
            #expect(answer(it.socket, .watch, "/a\0t\0") == "EACCES\0")
            seteuid(0)
            #expect(it.daemon.stop() == 0)
            it.directory.remove()
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can be somebody else"))
    func whatWasSeenIsRecordedAsRulesThatAllowIt() async {
        await #expect(processExitsWith: .success) {
            let grant =
                "rules:\n- {effect: grant, subjects: uid 65534, operations: [read, WRITE], paths: /a/**}\n"
            // Permissive, so this is not granted; nothing but what needs no permission is done.
            let it = try PolicedDaemon(
                grant, options: ["mode: record", "record-to: seen.yaml"], socket: ["mode: \"0666\""])
            #expect(it.serves)
            setegid(65534)
            seteuid(65534)
            let user = try RawClient(it.socket)
            #expect(user.ask(.read, "/a\0")?.text == "EACCES\0")
            #expect(user.ask(.watch, "/a/b\0t\0")?.text == "OK\0")
            #expect(user.reply() != nil)
            seteuid(0)
            #expect(it.daemon.errors.contains("the rules are not enforced (mode record)"))
            #expect(it.daemon.stop() == 0)
            let seen = contents(it.directory / "seen.yaml")
            let rule = """
                  - effect: abstain
                    subjects: uid 65534
                    operations: [WATCH]
                    paths:
                      - "/a/b"
                  - effect: deny
                    subjects: [guest, user]
                """
            #expect(seen.contains(rule), "\(seen)")
            #expect(!seen.contains("grant"))
            it.directory.remove()
        }
    }
}

extension CommandTests {
    @Test(arguments: ["hardened-guests", "monitoring-group", "type-labels"])
    func theShippedPoliciesPassTheirTests(name: String) throws {
        let outcome = try run(["test-policy", "config/policies/\(name)-tests.yaml"])
        #expect(outcome.status == 0 && outcome.errors == "")
        #expect(outcome.output.hasSuffix(" tests, 0 failed\n"))
    }

    @Test func aPolicyTestThatFailsSaysWhichRuleItWas() throws {
        let scratch = TestDirectory()
        let (rules, tests) = (scratch / "rules.yaml", scratch / "tests.yaml")
        try denySecret.write(toFile: rules, atomically: false, encoding: .utf8)
        let table = """
            policies: [{module: path-rules, options: {file: rules.yaml}}]
            tests:
              - {subject: 7, operation: write, path: /secret/x, expect: deny, error: EACCES}
              - {subject: 7, operation: write, path: /open, expect: abstain}
              - {subject: 7, operation: control, expect: grant}
            """
        try table.write(toFile: tests, atomically: false, encoding: .utf8)
        let outcome = try run(["test-policy", tests])
        #expect(outcome.status == 1 && outcome.errors == "")
        let output = """
            \(tests):3:5: domain 7 write /secret/x
                found that it denies with EPERM, expected deny with EACCES
                policy path-rules: denies with EPERM (rule secret (\(rules):2))
                policy path-rules, to create the node: denies with EPERM (rule secret (\(rules):2))
            \(tests):5:5: domain 7 control\u{20}
                found that it abstains, expected grant
                no policy wants to see it
            3 tests, 2 failed

            """
        #expect(outcome.output == output)
    }

    /// Not those who only ask what a policy would say.
    @Test func onlyWhoHasSeenSomethingWritesDownWhatHeSaw() throws {
        let scratch = TestDirectory()
        let table = """
            policies: [{module: path-rules, options: {mode: record, record-to: seen.yaml}}]
            tests:
              - {subject: 7, operation: read, path: /a, expect: abstain}
            """
        try table.write(toFile: scratch / "tests.yaml", atomically: false, encoding: .utf8)
        try "of a daemon".write(toFile: scratch / "seen.yaml", atomically: false, encoding: .utf8)
        #expect(try run(["test-policy", scratch / "tests.yaml"]).status == 0)
        #expect(contents(scratch / "seen.yaml") == "of a daemon")
    }

    @Test(arguments: [
        ("tests: []", "f.yaml: found no tests, expected policies and tests"),
        (
            "policies: [{module: path-rules}]\ntests: [{operation: read}]",
            "f.yaml:2:9: found a mapping without \"subject\", expected one with it"
        ),
        (
            "policies: [{module: path-rules}]\ntests: [{subject: 7, operation: red, path: /, expect: deny}]",
            "f.yaml:2:9: found the operation \"red\", expected read, directory,"
        ),
        (
            "policies: [{module: path-rules, options: {mode: off}}]\n"
                + "tests: [{subject: 7, operation: read, path: /, expect: deny}]",
            "f.yaml:1:49: found \"off\", expected enforce, permissive or record"
        ),
    ])
    func aWrongTableOfTestsIsTwo(text: String, errors: String) throws {
        let scratch = TestDirectory()
        try text.write(toFile: scratch / "f.yaml", atomically: false, encoding: .utf8)
        let outcome = try run(["test-policy", scratch / "f.yaml"])
        #expect(outcome.status == 2 && outcome.output == "")
        #expect(outcome.errors.hasPrefix("\(scratch.path)/\(errors)"), "\(outcome.errors)")
    }

    /// Nobody does anything, so there is nothing to write: not the trail, and no recorded rules.
    @Test func explainOpensNothingForWriting() throws {
        let scratch = TestDirectory()
        let rules = """
            rules:
              - {name: look, effect: grant, subjects: user, operations: CONTROL, commands: check}
            """
        try rules.write(toFile: scratch / "rules.yaml", atomically: false, encoding: .utf8)
        let text = """
            policies:
              - {module: audit-trail, options: {path: \(scratch / "trail")}}
              - {module: path-rules, options: {file: rules.yaml}}
              - {module: path-rules, options: {file: rules.yaml, mode: record, record-to: seen.yaml}}
            """
        try text.write(toFile: scratch / "x.yaml", atomically: false, encoding: .utf8)
        let look = try run(["explain", "--config", scratch / "x.yaml", "--uid", "1000", "control", "check"])
        #expect(look.output.contains("policy path-rules: grants (rule look ("), "\(look.output)")
        #expect(look.output.hasSuffix("answer: granted, whatever the node's permissions are\n"))
        let other = try run(["explain", "--config", scratch / "x.yaml", "--uid", "1000", "control", "quota"])
        #expect(other.output.contains("abstains (no rule matches)"), "\(other.output)")
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted()
        #expect(names == ["rules.yaml", "x.yaml"])
    }

    @Test func explainNamesTheRuleOrSaysThatPermissionsDecide() throws {
        let scratch = TestDirectory()
        let file = scratch / "x.yaml"
        let text = """
            policies:
              - module: path-rules
                options: {file: \(packageRoot)/config/policies/hardened-guests.yaml}
            """
        try text.write(toFile: file, atomically: false, encoding: .utf8)
        let denied = try run(["explain", "--config", file, "--domain", "7", "write", "/local/domain/8/x"])
        #expect(denied.status == 0)
        #expect(denied.output.contains("policy path-rules: denies with EACCES (rule nothing-else ("))
        #expect(denied.output.contains("hardened-guests.yaml:"))
        #expect(denied.output.hasSuffix("answer: EACCES\n"))
        let left = try run(["explain", "--config", file, "--domain", "7", "read", "name"])
        #expect(left.output.contains("path-rules: abstains (rule own-home ("))
        #expect(left.output.hasSuffix("answer: no policy decides, node permissions and privilege do\n"))
        let user = try run(["explain", "--config", file, "--uid", "1000", "read", "/"])
        #expect(user.output.hasSuffix("answer: EACCES, since no policy grants it to a socket's user\n"))
        for wrong in [
            ["write", "/x"], ["--uid", "1", "introduce", "check"],
            ["--domain", "7", "--uid", "1", "read", "/"], ["--domain", "7", "fly"],
        ] {
            let outcome = try run(["explain", "--config", file] + wrong)
            #expect(outcome.status == 2 && outcome.output == "" && !outcome.errors.isEmpty)
        }
        #expect(try run(["explain", "--help"]).output.contains("--domain"))
    }
}
