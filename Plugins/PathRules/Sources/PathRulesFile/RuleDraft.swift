// One rule of a file: its keys, and what they must be together.

import PathRules
import XenStorePlugin
import XenStoreYAML

/// A rule while it is read.
struct RuleDraft {
    enum Word: String, CaseIterable { case deny, grant, abstain }

    var effect: Word?
    var error: PolicyError?
    var errorPlace: Place?
    var subjects: [RuleSubject]?
    var operations: PolicyOperations?
    var patterns: [PathPattern]?
    var pathsPlace: Place?
    var commandsPlace: Place?
    var isPermissive = false
    var name: String?

    static func keys(_ sets: SubjectSets) -> [Key<RuleDraft>] {
        let errors: [PolicyError] = [.access, .permission, .noSpace, .busy, .noEntry]
        let error = Expected.choice(errors.map { (name: $0.ruleName.description, value: $0) })
        return [
            Key("effect", \.effect, .optional(.choice(Word.allCases.map { (name: $0.rawValue, value: $0) }))),
            Key("subjects", \.subjects, .optional(.subjects(sets))),
            Key("operations", \.operations, .optional(.operations)),
            Key("paths") { node, draft, reading in
                draft.pathsPlace = node.place
                draft.patterns = Expected.patterns.read(node, &reading)
            },
            Key("commands") { node, draft, reading in
                draft.commandsPlace = node.place
                draft.patterns = Expected.commands.read(node, &reading)
            },
            Key("error") { node, draft, reading in
                draft.errorPlace = node.place
                draft.error = error.read(node, &reading)
            },
            Key("permissive", \.isPermissive, .flag),
            Key("name", \.name, .optional(.ruleName)),
        ]
    }

    /// The rule, or nil after noting a mistake, or where a value has been one.
    /// `keys`: those that it has in the file.
    func rule(_ place: Place, keys: Set<String>, _ reading: inout Reading) -> Rule? {
        if !keys.contains("subjects") {
            reading.mistakes.add(
                place, found: "a rule without \"subjects\"", expected: "whom it is about; any is everybody")
        }
        // Privilege is granted by a rule that names it, and not by one that leaves something out.
        if effect == .grant && !keys.contains("operations") {
            reading.mistakes.add(
                place, found: "a grant without \"operations\"",
                expected: "what it grants; all also grants what needs privilege")
        }
        if let errorPlace, let effect, effect != .deny {
            reading.mistakes.add(
                errorPlace, found: "an error of a rule whose effect is \(effect.rawValue)",
                expected: "none: only a deny has one")
        }
        let operations = operations ?? .everything
        if let pathsPlace, operations.isDisjoint(with: .withPath) {
            reading.mistakes.add(
                pathsPlace, found: "paths for operations that have none", expected: "no paths")
        }
        if let commandsPlace, self.operations != PolicyOperations(.control) {
            reading.mistakes.add(
                commandsPlace, found: "commands of a rule that is not about CONTROL alone",
                expected: "no commands, or \"operations: CONTROL\"")
        }
        let isAboutSome = pathsPlace != nil || commandsPlace != nil
        guard let effect, let subjects, !isAboutSome || patterns != nil else { return nil }
        let decided: RuleEffect =
            switch effect {
            case .deny: .deny(error ?? .access)
            case .grant: .grant
            case .abstain: .abstain
            }
        let at = "\(reading.mistakes.file):\(place.line)"
        return Rule(
            decided, subjects: subjects, operations: operations, patterns: patterns,
            isPermissive: isPermissive, title: name.map { "rule \($0) (\(at))" } ?? "rule \(at)" as PlainText)
    }
}

extension Expected {
    /// The same, for a field that may have no value.
    static func optional<Wrapped>(_ expected: Expected<Wrapped>) -> Expected where Value == Wrapped? {
        Expected { node, reading in expected.read(node, &reading).map { .some($0) } }
    }
}

extension Expected where Value == String {
    /// A rule's name, for texts.
    static var ruleName: Expected {
        Expected("a name of 1 to 60 printable characters", plain: false) { text in
            (1...60).contains(text.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F } ? text : nil
        }
    }
}
