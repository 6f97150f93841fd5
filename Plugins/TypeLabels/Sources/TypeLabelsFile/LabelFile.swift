// A file of labels: which keys there are, and what they hold.
//
// Labels are declared by giving them to somebody or something, in `domains` and `nodes`; `owner` and `allow`
// can name those only, so that a slip of the pen is a mistake and not a rule that never applies.

import TypeLabels
import XenStorePlugin
import XenStoreTypes
import XenStoreYAML

/// What a file says, while it is read.
struct LabelFile {
    var rules: LabelRules
    var isPermissive = false
    private var labels: [String: Label] = ["unlabeled": 0]

    static let fileMax = 4 << 20
    static let linesMax = LabelRules.linesMax
    static let labelsMax = LabelRules.labelsMax

    /// What the file at `path` says. Throws every mistake in it, or why it cannot be read.
    static func read(_ path: String) throws(ConfigurationMistakes) -> LabelRules {
        do {
            let bytes = try fileContents(of: path, max: fileMax + 1, "a file with labels")
            return try read(bytes, file: path)
        } catch let mistakes as ConfigurationMistakes {
            throw mistakes
        } catch {
            throw ConfigurationMistakes(file: path, text: (error as? Unreadable)?.text ?? "\(error)")
        }
    }

    /// What the bytes of the file `name` say. Throws every mistake in them.
    static func read(_ bytes: [UInt8], file name: String) throws(ConfigurationMistakes) -> LabelRules {
        var reading = Reading(mistakes: MistakeList(file: name), accounts: .machine)
        var file = LabelFile(rules: LabelRules(file: PlainText(name)))
        if bytes.count > fileMax {
            reading.mistakes.add(nil, "found more than \(fileMax) bytes, expected labels")
        } else if let root = readYAML(bytes, &reading.mistakes) {
            // Whatever the order in the file: labels are known before they are referred to.
            readMapping(inOrder(root), keys, into: &file, &reading)
        } else if reading.mistakes.all == nil {
            // It would deny everything to everybody.
            let names = keys.map(\.name).joined(separator: ", ")
            reading.mistakes.add(
                Place(line: 1, column: 1), found: "nothing", expected: "a mapping of: \(names)")
        }
        if let mistakes = reading.mistakes.all { throw mistakes }
        file.rules.isPermissive = file.isPermissive
        return file.rules
    }

    private init(rules: LabelRules) { self.rules = rules }

    private static var keys: [Key<LabelFile>] {
        [
            Key("domains") { node, file, reading in
                for line in lines(node, &reading) { file.readDomain(line, &reading) }
            },
            Key("nodes") { node, file, reading in
                for line in lines(node, &reading) { file.readNode(line, &reading) }
            },
            Key("allow") { node, file, reading in
                for line in lines(node, &reading) { file.readAllowance(line, &reading) }
            },
            Key("permissive", \.isPermissive, .flag),
        ]
    }

    /// `domains` before `nodes` before `allow`.
    private static func inOrder(_ root: YAMLNode) -> YAMLNode {
        guard case .mapping(let entries) = root.content else { return root }
        let order = keys.map(\.name)
        var sorted = root
        sorted.content = .mapping(
            entries.enumerated().sorted { left, right in
                let ranks = [left, right].map { order.firstIndex(of: $0.element.key) ?? order.count }
                return (ranks[0], left.offset) < (ranks[1], right.offset)
            }.map(\.element))
        return sorted
    }

    private static func lines(_ node: YAMLNode, _ reading: inout Reading) -> [YAMLNode] {
        if case .list(let items) = node.content, items.count <= linesMax { return items }
        let found = if case .list(let items) = node.content { "a list of \(items.count)" } else { node.found }
        reading.mistakes.add(
            node.place, found: found, expected: "a list of at most \(linesMax) mappings")
        return []
    }

    // MARK: Labels

    /// The number of a label that a line gives.
    private mutating func declare(
        _ name: String, _ line: YAMLNode, _ reading: inout Reading
    ) -> Label? {
        if let label = labels[name] { return label }
        if labels.count == Self.labelsMax {
            reading.mistakes.add(
                line.place, found: "the label \(quoted(name))",
                expected: "no more than \(Self.labelsMax) labels, \"unlabeled\" among them")
            return nil
        }
        let label = Label(labels.count)
        labels[name] = label
        rules.labels.append(PlainText(name))
        return label
    }

