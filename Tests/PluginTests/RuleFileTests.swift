// Are rule files read as they are documented, and is every mistake in them told by its place?

import PathRules
import Testing
import XenStoreHost
import XenStorePlugin

@testable import PathRulesFile

private let accounts = Accounts(
    user: { $0 == "monitor" ? 990 : nil }, group: { $0 == "adm" ? 4 : nil })

private func read(_ text: String) throws -> RuleFile {
    try RuleFile(Array(text.utf8), file: "r.yaml", accounts: accounts)
}

@Suite struct RuleFileTests {
    @Test func aRuleSaysAllOfIt() throws {
        let file = try read(
            """
            permissive: true
            sets:
              drivers: [5, 7-9]
              all-drivers: [drivers, 12, uid monitor]
            rules:
              - effect: deny
                name: none of them
                subjects: [all-drivers, gid adm, uid 33, owner]
                operations: [read, WRITE]
                paths: [/a/*/**, "**"]
                error: ENOENT
                permissive: true
              - {effect: grant, subjects: any, operations: all}
            """)
        #expect(file.isPermissive && file.rules.count == 2)
        let rule = file.rules[0]
        #expect(rule.effect == .deny(.noEntry) && rule.isPermissive)
        #expect(rule.title == "rule none of them (r.yaml:6)")
        #expect(
            rule.subjects == [
                .domains(5, 5), .domains(7, 9), .domains(12, 12), .uid(990), .gid(4), .uid(33), .owner,
            ])
        #expect(rule.operations == PolicyOperations.reading.union(PolicyOperations(.write)))
        #expect(
            rule.patterns == [
                PathPattern([.name(Array("a".utf8)), .any, .rest]), PathPattern([.rest]),
                PathPattern(.special, [.rest]),
            ])
        #expect(file.rules[1].title == "rule r.yaml:13")
        #expect(file.rules[1].patterns == nil && file.rules[1].operations == .everything)
    }

    @Test(arguments: ["", "# nothing\n", "rules: []", "permissive: false"])
    func aFileMayHoldNoRules(text: String) throws { #expect(try read(text).rules.isEmpty) }

    @Test(arguments: [
        ("rulez: []", "1:1: found the unknown key \"rulez\" (did you mean \"rules\"?)"),
        ("rules: 5", "1:8: found \"5\", expected a list of at most 10000 rules"),
        ("rules: [{subjects: any}]", "1:9: found a mapping without \"effect\", expected one with it"),
        ("rules: [{effect: deny}]", "1:9: found a rule without \"subjects\", expected whom it is about"),
        ("rules: [{effect: allow, subjects: any}]", "1:18: found \"allow\", expected deny, grant or abstain"),
        (
            "rules: [{effect: deny, subjects: [any, gest]}]",
            "1:40: found \"gest\", expected any, guest, dom0, user, owner, a domain id"
        ),
        ("sets: {a: 5}\nrules: [{effect: deny, subjects: b}]", "2:34: found \"b\", expected any, guest"),
        ("rules: [{effect: deny, subjects: 9-5}]", "1:34: found \"9-5\", expected any"),
        ("rules: [{effect: deny, subjects: 40000}]", "1:34: found \"40000\", expected any"),
        ("rules: [{effect: deny, subjects: uid nobody-here}]", "1:34: found \"uid nobody-here\""),
        ("rules: [{effect: deny, subjects: []}]", "1:34: found an empty list, expected at least one value"),
        (
            "rules: [{effect: deny, subjects: any, operations: write}]",
            "1:51: found \"write\", expected a group of operations (read, change, watch, session, manage, "
                + "all) or an operation, such as WRITE (did you mean WRITE?)"
        ),
        (
            "rules: [{effect: deny, subjects: any, paths: [/a, a/b]}]",
            "1:51: found \"a/b\", expected an absolute path"
        ),
        (
            "rules: [{effect: deny, subjects: any, operations: manage, paths: /a}]",
            "1:66: found paths for operations that have none, expected no paths"
        ),
        (
            "rules: [{effect: deny, subjects: any, operations: manage, commands: check}]",
            "1:69: found commands of a rule that is not about CONTROL alone, expected no commands, or "
                + "\"operations: CONTROL\""
        ),
        (
            "rules: [{effect: deny, subjects: any, operations: CONTROL, commands: [check, /x]}]",
            "1:78: found \"/x\", expected a command of CONTROL, such as check"
        ),
        (
            "rules: [{effect: deny, subjects: any, operations: CONTROL, paths: /x}]",
            "1:67: found paths for operations that have none, expected no paths"
        ),
        (
            "rules: [{effect: grant, subjects: any}]",
            "1:9: found a grant without \"operations\", expected what it grants"
        ),
        (
            "rules: [{effect: grant, subjects: any, error: EPERM, operations: read}]",
            "1:47: found an error of a rule whose effect is grant, expected none"
        ),
        (
            "rules: [{effect: deny, subjects: any, error: EAGAIN}]",
            "1:46: found \"EAGAIN\", expected EACCES, EPERM, ENOSPC, EBUSY or ENOENT"
        ),
        (
            "rules: [{effect: deny, subjects: any, permissive: yes}]",
            "1:51: found \"yes\", expected true or false"
        ),
        ("sets: {guest: 5}", "1:8: found the set \"guest\", expected a name of lower-case letters"),
        ("sets: {Abc: 5}", "1:8: found the set \"Abc\""),
        ("sets: [5]", "1:7: found a list, expected a mapping of names to subjects"),
        ("rules: [{effect: deny, subjects: any, name: \"\"}]", "1:45: found an empty string"),
        ("rules: [", "1:9: found broken YAML"),
    ])
    func mistakesAreToldByTheirPlace(text: String, mistake: String) throws {
        do {
            _ = try read(text)
            Issue.record("nothing was found wrong with \(text)")
        } catch let mistakes as ConfigurationMistakes {
            let first = mistakes.all.first?.description ?? ""
            #expect(first.hasPrefix("r.yaml:" + mistake), "\(first)")
        }
    }

    @Test func allMistakesAreTold() {
        do {
            _ = try read("permissive: 1\nrules:\n- {effect: x, subjects: y}\n- 5\n")
            Issue.record("nothing was found wrong")
        } catch let mistakes as ConfigurationMistakes {
            #expect(mistakes.all.map { $0.place?.line } == [1, 3, 3, 4])
        } catch {
            Issue.record("\(error)")
        }
    }
}
