// Rules in their compiled form, which a kernel is handed: what is read here, PathRulesFile has written
// (RuleForm+Writing.swift).
//
// | size | meaning |
// |---|---|
// | 4 | version, 1 |
// | text | why nothing is enforced, a line for the log; empty: the rules are enforced |
// | 4 | number of rules, at most 10,000; each as follows |
//
// | size | a rule |
// |---|---|
// | 1 | effect: 0 abstain, 1 grant, 2 deny |
// | 1 | the errno of a deny, else 0 |
// | 1 | 1: permissive |
// | 1 | 1: of certain paths, 0: of all paths and of what has none |
// | 8 | operations, a bit each |
// | text | title: its name and `FILE:LINE` |
// | 4 | number of subjects; each u8 kind, u32 value |
// | 4 | number of patterns, if it is of certain paths; each u8 root, u32 number of parts, the parts |
//
// | kind | a subject | value |
// |---|---|---|
// | 0 to 4 | anybody, guest, control, user, owner | 0 |
// | 5 | domains | the first id, and in the upper half the last |
// | 6, 7 | uid, gid | the number |
//
// A pattern's root is 0 for nodes, 1 for `@releaseDomain` and its like, 2 for CONTROL's commands. A part of a
// pattern is u8 kind: 0 a name, whose text follows; 1 `*`, 2 `{domid}`, 3 `**`. Numbers and texts are as in
// CompiledForm.swift.

import XenStorePlugin

/// The rules, and whether they are enforced.
public struct RuleForm: Sendable {
    public static let version: UInt32 = 1
    /// Longer paths there are none of.
    static let partsMax = 3072

    public var rules: [Rule]
    /// A line for the log; empty: they are enforced.
    public var whyPermissive: PlainText

    public init(_ rules: [Rule], whyPermissive: PlainText = "") {
        self.rules = rules
        self.whyPermissive = whyPermissive
    }

    /// Reads bytes that may be anything. Throws at the first that are no such form.
    public init(_ bytes: [UInt8]) throws(PluginFailure) {
        var form = FormReader(bytes)
        if try form.number() != Self.version { throw form.mistake("version 1 of path-rules' form") }
        whyPermissive = try form.text()
        rules = []
        for _ in 0..<(try form.count(upTo: RuleTable.rulesMax, size: 18)) {
            rules.append(try Rule(&form))
        }
        try form.end()
    }
}

extension Rule {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        let effect = try RuleEffect(&form)
        let isPermissive = try form.flag()
        let hasPatterns = try form.flag()
        let operations = PolicyOperations(rawValue: try form.number())
        if !operations.isSubset(of: .withPath.union(.everything)) { throw form.mistake("known operations") }
        let title = try form.text()
        var subjects: [RuleSubject] = []
        for _ in 0..<(try form.count(upTo: .max, size: 5)) { subjects.append(try RuleSubject(&form)) }
        var patterns: [PathPattern]?
        if hasPatterns {
            patterns = []
            for _ in 0..<(try form.count(upTo: .max, size: 5)) { patterns?.append(try PathPattern(&form)) }
        }
        self.init(
            effect, subjects: subjects, operations: operations, patterns: patterns,
            isPermissive: isPermissive, title: title)
    }
}

extension RuleEffect {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        let kind = try form.number(upTo: UInt8(2))
        let code = try form.number(UInt8.self)
        let error = PolicyError(rawValue: Int32(code))
        switch (kind, error) {
        case (2, .some(let error)): self = .deny(error)
        case (0, _) where code == 0: self = .abstain
        case (1, _) where code == 0: self = .grant
        default: throw form.mistake("the errno of a deny, else 0")
        }
    }
}

extension RuleSubject {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        let kind = try form.number(UInt8.self)
        let value = try form.number(UInt32.self)
        switch kind {
        case 0: self = .anybody
        case 1: self = .guest
        case 2: self = .control
        case 3: self = .user
        case 4: self = .owner
        case 5:
            let (first, last) = (UInt16(value & 0xFFFF), UInt16(value >> 16))
            if first > last || last >= 0x7FF0 { throw form.mistake("the first and the last of domain ids") }
            self = .domains(first, last)
        case 6: self = .uid(value)
        case 7: self = .gid(value)
        default: throw form.mistake("a kind of subject")
        }
    }
}

extension PathPattern {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        guard let root = Root(rawValue: try form.number(UInt8.self)) else { throw form.mistake("a root") }
        self.root = root
        parts = []
        for _ in 0..<(try form.count(upTo: RuleForm.partsMax, size: 1)) {
            let part = try PatternPart(&form)
            if part.isRest, let last = parts.last, last.isRest { throw form.mistake("no second ** in a row") }
            parts.append(part)
        }
        if root == .command && !isOneName { throw form.mistake("a command's name and nothing else") }
    }

    private var isOneName: Bool {
        guard parts.count == 1, case .name = parts[0] else { return false }
        return true
    }
}

extension PatternPart {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        switch try form.number(UInt8.self) {
        case 0:
            let name = try form.text().bytes
            if name.isEmpty || name.contains(0x2F) { throw form.mistake("a name") }
            self = .name(name)
        case 1: self = .any
        case 2: self = .own
        case 3: self = .rest
        default: throw form.mistake("a kind of part")
        }
    }

    fileprivate var isRest: Bool { if case .rest = self { true } else { false } }
}
