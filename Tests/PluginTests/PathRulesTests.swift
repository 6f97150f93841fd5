// Does the table of rules find what going through the rules one by one would?

import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import PathRules
@testable import PathRulesFile

/// Rules gone through one by one, and patterns by trying everything.
private struct SlowRules {
    var rules: [Rule]

    func find(_ asker: Asker, _ operation: PolicyOperation, _ path: String) -> FoundRules {
        var found = FoundRules()
        for (number, rule) in rules.enumerated() {
            guard rule.operations.contains(operation),
                rule.subjects.contains(where: { Self.matches($0, asker) }),
                rule.patterns.map({ $0.contains { Self.matches($0, path, asker) } }) ?? true
            else { continue }
            if !rule.isPermissive {
                found.deciding = Int32(number)
                return found
            }
            if found.permissive < 0 { found.permissive = Int32(number) }
        }
        return found
    }

    private static func matches(_ subject: RuleSubject, _ asker: Asker) -> Bool {
        switch subject {
        case .anybody: true
        case .guest: !asker.isControl && !asker.isSocket
        case .control: asker.isControl
        case .user: !asker.isControl && asker.isSocket
        case .owner: asker.isOwner
        case .domains(let first, let last): asker.domain.map { $0 >= first && $0 <= last } ?? false
        case .uid(let uid): asker.isSocket && asker.uid == uid
        case .gid(let gid): asker.isSocket && (asker.gid == gid || asker.groups.contains(gid))
        }
    }

    private static func matches(_ pattern: PathPattern, _ path: String, _ asker: Asker) -> Bool {
        let isSpecial = pattern.root == .special
        if path.isEmpty || pattern.root == .command || isSpecial == path.hasPrefix("/") { return false }
        let names = path.split(separator: "/").map(String.init)
        return matches(pattern.parts[...], names[...], asker.domain.map { String($0) })
    }

    private static func matches(
        _ parts: ArraySlice<PatternPart>, _ names: ArraySlice<String>, _ own: String?
    ) -> Bool {
        guard let part = parts.first else { return names.isEmpty }
        let rest = parts.dropFirst()
        if part == .rest {
            return (0...names.count).contains { matches(rest, names.dropFirst($0), own) }
        }
        guard let name = names.first else { return false }
        let isThis =
            switch part {
            case .name(let text): Array(name.utf8) == text
            case .any: true
            case .own: name == own
            case .rest: false
            }
        return isThis && matches(rest, names.dropFirst(), own)
    }
}

extension SplitMix64 {
    fileprivate mutating func pattern() -> PathPattern {
        var parts: [PatternPart] = []
        for _ in 0..<Int(next() % 6) {
            let part: PatternPart = one(of: [
                .name(Array("a".utf8)), .name(Array("b".utf8)), .name(Array("7".utf8)), .any, .own, .rest,
            ])
            if part != .rest || parts.last != .rest { parts.append(part) }
        }
        return PathPattern(chance(10) ? .special : .node, parts)
    }

    fileprivate mutating func subject() -> RuleSubject {
        let first = UInt16(next() % 12)
        return one(of: [
            .anybody, .guest, .control, .user, .owner, .domains(first, first),
            .domains(first, first + UInt16(next() % 9)), .uid(UInt32(first % 3)), .gid(UInt32(first % 4)),
        ])
    }

    fileprivate mutating func rule() -> Rule {
        Rule(
            one(of: [.deny(.access), .grant, .abstain]),
            subjects: (0...Int(next() % 2)).map { _ in subject() },
            operations: one(of: [.reading, .changing, .everything, PolicyOperations(.write, .event)]),
            patterns: chance(8) ? nil : (0...Int(next() % 2)).map { _ in pattern() },
            isPermissive: chance(20))
    }
}

