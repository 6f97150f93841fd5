// Which label a path has: the patterns of `nodes` as a tree over their names.
//
// A path is walked once, name by name, with all nodes of the tree that the names so far lead to. From each a
// name leads to at most two: the one of that very name, and the one of `*`. So what a path costs grows with
// its length and with how many patterns the file lets overlap, not with how many there are.
//
// Invariant: `branches` is two trees, of the paths below / and of "@releaseDomain" and its like: each branch
// has one way to it.

import XenStorePlugin
import XenStoreTypes

/// A line of `nodes` that gave a label.
struct FoundLabel {
    var label: Label
    /// 0: no line did.
    var line: Int
}

struct LabelTree {
    private struct Branch {
        /// Where `*` leads to; 0: nowhere.
        var any = 0
        /// In the order of their bytes.
        var names: [(name: [UInt8], branch: Int)] = []
        /// The lines of `nodes` that end here, by their place in the file.
        var entries: [Int] = []
    }

    private let nodes: [NodeLabel]
    private var branches = [Branch(), Branch()]
    private static let root = 0
    private static let special = 1

    init(_ nodes: [NodeLabel]) {
        self.nodes = nodes
        for (index, node) in nodes.enumerated() {
            var at = node.names.first?.first == 0x40 ? Self.special : Self.root
            for name in node.names { at = child(of: at, name) }
            branches[at].entries.append(index)
        }
    }

    private mutating func child(of branch: Int, _ name: [UInt8]) -> Int {
        if name.isEmpty {
            if branches[branch].any == 0 { branches[branch].any = add() }
            return branches[branch].any
        }
        let (place, there) = name.withUnsafeBytes { find(branch, $0) }
        if let there { return there }
        let new = add()
        branches[branch].names.insert((name, new), at: place)
        return new
    }

    private mutating func add() -> Int {
        branches.append(Branch())
        return branches.count - 1
    }

    /// The label of the node of the first `depth` names of a question's path: that of the deepest pattern
    /// that matches the node or one above it, and of several equally deep ones that of the file's first.
    /// `owner`: the label of the node's owner; nil: not known, and lines with owners do not count.
    func label(of question: PolicyQuestion, _ depth: Int, owner: Label?) -> FoundLabel {
        var found = FoundLabel(label: 0, line: 0)
        var active = [question.path.first == 0x2F ? Self.root : Self.special]
        choose(active, owner, &found)
        for position in 0..<depth {
            let name = question.component(position)
            var next: [Int] = []
            for branch in active {
                if let named = find(branch, name).branch { next.append(named) }
                if branches[branch].any != 0 { next.append(branches[branch].any) }
            }
            if next.isEmpty { break }
            choose(next, owner, &found)
            active = next
        }
        return found
    }

    private func choose(_ active: [Int], _ owner: Label?, _ found: inout FoundLabel) {
        var best = Int.max
        for branch in active {
            for entry in branches[branch].entries where entry < best {
                if let owners = nodes[entry].owners {
                    guard let owner, owners.contains(owner) else { continue }
                }
                best = entry
            }
        }
        if best < Int.max { found = FoundLabel(label: nodes[best].label, line: nodes[best].line) }
    }

    /// Where a name stands or would stand among a branch's, and the branch that it leads to.
    private func find(_ branch: Int, _ name: UnsafeRawBufferPointer) -> (place: Int, branch: Int?) {
        var low = 0
        var high = branches[branch].names.count
        while low < high {
            let middle = (low + high) / 2
            switch order(branches[branch].names[middle].name, name) {
            case 0: return (middle, branches[branch].names[middle].branch)
            case ..<0: low = middle + 1
            default: high = middle
            }
        }
        return (low, nil)
    }
}

/// Below 0, 0 or above it, as `left` comes before `right`, is the same, or comes after it.
private func order(_ left: [UInt8], _ right: UnsafeRawBufferPointer) -> Int {
    for index in 0..<min(left.count, right.count) where left[index] != right[index] {
        return Int(left[index]) - Int(right[index])
    }
    return left.count - right.count
}