    /// One label that a line gives, or a list of them; `any`, where that may be, is nil.
    fileprivate func known(orAny: Bool) -> Expected<[Label]?> {
        Expected { [labels] node, reading in
            if orAny, node.content == .scalar("any", plain: true) { return .some(nil) }
            let items: [YAMLNode] = if case .list(let items) = node.content { items } else { [node] }
            var found: [Label] = []
            for item in items {
                if case .scalar(let text, _) = item.content, let label = labels[text] {
                    found.append(label)
                    continue
                }
                var expected =
                    "a label that domains or nodes give" + (orAny ? ", a list of them, or any" : "")
                let names = rules.labels.map(\.string)
                if case .scalar(let text, _) = item.content, let near = nearest(to: text, among: names) {
                    expected += " (did you mean \(near)?)"
                }
                reading.mistakes.add(item.place, found: item.found, expected: expected)
            }
            return found
        }
    }

    // MARK: Lines

    private mutating func readDomain(_ line: YAMLNode, _ reading: inout Reading) {
        var draft = DomainDraft()
        guard readMapping(line, DomainDraft.keys, first: .required, into: &draft, &reading) else { return }
        if !draft.hasMembers {
            reading.mistakes.add(line.place, found: "a mapping without \"members\"", expected: "one with it")
        }
        guard let name = draft.label, let label = declare(name, line, &reading) else { return }
        if let members = draft.members {
            rules.domains.append(DomainLabel(label, members, line: line.place.line))
        }
    }

    private mutating func readNode(_ line: YAMLNode, _ reading: inout Reading) {
        var draft = NodeDraft()
        let keys = NodeDraft.keys(self)
        guard readMapping(line, keys, first: .required, into: &draft, &reading) else { return }
        if !draft.hasPath {
            reading.mistakes.add(line.place, found: "a mapping without \"path\"", expected: "one with it")
        }
        guard let name = draft.label, let label = declare(name, line, &reading) else { return }
        guard let names = draft.names else { return }
        rules.nodes.append(NodeLabel(label, names, owners: draft.owners, line: line.place.line))
    }

    private mutating func readAllowance(_ line: YAMLNode, _ reading: inout Reading) {
        var draft = AllowanceDraft()
        let keys = AllowanceDraft.keys(self)
        guard readMapping(line, keys, first: .required, into: &draft, &reading) else { return }
        for missing in ["object", "classes"] where !draft.has.contains(missing) {
            reading.mistakes.add(
                line.place, found: "a mapping without \(quoted(missing))", expected: "one with it")
        }
        guard let subjects = draft.subjects, let objects = draft.objects, let classes = draft.classes else {
            return
        }
        rules.allowances.append(
            Allowance(subjects: subjects, objects: objects, classes: classes, line: line.place.line))
    }
}

struct DomainDraft {
    var label: String?
    var members: [Member]?
    var hasMembers = false

    fileprivate static var keys: [Key<DomainDraft>] {
        [
            Key("label") { $1.label = Expected.label.read($0, &$2) },
            Key("members") { node, draft, reading in
                draft.hasMembers = true
                draft.members = Expected.members.read(node, &reading)
            },
        ]
    }
}

struct NodeDraft {
    var label: String?
    var names: [[UInt8]]?
    var hasPath = false
    var owners: [Label]?

    fileprivate static func keys(_ file: LabelFile) -> [Key<NodeDraft>] {
        let owners = file.known(orAny: false)
        return [
            Key("label") { $1.label = Expected.label.read($0, &$2) },
            Key("path") { node, draft, reading in
                draft.hasPath = true
                draft.names = Expected.pathNames.read(node, &reading)
            },
            Key("owner") { $1.owners = owners.read($0, &$2) ?? nil },
        ]
    }
}

struct AllowanceDraft {
    /// Nil: a mistake; the inner nil: all of them.
    var subjects: [Label]??
    var objects: [Label]??
    var classes: [LabelClass]?
    var has: Set<String> = []

    fileprivate static func keys(_ file: LabelFile) -> [Key<AllowanceDraft>] {
        let labels = file.known(orAny: true)
        return [
            Key("subject") { $1.subjects = labels.read($0, &$2) },
            Key("object") { node, draft, reading in
                draft.has.insert("object")
                draft.objects = labels.read(node, &reading)
            },
            Key("classes") { node, draft, reading in
                draft.has.insert("classes")
                draft.classes = Expected.classes.read(node, &reading)
            },
        ]
    }
}
