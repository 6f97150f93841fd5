// Which patterns match a path: all patterns as one tree over their parts.
//
// A path is walked once, name by name, with the tree's nodes that the names so far lead to: the *active*
// ones. From an active node a name leads to at most four: the node below of that very name, the one below
// `*`, the one below `{domid}`, and, if the node stands for `**`, itself. How many patterns there are does
// not matter; how many of them overlap at one place does, and the file alone decides that.
//
// The active nodes of each level of the last path are kept (PatternWalk): the next path is walked from where
// it parts from that one. So a request that is asked about node by node, down a path or through a subtree,
// costs what its paths are long together, and not that for each name in them.
//
// Invariants: but for a node that stands for `**`, a node has one way to it, so it is active once; those are
// marked with the step in which they became active. Nothing here grows after `seal`. Unsafe
// code: what is sealed has a fixed place.

/// A place in the tree of patterns, from 0.
typealias PatternNode = Int32

struct PatternBranch {
    /// The nodes below `*`, `{domid}` and `**`; -1: none.
    var any: PatternNode = -1
    var own: PatternNode = -1
    var rest: PatternNode = -1
    /// It stands for `**`.
    var isRest = false
    /// There are nodes below it for certain names.
    var hasNames = false
    /// Which of the tree's lists of rules a path that ends here has; -1: none.
    var list: Int32 = -1
}

final class PatternTree {
    @exclusivity(unchecked) private var branches = [PatternBranch(), PatternBranch(), PatternBranch()]
    @exclusivity(unchecked) private var names = PatternNames()
    @exclusivity(unchecked) private var below = PairTable()
    // Behind `seal`: the branches, the last path's walk, and in which step a node became active last.
    @exclusivity(unchecked) private var sealed: UnsafeMutablePointer<PatternBranch>?
    @exclusivity(unchecked) private var walk = PatternWalk(room: 1)
    @exclusivity(unchecked) private var marks: UnsafeMutablePointer<UInt64>?
    @exclusivity(unchecked) private(set) var step: UInt64 = 0

    deinit {
        sealed?.deallocate()
        marks?.deallocate()
        walk.free()
    }

    // MARK: Making

    var count: Int { branches.count }

    /// The node where the pattern ends.
    func add(_ pattern: PathPattern) -> PatternNode {
        var node = PatternNode(pattern.root.rawValue)
        for part in pattern.parts { node = child(of: node, part) }
        return node
    }

    private func child(of node: PatternNode, _ part: PatternPart) -> PatternNode {
        let at = Int(node)
        let new = PatternNode(branches.count)
        let there: PatternNode
        switch part {
        case .any: there = branches[at].any
        case .own: there = branches[at].own
        case .rest: there = branches[at].rest
        case .name(let name): there = below.find(UInt32(node), UInt32(names.add(name)))
        }
        if there >= 0 { return there }
        switch part {
        case .any: branches[at].any = new
        case .own: branches[at].own = new
        case .rest: branches[at].rest = new
        case .name(let name):
            below.set(UInt32(node), UInt32(names.add(name)), Int32(new))
            branches[at].hasNames = true
        }
        var branch = PatternBranch()
        branch.isRest = part == .rest
        branches.append(branch)
        return new
    }

    func list(of node: PatternNode) -> Int32 { branches[Int(node)].list }
    func setList(of node: PatternNode, _ list: Int32) { branches[Int(node)].list = list }

    /// All patterns are there.
    func seal() {
        let all = UnsafeMutablePointer<PatternBranch>.allocate(capacity: branches.count)
        for index in branches.indices { (all + index).initialize(to: branches[index]) }
        sealed = all
        marks = .allocate(capacity: branches.count)
        marks?.initialize(repeating: 0, count: branches.count)
        walk.free()
        walk = PatternWalk(room: branches.count)
    }

    // MARK: Walking

    /// Calls `body` with the list of rules of each pattern that matches a command of CONTROL.
    func match(command: UnsafeRawBufferPointer, _ body: (Int32) -> Void) {
        guard let branches = sealed else { return }
        let number = names.find(command, command.reduce(PatternNames.seed) { PatternNames.mix($0, $1) })
        if number < 0 { return }
        let node = below.find(UInt32(PathPattern.Root.command.rawValue), UInt32(number))
        if node >= 0 && branches[Int(node)].list >= 0 { body(branches[Int(node)].list) }
    }

    /// Calls `body` with the list of rules of each pattern that matches. `own`: the caller's domain id.
    @inline(__always) func match(
        _ path: UnsafeRawBufferPointer, own: UInt16?, _ body: (Int32) -> Void
    ) {
        guard let branches = sealed, let marks else { return }
        if !walk.resume(path, own) {
            step &+= 1
            enter(path[0] == 0x2F ? 0 : 1, branches, marks)
            walk.endLevel(at: 0)
        }
        var start = walk.nextStart
        while start < path.count && !walk.isEmpty {
            var hash = PatternNames.seed
            var end = start
            while end < path.count && path[end] != 0x2F {
                hash = PatternNames.mix(hash, path[end])
                end += 1
            }
            follow(UnsafeRawBufferPointer(rebasing: path[start..<end]), hash, own, branches, marks)
            walk.endLevel(at: end)
            start = end + 1
        }
        if start < path.count { return }
        for position in walk.active {
            let list = branches[Int(walk.node(position))].list
            if list >= 0 { body(list) }
        }
    }

    /// Makes the nodes active that one more name leads to.
    @inline(__always) private func follow(
        _ name: UnsafeRawBufferPointer, _ hash: UInt64, _ own: UInt16?,
        _ branches: UnsafeMutablePointer<PatternBranch>, _ marks: UnsafeMutablePointer<UInt64>
    ) {
        let number = names.find(name, hash)
        walk.makeRoom()
        step &+= 1
        for position in walk.active {
            let node = walk.node(position)
            let branch = branches[Int(node)]
            if branch.isRest { enter(node, branches, marks) }
            if number >= 0 && branch.hasNames {
                let child = below.find(UInt32(node), UInt32(number))
                if child >= 0 { enter(PatternNode(child), branches, marks) }
            }
            if branch.any >= 0 { enter(branch.any, branches, marks) }
            if branch.own >= 0, let own, isDecimal(name, own) { enter(branch.own, branches, marks) }
        }
    }

    /// Makes a node active, and the node of `**` below it, since that stands for no name as well.
    @inline(__always) private func enter(
        _ node: PatternNode, _ branches: UnsafeMutablePointer<PatternBranch>,
        _ marks: UnsafeMutablePointer<UInt64>
    ) {
        let branch = branches[Int(node)]
        if branch.isRest {
            if marks[Int(node)] == step { return }
            marks[Int(node)] = step
        }
        walk.append(node)
        if branch.rest >= 0 && marks[Int(branch.rest)] != step {
            marks[Int(branch.rest)] = step
            walk.append(branch.rest)
        }
    }
}

/// Whether the bytes are the number in decimal digits, without zeros before it.
private func isDecimal(_ bytes: UnsafeRawBufferPointer, _ number: UInt16) -> Bool {
    if bytes.isEmpty || bytes.count > 5 || bytes[0] == 0x30 && bytes.count > 1 { return false }
    var value: UInt32 = 0
    for byte in bytes {
        if byte < 0x30 || byte > 0x39 { return false }
        value = 10 * value + UInt32(byte - 0x30)
    }
    return value == UInt32(number)
}
