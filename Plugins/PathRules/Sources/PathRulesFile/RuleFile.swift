// A rule file: which keys there are, and what they hold.

import PathRules
import XenStorePlugin
import XenStoreYAML

/// What a rule file says.
public struct RuleFile {
    /// All of its rules only say in the log what they would do.
    public var isPermissive = false
    public var rules: [Rule] = []
    var sets: SubjectSets = [:]

    /// The most bytes that a rule file may have, and the most rules in it.
    public static let fileMax = 4 << 20
    static let rulesMax = RuleTable.rulesMax

    public init() {}

    /// What the bytes of the file `name` say. Throws every mistake in them.
    public init(
        _ bytes: [UInt8], file name: String, accounts: Accounts = .machine
    ) throws(ConfigurationMistakes) {
        var reading = Reading(mistakes: MistakeList(file: name), accounts: accounts)
        if bytes.count > Self.fileMax {
            reading.mistakes.add(nil, "found more than \(Self.fileMax) bytes, expected rules")
        } else if let root = readYAML(bytes, &reading.mistakes), root.content != .scalar("", plain: true) {
            readMapping(root, Self.keys, into: &self, &reading)
        }
        if let mistakes = reading.mistakes.all { throw mistakes }
    }

    /// What the file at `path` says. Throws every mistake in it, or why it cannot be read.
    public init(path: String, accounts: Accounts = .machine) throws(ConfigurationMistakes) {
        let bytes: [UInt8]
        do {
            bytes = try fileContents(of: path, max: Self.fileMax + 1, "a file with rules")
        } catch {
            throw ConfigurationMistakes(file: path, text: error.text)
        }
        try self.init(bytes, file: path, accounts: accounts)
    }

    static var keys: [Key<RuleFile>] {
        [
            Key("permissive", \.isPermissive, .flag),
            Key("sets", read: readSets),
            Key("rules", read: readRules),
        ]
    }
}

/// `sets`: names for subjects. A set may name those before it.
private func readSets(_ node: YAMLNode, _ file: inout RuleFile, _ reading: inout Reading) {
    guard case .mapping(let entries) = node.content else {
        reading.mistakes.add(node.place, found: node.found, expected: "a mapping of names to subjects")
        return
    }
    let words: Set<String> = ["any", "guest", "dom0", "user", "owner"]
    for entry in entries {
        let isName =
            entry.key.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || $0 == 0x2D || (0x30...0x39).contains($0)
            }
            && entry.key.utf8.first.map { (0x61...0x7A).contains($0) } ?? false
        if words.contains(entry.key) || !isName {
            reading.mistakes.add(
                entry.place, found: "the set \(quoted(entry.key))",
                expected:
                    "a name of lower-case letters, digits and -, and none of \(alternatives(words.sorted()))")
            continue
        }
        let subjects = Expected.subjects(file.sets).read(entry.value, &reading)
        // Also after a mistake, so that its uses are none.
        file.sets[entry.key] = subjects ?? []
    }
}

private func readRules(_ node: YAMLNode, _ file: inout RuleFile, _ reading: inout Reading) {
    guard case .list(let items) = node.content, items.count <= RuleFile.rulesMax else {
        let isList =
            if case .list(let items) = node.content { "a list of \(items.count)" } else { node.found }
        reading.mistakes.add(
            node.place, found: isList, expected: "a list of at most \(RuleFile.rulesMax) rules")
        return
    }
    for item in items {
        var draft = RuleDraft()
        let keys = RuleDraft.keys(file.sets)
        guard readMapping(item, keys, first: .required, into: &draft, &reading) else { continue }
        guard case .mapping(let entries) = item.content else { continue }
        if let rule = draft.rule(item.place, keys: Set(entries.map(\.key)), &reading) {
            file.rules.append(rule)
        }
    }
}