@Suite struct PathRulesTests {
    @Test(arguments: 0..<60) func theTableFindsWhatGoingThroughTheRulesFinds(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let rules = (0..<Int(1 + random.next() % 40)).map { _ in random.rule() }
        let table = try RuleTable(rules)
        let compiled = try RuleTable(RuleForm(RuleForm(rules).bytes).rules)
        let slow = SlowRules(rules: rules)
        let groups: [UInt32] = [2, 3]
        groups.withUnsafeBufferPointer { groups in
            var former: [String] = []
            var domain: UInt16?
            for _ in 0..<400 {
                if random.chance(30) { domain = random.chance(80) ? UInt16(random.next() % 14) : nil }
                var asker = Asker(domain: domain)
                asker.isControl = random.chance(20)
                asker.isSocket = asker.domain == nil || random.chance(10)
                asker.isOwner = random.chance(30)
                asker.uid = UInt32(random.next() % 4)
                asker.gid = UInt32(random.next() % 4)
                if random.chance(30) { asker.groups = groups }
                // Mostly, one that has its beginning from the one before.
                let kept = former.prefix(Int(random.next() % UInt64(former.count + 1)))
                let names =
                    kept
                    + (0..<Int(random.next() % 4)).map { _ in
                        random.one(of: ["a", "b", "7", "07", "11", "c"])
                    }
                former = names.count < 10 ? Array(names) : []
                var path = "/" + names.joined(separator: "/")
                if random.chance(10) { path = "" }
                if random.chance(10) { path = random.one(of: ["@a", "@releaseDomain", "@b/7"]) }
                let operation: PolicyOperation = random.one(of: [.read, .write, .event, .control, .create])
                // CONTROL is about no path.
                if operation == .control { path = "" }
                var copy = path
                let found = copy.withUTF8 {
                    table.find(asker, operation.rawValue, UnsafeRawBufferPointer($0))
                }
                #expect(found == slow.find(asker, operation, path), "seed \(seed): \(asker) \(path)")
                let again = copy.withUTF8 {
                    compiled.find(asker, operation.rawValue, UnsafeRawBufferPointer($0))
                }
                #expect(again == found, "seed \(seed), compiled: \(asker) \(path)")
            }
        }
    }

