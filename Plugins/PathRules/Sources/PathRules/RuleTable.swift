// Rules as a table: which rule is the first that matches, at a cost that does not depend on how many there
// are.
//
// The path leads to lists of rules (PatternTree). A list is not searched: for each list and each class of
// operations it is known beforehand which rule comes first for anybody, for guests, for the control domain,
// for users and for owners; and where a rule names domains, uids or gids, a hash table says which comes first
// for each. The first of all of these is the one that decides.
//
// Two operations are of one class if every rule that names one names the other; two domain ids likewise. So a
// file that speaks of reading and changing has three classes of operations, and one that names ten ranges of
// domains at most twenty-one of domains.
//
// Invariant: nothing changes after `init` but the tree's scratch.

import XenStorePlugin
import XenStoreTypes

/// Which rules were found, by their numbers from 0; -1: none.
public struct FoundRules: Equatable, Sendable {
    /// The first that is not permissive.
    public var deciding: Int32 = -1
    /// The first permissive one, if it comes before.
    public var permissive: Int32 = -1

    public init(deciding: Int32 = -1, permissive: Int32 = -1) {
        self.deciding = deciding
        self.permissive = permissive
    }
}

/// The first rules of one list for one class of operations; -1: none.
private struct FirstRules {
    var anybody: Int32 = -1
    var guest: Int32 = -1
    var control: Int32 = -1
    var user: Int32 = -1
    var owner: Int32 = -1
    var namesDomains = false
    var namesUsers = false
    var namesGroups = false
}

public final class RuleTable {
    /// How many entries for named domains, users and groups there may be.
    static let namedMax = 1 << 20
    /// How many places the patterns may have together.
    static let branchesMax = 1 << 20
    /// How many rules there may be.
    public static let rulesMax = 10_000

    public let rules: [Rule]
    /// All that any rule names.
    public let operations: PolicyOperations
    private let tree = PatternTree()
    /// The class of each operation; 0: no rule names it.
    @exclusivity(unchecked) private var operationClasses = [UInt8](repeating: 0, count: 64)
    @exclusivity(unchecked) private var classCount = 1
    /// The class of each domain id; empty: no rule names any.
    @exclusivity(unchecked) private var domainClasses: [UInt16] = []
    /// Two for each list and class of operations: the rules that decide, and the permissive ones. List 0 is
    /// that of the rules for every path.
    @exclusivity(unchecked) private var firsts: [FirstRules] = []
    @exclusivity(unchecked) private var domains = PairTable()
    @exclusivity(unchecked) private var users = PairTable()
    @exclusivity(unchecked) private var groups = PairTable()

    /// Throws if the rules together are too many.
    public init(_ rules: [Rule]) throws(RuleExcess) {
        self.rules = rules
        operations = rules.reduce(into: PolicyOperations()) { $0.formUnion($1.operations) }
        classifyOperations()
        classifyDomains()
        try addLists()
        tree.seal()
    }

    // MARK: Making

    private func classifyOperations() {
        var kinds: [[Bool]] = []
        for operation in 0..<64 where operations.rawValue >> UInt64(operation) & 1 != 0 {
            let kind = rules.map { $0.operations.rawValue >> UInt64(operation) & 1 != 0 }
            let known = kinds.firstIndex(of: kind)
            if known == nil { kinds.append(kind) }
            operationClasses[operation] = UInt8(1 + (known ?? kinds.count - 1))
        }
        classCount = kinds.count + 1
    }

    private func classifyDomains() {
        var ranges: [(first: UInt16, last: UInt16)] = []
        for rule in rules {
            for case .domains(let first, let last) in rule.subjects { ranges.append((first, last)) }
        }
        if ranges.isEmpty { return }
        let starts = DomainRuns(ranges).starts
        domainClasses = [UInt16](repeating: 0, count: 0x1_0000)
        for number in starts.indices {
            let end = number + 1 < starts.count ? Int(starts[number + 1]) : 0x1_0000
            for id in Int(starts[number])..<end { domainClasses[id] = UInt16(truncatingIfNeeded: number) }
        }
    }

    private func addLists() throws(RuleExcess) {
        var lists: Int32 = 1
        addList()
        for number in rules.indices {
            guard let patterns = rules[number].patterns else {
                try add(number, to: 0)
                continue
            }
            for pattern in patterns {
                let node = tree.add(pattern)
                if tree.count > Self.branchesMax { throw RuleExcess(rule: number) }
                if tree.list(of: node) < 0 {
                    tree.setList(of: node, lists)
                    lists += 1
                    addList()
                }
                try add(number, to: tree.list(of: node))
            }
        }
    }

