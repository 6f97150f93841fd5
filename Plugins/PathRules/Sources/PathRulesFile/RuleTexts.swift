// How a subject, an operation and a path pattern are written in a rule file.

import PathRules
import XenStorePlugin
import XenStoreTypes
import XenStoreYAML

/// The sets that a file has named so far.
typealias SubjectSets = [String: [RuleSubject]]

extension Expected where Value == [RuleSubject] {
    /// One subject, or a list of them.
    static func subjects(_ sets: SubjectSets) -> Expected {
        oneOrMany { node, reading in
            let text: String
            if case .scalar(let scalar, _) = node.content { text = scalar } else { text = "" }
            if let subjects = sets[text] { return subjects }
            if let subject = plainSubject(text) { return [subject] }
            if let subject = namedSubject(text, reading.accounts) { return [subject] }
            let names = sets.isEmpty ? "" : ", or a set: \(alternatives(sets.keys.sorted()))"
            reading.mistakes.add(
                node.place, found: node.found,
                expected:
                    "any, guest, dom0, user, owner, a domain id, a range of them (5-9), uid and a user, "
                    + "gid and a group\(names)")
            return nil
        }
    }
}

/// Words and domain ids.
private func plainSubject(_ text: String) -> RuleSubject? {
    switch text {
    case "any": return .anybody
    case "guest": return .guest
    case "dom0": return .control
    case "user": return .user
    case "owner": return .owner
    default: break
    }
    let domains: ClosedRange<UInt16> = 0...(DomainID.firstReserved - 1)
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map {
        wholeNumber(String($0), in: domains)
    }
    guard let first = ends[0], let last = ends[ends.count - 1], ends.count <= 2, first <= last else {
        return nil
    }
    return .domains(first, last)
}

/// `uid` and `gid` with a name or a number.
private func namedSubject(_ text: String, _ accounts: Accounts) -> RuleSubject? {
    let words = text.split(separator: " ").map(String.init)
    guard words.count == 2, !words[1].utf8.contains(0) else { return nil }
    let number: UInt32? = wholeNumber(words[1], in: 0...UInt32.max)
    switch words[0] {
    case "uid": return (number ?? accounts.user(words[1])).map { .uid($0) }
    case "gid": return (number ?? accounts.group(words[1])).map { .gid($0) }
    default: return nil
    }
}

extension Expected where Value == PolicyOperations {
    /// One operation or group of them, or a list.
    static var operations: Expected {
        let list = Expected<[PolicyOperations]>.oneOrMany { node, reading in
            if case .scalar(let text, _) = node.content {
                if let one = PolicyOperation.allCases.first(where: { $0.name.description == text }) {
                    return [PolicyOperations(one)]
                }
                let groups = PolicyOperations.groups
                if let group = groups.first(where: { $0.name.description == text }) {
                    return [group.operations]
                }
            }
            reading.mistakes.add(node.place, found: node.found, expected: expectedOperation(node))
            return nil
        }
        return Expected { node, reading in
            list.read(node, &reading).map { $0.reduce(into: PolicyOperations()) { $0.formUnion($1) } }
        }
    }
}

private func expectedOperation(_ node: YAMLNode) -> String {
    let groups = PolicyOperations.groups.map(\.name.description)
    let names = PolicyOperation.allCases.map(\.name.description)
    var text = "a group of operations (\(groups.joined(separator: ", "))) or an operation, such as WRITE"
    if case .scalar(let word, _) = node.content, let near = nearest(to: word.uppercased(), among: names) {
        text += " (did you mean \(near)?)"
    }
    return text
}

extension Expected where Value == [PathPattern] {
    /// One pattern, or a list of them.
    static var patterns: Expected {
        oneOrMany { node, reading in
            if case .scalar(let text, _) = node.content, let patterns = pathPatterns(text) { return patterns }
            reading.mistakes.add(
                node.place, found: node.found,
                expected:
                    "an absolute path, such as /local/domain/{domid}/data/**, of names, * for any name, "
                    + "** for any number of them and {domid} for the caller's own; or @introduceDomain and "
                    + "its like; or ** for every path")
            return nil
        }
    }
}

/// The patterns that a text stands for; nil: it is none.
func pathPatterns(_ text: String) -> [PathPattern]? {
    if text == "**" { return [PathPattern([.rest]), PathPattern(.special, [.rest])] }
    if text == "/" { return [PathPattern([])] }
    if text.utf8.count > 3072 { return nil }
    let isSpecial = text.utf8.first == UInt8(ascii: "@")
    var names = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard isSpecial || names.count > 1 && names[0].isEmpty else { return nil }
    if !isSpecial { names.removeFirst() }
    var parts: [PatternPart] = []
    for name in names {
        guard let part = patternPart(Array(name)) else { return nil }
        if part == .rest && parts.last == .rest { return nil }
        parts.append(part)
    }
    return [PathPattern(isSpecial ? .special : .node, parts)]
}

private func patternPart(_ name: [UInt8]) -> PatternPart? {
    if name == Array("*".utf8) { return .any }
    if name == Array("**".utf8) { return .rest }
    if name == Array("{domid}".utf8) { return .own }
    let isName = name.allSatisfy { byte in
        switch byte {
        case 0x41...0x5A, 0x61...0x7A, 0x30...0x39, 0x2D, 0x5F, 0x40: true
        default: false
        }
    }
    return isName && !name.isEmpty ? .name(name) : nil
}

extension Expected where Value == [PathPattern] {
    /// A command of CONTROL, or a list of them.
    static var commands: Expected {
        oneOrMany { node, reading in
            if case .scalar(let text, _) = node.content, isCommand(text) {
                return [PathPattern(.command, [.name(Array(text.utf8))])]
            }
            reading.mistakes.add(
                node.place, found: node.found,
                expected: "a command of CONTROL, such as check: lower-case letters, digits and -")
            return nil
        }
    }
}

private func isCommand(_ text: String) -> Bool {
    (1...60).contains(text.utf8.count)
        && text.utf8.allSatisfy {
            (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D
        }
}

extension Expected {
    /// A single value, or a list of at least one.
    static func oneOrMany<Element>(
        _ read: @escaping (YAMLNode, inout Reading) -> [Element]?
    ) -> Expected<[Element]> where Value == [Element] {
        Expected<[Element]> { node, reading in
            guard case .list(let items) = node.content else { return read(node, &reading) }
            if items.isEmpty {
                reading.mistakes.add(node.place, found: "an empty list", expected: "at least one value")
                return nil
            }
            return items.flatMap { read($0, &reading) ?? [] }
        }
    }
}