    /// A command is its whole name, and no path; rules without any are about every command.
    @Test func commandsOfControlAreToldApart() throws {
        let file = try RuleFile(
            Array(
                """
                rules:
                  - {effect: grant, subjects: gid 4, operations: CONTROL, commands: [check, memreport]}
                  - {effect: deny, subjects: any, operations: CONTROL, commands: live-update}
                  - {effect: abstain, subjects: any, operations: [CONTROL, read], paths: /check}
                  - {effect: deny, subjects: guest, operations: CONTROL}
                """.utf8), file: "r.yaml")
        let table = try RuleTable(RuleForm(RuleForm(file.rules).bytes).rules)
        var user = Asker(domain: nil)
        user.isSocket = true
        user.gid = 4
        func found(_ asker: Asker, _ command: String) -> Int32 {
            var command = command
            return command.withUTF8 {
                table.find(asker, PolicyOperation.control.rawValue, UnsafeRawBufferPointer($0)).deciding
            }
        }
        for command in ["check", "memreport"] { #expect(found(user, command) == 0) }
        for command in ["", "quota", "/check", "check/x", "chec"] {
            #expect(found(user, command) == -1)
            #expect(found(Asker(domain: 7), command) == 3)
        }
        #expect(found(user, "live-update") == 2 - 1)
        #expect(found(Asker(domain: 7), "check") == 3)
    }

    /// A form whose rule about commands is none that a file can have is no form: no rule may be lost.
    @Test(arguments: [[], [.any], [.rest], [.name([0x61]), .name([0x62])]] as [[PatternPart]])
    func onlyANameIsACommand(parts: [PatternPart]) {
        let rule = Rule(
            .deny(.access), subjects: [.anybody], operations: PolicyOperations(.control),
            patterns: [PathPattern(.command, parts)])
        #expect(throws: PluginFailure.self) { try RuleForm(RuleForm([rule]).bytes) }
    }

    /// A request is asked about node by node: that costs what its path is long, and not that for each node.
    @Test func aPathIsWalkedOnceNameByName() throws {
        let table = try RuleTable([
            Rule(.deny(.access), subjects: [.guest], operations: .changing, patterns: pathPatterns("/**/x/*"))
        ])
        var path: [UInt8] = []
        func ask(_ operation: PolicyOperation) {
            _ = path.withUnsafeBytes { table.find(Asker(domain: 7), operation.rawValue, $0) }
        }
        for _ in 0..<700 {
            path += Array("/ab".utf8)
            ask(.create)
        }
        #expect(table.stepCount <= 701)
        // And back, as a removal may come by.
        for _ in 0..<699 {
            path.removeLast(3)
            ask(.removeNode)
        }
        #expect(table.stepCount <= 701)
        path += Array("/other".utf8)
        ask(.write)
        #expect(table.stepCount <= 702)
    }

    /// Where patterns overlap so much that not all levels can be kept, the answers are the same.
    @Test func overlapsThatAreTooManyToKeepChangeNothing() throws {
        let rules = (0..<300).map { number in
            Rule(
                .grant, subjects: [.anybody], operations: .reading,
                patterns: pathPatterns("/**/n\(number)/**/end"))
        }
        let table = try RuleTable(rules)
        func first(_ table: RuleTable, _ path: String) -> Int32 {
            var path = path
            return path.withUTF8 {
                table.find(Asker(domain: 7), PolicyOperation.read.rawValue, UnsafeRawBufferPointer($0))
                    .deciding
            }
        }
        var path = ""
        for number in (0..<300).reversed() {
            path += "/n\(number)"
            #expect(first(table, path) == -1)
            #expect(first(table, path + "/end") == Int32(number))
            if number % 50 == 0 { #expect(try first(RuleTable(rules), path + "/end") == Int32(number)) }
        }
    }

    /// As `/`, `**` may stand for no name, and what stands behind it may begin anywhere.
    @Test(arguments: [
        ("/", "/", true), ("/**", "/", true), ("**", "@releaseDomain", true),
        ("/**", "@releaseDomain", false),
        ("/a/**", "/a", true), ("/a/**", "/a/b/c", true), ("/a/**", "/ab", false), ("/a/*/**", "/a", false),
        ("/a/**/x", "/a/x", true), ("/a/**/x", "/a/x/y/x", true), ("/a/**/x", "/a/x/y", false),
        ("/**/x/**/y", "/1/x/2/3/y", true), ("/*", "/a", true), ("/*", "/", false), ("/*", "/a/b", false),
        ("/d/{domid}/**", "/d/7/x", true), ("/d/{domid}/**", "/d/77/x", false),
        ("/d/{domid}", "/d/07", false), ("@releaseDomain", "@releaseDomain", true),
        ("/releaseDomain", "@releaseDomain", false),
    ])
    func patternsMatch(pattern: String, path: String, isMatch: Bool) throws {
        let patterns = try #require(pathPatterns(pattern))
        let table = try RuleTable([
            Rule(.grant, subjects: [.anybody], operations: .reading, patterns: patterns)
        ])
        let bytes = Array(path.utf8)
        let found = bytes.withUnsafeBytes {
            table.find(Asker(domain: 7), PolicyOperation.read.rawValue, $0)
        }
        #expect((found.deciding == 0) == isMatch)
    }

    @Test(arguments: [
        "", "a", "a/b", "/a/", "//", "/a//b", "/a*", "/a/***", "/**/**", "/{domain}", "/ä", "/a b",
    ])
    func otherTextsAreNoPatterns(text: String) { #expect(pathPatterns(text) == nil) }

    /// A thousand rules, each of its own domains, of which all match the path.
    @Test func manyRangesAreToldApart() throws {
        let rules = (0..<1000).map { number in
            Rule(
                .deny(.access), subjects: [.domains(UInt16(number), UInt16(number + number % 3))],
                operations: .reading, patterns: [PathPattern([.rest])])
        }
        let table = try RuleTable(rules)
        let slow = SlowRules(rules: rules)
        for domain in UInt16(0)..<1010 {
            let found = Array("/a/b".utf8).withUnsafeBytes {
                table.find(Asker(domain: domain), PolicyOperation.read.rawValue, $0)
            }
            #expect(found == slow.find(Asker(domain: domain), .read, "/a/b"))
        }
    }

    @Test func tooManyRangesOverlappingAreRefused() {
        let rules = (0..<2000).map { number in
            Rule(
                .deny(.access), subjects: [.domains(UInt16(number), UInt16(5000 - number))],
                operations: .reading, patterns: [PathPattern([.name(Array("\(number)".utf8))])])
        }
        #expect(throws: RuleExcess.self) { try RuleTable(rules) }
    }
}
