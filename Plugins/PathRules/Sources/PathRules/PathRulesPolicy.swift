// The policy: a question in, what the first rule that matches says out.

import XenStorePlugin
import XenStoreTypes

/// As a kernel links it.
public let compiledPathRules = Plugin(
    compiledPolicy: PathRulesPolicy.init(host:compiled:), name: "path-rules", version: "1.0")

/// Decides by rules. Where its rules come from is the affair of whoever makes it.
///
/// Permissive, as a whole or by a rule, means: what would be denied or granted is logged, and nothing of it
/// is done. A rule is logged at most once a second, with how often it would have been the last time.
open class PathRulesPolicy: AccessPolicy {
    static let logInterval: UInt64 = 1_000_000_000

    public let table: RuleTable
    public let isPermissive: Bool
    /// For each rule: when it was logged last (0: never), and how often it was not since.
    @exclusivity(unchecked) private var logged: [UInt64]
    @exclusivity(unchecked) private var unlogged: [UInt32]

    public init(host: PluginHost, table: RuleTable, isPermissive: Bool) throws(PluginFailure) {
        self.table = table
        self.isPermissive = isPermissive
        logged = [UInt64](repeating: 0, count: table.rules.count)
        unlogged = [UInt32](repeating: 0, count: table.rules.count)
        try super.init(host: host, options: [])
    }

    /// With the rules of a compiled form. Throws where the bytes are none, or more than a table holds.
    public convenience init(host: PluginHost, compiled bytes: [UInt8]) throws(PluginFailure) {
        let form = try RuleForm(bytes)
        let table: RuleTable
        do throws(RuleExcess) {
            table = try RuleTable(form.rules)
        } catch {
            throw PluginFailure(text: "\(form.rules[error.rule].title): found too many rules together")
        }
        try self.init(host: host, table: table, isPermissive: !form.whyPermissive.bytes.isEmpty)
        if self.isPermissive { host.log(.warning, form.whyPermissive) }
    }

    override open var interest: PolicyInterest { PolicyInterest(decides: table.operations) }

    override open func decide(_ question: PolicyQuestion) throws(PluginFailure) -> PolicyDecision {
        let found = table.find(question.asker, question.operation.rawValue, question.place)
        if found.permissive >= 0 { note(question, Int(found.permissive)) }
        if found.deciding < 0 {
            question.because(
                found.permissive < 0 ? "no rule matches" as PlainText : permissiveText(found.permissive))
            return .abstain
        }
        let rule = Int(found.deciding)
        let effect = table.rules[rule].effect
        if isPermissive {
            note(question, rule)
            question.because(permissiveText(found.deciding))
            return .abstain
        }
        question.because(table.rules[rule].title)
        switch effect {
        case .deny(let error): return .deny(error)
        case .grant: return .grant
        case .abstain: return .abstain
        }
    }

    private final func permissiveText(_ rule: Int32) -> PlainText {
        let rule = table.rules[Int(rule)]
        return "\(rule.title) \(rule.effect.wouldText), but is permissive"
    }

    // MARK: The log

    private final func note(_ question: PolicyQuestion, _ number: Int) {
        if question.isDryRun || table.rules[number].effect == .abstain { return }
        if logged[number] != 0 && question.now < logged[number] + Self.logInterval {
            unlogged[number] &+= 1
            return
        }
        let rule = table.rules[number]
        let place: PlainText = question.place.isEmpty ? "" : " \(question.place)"
        let more: PlainText =
            unlogged[number] > 0
            ? " (and \(UInt64(unlogged[number])) more since it was logged last)" : ""
        let what: PlainText = "\(rule.title) \(rule.effect.wouldText): \(question.askerText)"
        host.log(.notice, "\(what) \(question.operation.name)\(place)\(more)" as PlainText)
        logged[number] = max(question.now, 1)
        unlogged[number] = 0
    }
}

extension RuleEffect {
    var wouldText: PlainText {
        switch self {
        case .deny(let error): "would deny with \(error.ruleName)"
        case .grant: "would grant"
        case .abstain: "would abstain"
        }
    }
}

extension PolicyError {
    public var ruleName: StaticString {
        switch self {
        case .permission: "EPERM"
        case .noEntry: "ENOENT"
        case .access: "EACCES"
        case .busy: "EBUSY"
        case .noSpace: "ENOSPC"
        }
    }
}

extension PolicyQuestion {
    /// What rules are about: the node's path, or CONTROL's command; empty: neither.
    @inline(__always) public var place: UnsafeRawBufferPointer {
        operation == .control && argumentCount > 0 ? argument(0) : path
    }

    /// Who asks, as rules see it.
    @inline(__always) var asker: Asker {
        var asker = Asker(domain: speaksFor)
        asker.isControl = isPrivileged
        if let peer {
            asker.isSocket = true
            asker.uid = peer.uid
            asker.gid = peer.gid
            asker.groups = groups
        }
        if let owner { asker.isOwner = owner == asker.domain || owner == target }
        return asker
    }

    /// Who asks, for the log.
    public var askerText: PlainText {
        if let domain = speaksFor { return "domain \(UInt64(domain))" }
        guard let peer else { return "nobody" }
        return "uid \(UInt64(peer.uid)) gid \(UInt64(peer.gid))"
    }
}
