// The policy: what an operation needs of which label, and whether a line allows it.
//
// It denies or abstains, and never grants: node permissions decide as well.

import XenStorePlugin
import XenStoreTypes

/// As a kernel links it.
public let compiledTypeLabels = Plugin(
    compiledPolicy: TypeLabelsPolicy.init(host:compiled:), name: "type-labels", version: "1.0")

/// Denies what no line of the rules allows. Permissive, it logs that and abstains.
open class TypeLabelsPolicy: AccessPolicy {
    private static let logInterval: UInt64 = 1_000_000_000

    private let table: LabelTable
    private final var isPermissive: Bool { table.rules.isPermissive }
    /// What it decides by.
    public final var rules: LabelRules { table.rules }
    /// When a denial was logged last (0: never), and how many were not since.
    private var logged: UInt64 = 0
    private var unlogged: UInt64 = 0

    public init(host: PluginHost, rules: LabelRules) throws(PluginFailure) {
        table = LabelTable(rules)
        try super.init(host: host, options: [])
        if !isPermissive { return }
        host.log(.warning, "\(rules.file) is not enforced: what it denies is only logged" as PlainText)
    }

    /// With the labels of a compiled form. Throws where the bytes are none.
    public convenience init(host: PluginHost, compiled bytes: [UInt8]) throws(PluginFailure) {
        try self.init(host: host, rules: LabelRules(compiled: bytes))
    }

    override public var interest: PolicyInterest {
        PolicyInterest(
            decides: PolicyOperations(
                .read, .directory, .directoryPart, .getPermissions, .watch, .event, .write, .setPermissions,
                .create, .removeNode))
    }

    override public func decide(_ question: PolicyQuestion) -> PolicyDecision {
        let subject = table.subject(question)
        let owner = question.owner.map { table.owner($0) }
        switch question.operation {
        case .read, .directory, .directoryPart, .getPermissions, .watch, .event:
            return check(question, subject, node(question, owner), .read)
        case .write:
            // What is not there yet is created.
            return question.nodeExists ? check(question, subject, node(question, owner), .write) : .abstain
        case .removeNode:
            return check(question, subject, node(question, owner), .delete)
        case .setPermissions:
            return decideChange(question, subject, owner)
        case .create:
            return decideCreation(question, subject)
        default:
            return .abstain
        }
    }

    private final func node(_ question: PolicyQuestion, _ owner: Label?) -> FoundLabel {
        table.tree.label(of: question, question.componentCount, owner: owner)
    }

    private final func decideCreation(_ question: PolicyQuestion, _ subject: FoundLabel) -> PolicyDecision {
        let fresh = node(question, question.permissionsAfter.first.map { table.owner($0.domain.rawValue) })
        // Of the node above only the path is known.
        let above = table.tree.label(of: question, max(0, question.componentCount - 1), owner: nil)
        var decision = check(question, subject, above, .bind)
        if decision == .abstain { decision = check(question, subject, fresh, .create) }
        if decision == .abstain && fresh.label != above.label {
            decision = check(question, subject, fresh, .transition)
        }
        return decision
    }

    private final func decideChange(
        _ question: PolicyQuestion, _ subject: FoundLabel, _ owner: Label?
    ) -> PolicyDecision {
        let before = node(question, owner)
        let decision = check(question, subject, before, .chmod)
        guard decision == .abstain, question.nodeExists, let next = question.permissionsAfter.first else {
            return decision
        }
        let after = node(question, table.owner(next.domain.rawValue))
        if after.label == before.label { return .abstain }
        let leaving = check(question, subject, before, .relabel)
        return leaving == .abstain ? check(question, subject, after, .relabel) : leaving
    }

    // MARK: One need

    private final func check(
        _ question: PolicyQuestion, _ subject: FoundLabel, _ object: FoundLabel, _ what: LabelClass
    ) -> PolicyDecision {
        if table.allows(subject.label, object.label, what) {
            question.because(reason(subject, object, what))
            return .abstain
        }
        note(question, subject, object, what)
        question.because(reason(subject, object, what))
        return isPermissive ? .abstain : .deny(.access)
    }

    /// The two labels with the lines that give them, and the line that allows it.
    private final func reason(_ subject: FoundLabel, _ object: FoundLabel, _ what: LabelClass) -> PlainText {
        var allowance: PlainText = isPermissive ? "no line allows (permissive)" : "no line allows"
        if let line = table.line(subject.label, object.label, what) {
            allowance = "\(table.rules.file):\(UInt64(line)) allows"
        }
        return "\(allowance) \(named(subject)) to \(what.name) \(named(object))"
    }

    private final func named(_ found: FoundLabel) -> PlainText {
        let name = table.rules.labels[Int(found.label)]
        return found.line == 0 ? "\(name)" : "\(name) (\(table.rules.file):\(UInt64(found.line)))"
    }

    /// At most one line a second, with how many were not logged.
    private final func note(
        _ question: PolicyQuestion, _ subject: FoundLabel, _ object: FoundLabel, _ what: LabelClass
    ) {
        // Silence is how an event that is not to be heard is denied; it is no attempt.
        if question.isDryRun || question.operation == .event { return }
        if logged != 0 && question.now < logged + Self.logInterval {
            unlogged += 1
            return
        }
        var who: PlainText = "nobody"
        if let peer = question.peer { who = "uid \(UInt64(peer.uid))" }
        if let domain = question.speaksFor { who = "domain \(UInt64(domain))" }
        let more: PlainText = unlogged > 0 ? " (and \(unlogged) more since)" : ""
        let reason = reason(subject, object, what)
        host.log(.notice, "\(reason): \(who), \(question.path)\(more)" as PlainText)
        logged = max(1, question.now)
        unlogged = 0
    }
}
