// Labels in their compiled form, which a kernel is handed: what is read here, TypeLabelsFile has written
// (LabelForm+Writing.swift).
//
// | size | meaning |
// |---|---|
// | 4 | version, 1 |
// | 1 | 1: nothing is enforced |
// | text | the file that the lines are of |
// | 4 | number of labels, at most 128; each a text, the first that of what gets no other |
// | 4 | number of lines of `domains`; each u8 label, u32 line, u32 number of members, the members |
// | 4 | number of lines of `nodes`, as below |
// | 4 | number of lines of `allow`, as below |
//
// A member is u8 kind (0 any, 1 dom0, 2 guest, 3 user, 4 domains), u16 first id, u16 last id, else 0.
//
// | size | a line of `nodes` |
// |---|---|
// | 1 | label |
// | 4 | line |
// | 4 | number of names; each a text, empty for any name |
// | 1 | 1: of certain owners |
// | 4 | then only: number of owners' labels, u8 each |
//
// | size | a line of `allow` |
// |---|---|
// | 4 | line |
// | 1 | classes, a bit each |
// | 1 | 1: of certain subjects |
// | 4 | then only: number of subjects' labels, u8 each |
// | 1 | 1: of certain objects |
// | 4 | then only: number of objects' labels, u8 each |
//
// Numbers and texts are as in CompiledForm.swift.

import XenStorePlugin

extension LabelRules {
    public static let formVersion: UInt32 = 1
    /// The most labels, `unlabeled` among them.
    public static let labelsMax = 128
    /// The most lines of `domains`, of `nodes` and of `allow`.
    public static let linesMax = 10_000
    /// Longer paths there are none of.
    private static let namesMax = 3072

    /// Reads bytes that may be anything. Throws at the first that are no such form.
    public init(compiled bytes: [UInt8]) throws(PluginFailure) {
        var form = FormReader(bytes)
        if try form.number() != Self.formVersion { throw form.mistake("version 1 of type-labels' form") }
        let isPermissive = try form.flag()
        self.init(file: try form.text())
        self.isPermissive = isPermissive
        labels = []
        for _ in 0..<(try form.count(upTo: Self.labelsMax, size: 2)) {
            labels.append(try form.text())
        }
        if labels.isEmpty { throw form.mistake("a label at least") }
        for _ in 0..<(try form.count(upTo: Self.linesMax, size: 9)) { try readDomain(&form) }
        for _ in 0..<(try form.count(upTo: Self.linesMax, size: 10)) { try readNode(&form) }
        for _ in 0..<(try form.count(upTo: Self.linesMax, size: 7)) { try readAllowance(&form) }
        try form.end()
    }

    private func label(_ form: inout FormReader) throws(PluginFailure) -> Label {
        try form.number(upTo: Label(labels.count - 1))
    }

    /// Certain labels; nil: all.
    private func labelList(_ form: inout FormReader) throws(PluginFailure) -> [Label]? {
        if try !form.flag() { return nil }
        var list: [Label] = []
        for _ in 0..<(try form.count(upTo: Self.linesMax, size: 1)) { list.append(try label(&form)) }
        return list
    }

    private func line(_ form: inout FormReader) throws(PluginFailure) -> Int {
        Int(try form.number(UInt32.self))
    }

    private mutating func readDomain(_ form: inout FormReader) throws(PluginFailure) {
        var domain = DomainLabel(try label(&form), [], line: try line(&form))
        for _ in 0..<(try form.count(upTo: .max, size: 5)) { domain.members.append(try Member(&form)) }
        domains.append(domain)
    }

    private mutating func readNode(_ form: inout FormReader) throws(PluginFailure) {
        var node = NodeLabel(try label(&form), [], owners: nil, line: try line(&form))
        for _ in 0..<(try form.count(upTo: Self.namesMax, size: 2)) {
            let name = try form.text().bytes
            if name.contains(0x2F) { throw form.mistake("a name") }
            node.names.append(name)
        }
        if node.names.count > 1, node.names[0].first == 0x40 { throw form.mistake("one name with an @") }
        node.owners = try labelList(&form)
        nodes.append(node)
    }

    private mutating func readAllowance(_ form: inout FormReader) throws(PluginFailure) {
        var allowance = Allowance(subjects: nil, objects: nil, classes: [], line: try line(&form))
        let classes = try form.number(UInt8.self)
        allowance.classes = LabelClass.allCases.filter { classes >> $0.rawValue & 1 != 0 }
        allowance.subjects = try labelList(&form)
        allowance.objects = try labelList(&form)
        allowances.append(allowance)
    }
}

extension Member {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        let kind = try form.number(UInt8.self)
        let (first, last) = (try form.number(UInt16.self), try form.number(UInt16.self))
        switch kind {
        case 0: self = .any
        case 1: self = .dom0
        case 2: self = .guest
        case 3: self = .user
        case 4:
            if first > last || last >= 0x7FF0 { throw form.mistake("the first and the last of domain ids") }
            self = .domains(first, last)
        default: throw form.mistake("a kind of member")
        }
    }
}