    private func addList() {
        firsts.append(contentsOf: repeatElement(FirstRules(), count: 2 * classCount))
    }

    private func add(_ number: Int, to list: Int32) throws(RuleExcess) {
        let rule = rules[number]
        var done = [Bool](repeating: false, count: classCount)
        for operation in 0..<64 where rule.operations.rawValue >> UInt64(operation) & 1 != 0 {
            let kind = Int(operationClasses[operation])
            if done[kind] { continue }
            done[kind] = true
            let place = 2 * (Int(list) * classCount + kind) + (rule.isPermissive ? 1 : 0)
            for subject in rule.subjects { add(Int32(number), place, subject) }
            if domains.count + users.count + groups.count > Self.namedMax { throw RuleExcess(rule: number) }
        }
    }

    /// Rules come in their order, so what is there already comes first.
    private func add(_ rule: Int32, _ place: Int, _ subject: RuleSubject) {
        switch subject {
        case .anybody: keepFirst(&firsts[place].anybody, rule)
        case .guest: keepFirst(&firsts[place].guest, rule)
        case .control: keepFirst(&firsts[place].control, rule)
        case .user: keepFirst(&firsts[place].user, rule)
        case .owner: keepFirst(&firsts[place].owner, rule)
        case .domains(let first, let last):
            firsts[place].namesDomains = true
            for kind in domainClasses[Int(first)]...domainClasses[Int(last)] {
                keepFirst(&domains, UInt32(place), UInt32(kind), rule)
            }
        case .uid(let uid):
            firsts[place].namesUsers = true
            keepFirst(&users, UInt32(place), uid, rule)
        case .gid(let gid):
            firsts[place].namesGroups = true
            keepFirst(&groups, UInt32(place), gid, rule)
        }
    }

    private func keepFirst(_ field: inout Int32, _ rule: Int32) { if field < 0 { field = rule } }

    private func keepFirst(_ table: inout PairTable, _ place: UInt32, _ key: UInt32, _ rule: Int32) {
        if table.find(place, key) < 0 { table.set(place, key, rule) }
    }

    // MARK: Asking

    /// How many names have been walked so far, for tests of what that costs.
    var stepCount: UInt64 { tree.step }

    /// The first rules for an operation. `path` is empty for an operation that has none; CONTROL's is its
    /// command.
    public func find(_ asker: Asker, _ operation: UInt32, _ path: UnsafeRawBufferPointer) -> FoundRules {
        let kind = operation < 64 ? Int(operationClasses[Int(operation)]) : 0
        if kind == 0 { return FoundRules() }
        var found = FoundRules(deciding: .max, permissive: .max)
        look(asker, 0, kind, &found)
        if operation == PolicyOperation.control.rawValue {
            tree.match(command: path) { list in look(asker, Int(list), kind, &found) }
        } else if !path.isEmpty {
            tree.match(path, own: asker.domain) { list in look(asker, Int(list), kind, &found) }
        }
        if found.permissive > found.deciding || found.permissive == .max { found.permissive = -1 }
        if found.deciding == .max { found.deciding = -1 }
        return found
    }

    @inline(__always) private func look(
        _ asker: Asker, _ list: Int, _ kind: Int, _ found: inout FoundRules
    ) {
        let place = 2 * (list * classCount + kind)
        look(asker, place, &found.deciding)
        look(asker, place + 1, &found.permissive)
    }

    @inline(__always) private func look(_ asker: Asker, _ place: Int, _ least: inout Int32) {
        let first = firsts[place]
        take(first.anybody, &least)
        take(asker.isControl ? first.control : asker.isSocket ? first.user : first.guest, &least)
        if asker.isOwner { take(first.owner, &least) }
        if first.namesDomains, let domain = asker.domain {
            take(domains.find(UInt32(place), UInt32(domainClasses[Int(domain)])), &least)
        }
        if !asker.isSocket { return }
        if first.namesUsers { take(users.find(UInt32(place), asker.uid), &least) }
        if first.namesGroups {
            take(groups.find(UInt32(place), asker.gid), &least)
            for group in asker.groups { take(groups.find(UInt32(place), group), &least) }
        }
    }

    @inline(__always) private func take(_ rule: Int32, _ least: inout Int32) {
        if rule >= 0 && rule < least { least = rule }
    }
}
