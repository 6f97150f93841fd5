// Who has which label, and what labels may do to each other, looked up in tables.
//
// Invariants: the table between labels has `count` times `count` entries. All is complete before the first
// question, and never changes.

import XenStorePlugin
import XenStoreTypes

/// The rules of a file, ready for questions.
public struct LabelTable {
    public let rules: LabelRules
    let tree: LabelTree
    private let guests: DomainLabels
    private let privileged: DomainLabels
    private let user: FoundLabel
    private let count: Int
    /// A bit a class, by subject and object.
    private var allowed: [UInt8]

    public init(_ rules: LabelRules) {
        self.rules = rules
        tree = LabelTree(rules.nodes)
        guests = DomainLabels(rules.domains) { member, domain in
            switch member {
            case .any, .guest: true
            case .dom0, .user: false
            case .domains(let first, let last): first <= domain && domain <= last
            }
        }
        privileged = DomainLabels(rules.domains) { member, domain in
            switch member {
            case .any, .dom0: true
            case .guest, .user: false
            case .domains(let first, let last): first <= domain && domain <= last
            }
        }
        let users = rules.domains.first { $0.members.contains(.user) || $0.members.contains(.any) }
        user = FoundLabel(label: users?.label ?? 0, line: users?.line ?? 0)
        count = rules.labels.count
        allowed = [UInt8](repeating: 0, count: count * count)
        let all = Array(0..<count)
        for line in rules.allowances {
            var classes: UInt8 = 0
            for one in line.classes { classes |= 1 << one.rawValue }
            for subject in line.subjects?.map({ Int($0) }) ?? all {
                for object in line.objects?.map({ Int($0) }) ?? all {
                    allowed[subject * count + object] |= classes
                }
            }
        }
    }

    // MARK: Looking up

    func subject(_ question: PolicyQuestion) -> FoundLabel {
        guard let domain = question.speaksFor, domain < DomainID.firstReserved else { return user }
        return question.isPrivileged ? privileged[domain] : guests[domain]
    }

    /// Of the domain that owns a node: 0 is privileged, all others are guests.
    func owner(_ domain: UInt16) -> Label {
        if domain >= DomainID.firstReserved { return 0 }
        return (domain == 0 ? privileged[0] : guests[domain]).label
    }

    func allows(_ subject: Label, _ object: Label, _ what: LabelClass) -> Bool {
        allowed[Int(subject) * count + Int(object)] >> what.rawValue & 1 != 0
    }

    /// The line of `allow` that lets it happen; nil: none does.
    func line(_ subject: Label, _ object: Label, _ what: LabelClass) -> Int? {
        rules.allowances.first { line in
            line.classes.contains(what) && (line.subjects?.contains(subject) ?? true)
                && (line.objects?.contains(object) ?? true)
        }?.line
    }
}

/// The labels of domain ids.
///
/// Invariant: each run has its entry in `labels`.
private struct DomainLabels {
    private let runs: DomainRuns
    private var labels: [FoundLabel] = []

    init(_ lines: [DomainLabel], _ isMember: (Member, UInt16) -> Bool) {
        var ranges: [(first: UInt16, last: UInt16)] = []
        for line in lines {
            for case .domains(let first, let last) in line.members { ranges.append((first, last)) }
        }
        runs = DomainRuns(ranges)
        for start in runs.starts {
            let line = lines.first { line in line.members.contains { isMember($0, start) } }
            labels.append(FoundLabel(label: line?.label ?? 0, line: line?.line ?? 0))
        }
    }

    subscript(_ domain: UInt16) -> FoundLabel { labels[runs.number(of: domain)] }
}
