// Which patterns match a path: all patterns as one tree over their parts.
//
// A path is walked once, name by name, with the tree's nodes that the names so far lead to: the *active* ones.
// From an active node a name leads to at most four: the node below of that very name, the one below `*`, the
// one below `{domid}`, and, if the node stands for `**`, itself. How many patterns there are does not matter;
// how many of them overlap at one place does, and the file alone decides that.
//
// Invariants: but for a node that stands for `**`, a node has one way to it, so it is active once; those are
// marked with the step in which they became active. Nothing here grows after `seal`.

import XenStoreTypes

/// A place in the tree of patterns, from 0.
typealias PatternNode = Int32

struct PatternBranch {
    /// The nodes below `*`, `{domid}` and `**`; -1: none.
    var any: PatternNode = -1
    var own: PatternNode = -1
    var rest: PatternNode = -1
    /// It stands for `**`.
    var isRest = false
    /// Which of the tree's lists of rules a path that ends here has; -1: none.
    var list: Int32 = -1
}

/// The names in patterns, numbered.
struct PatternNames {
    private var bytes: [UInt8] = []
    private var ends: [Int32] = []
    /// The names by hash: number + 1, or 0; a power of two long, and at most half full.
    private var slots: [UInt32] = [UInt32](repeating: 0, count: 64)

    static let seed: UInt64 = 0xCBF2_9CE4_8422_2325

    @inline(__always) static func mix(_ hash: UInt64, _ byte: UInt8) -> UInt64 {
        (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }

    @inline(__always) private func slot(_ hash: UInt64) -> Int {
        Int(truncatingIfNeeded: hash ^ hash >> 29) & (slots.count - 1)
    }

    private func equals(_ name: Int, _ other: UnsafeRawBufferPointer) -> Bool {
        let start = name == 0 ? 0 : Int(ends[name - 1])
        if Int(ends[name]) - start != other.count { return false }
        for index in 0..<other.count where bytes[start + index] != other[index] { return false }
        return true
    }

    /// The number of a name that is in a pattern; -1: it is in none.
    @inline(__always) func find(_ name: UnsafeRawBufferPointer, _ hash: UInt64) -> Int32 {
        var at = slot(hash)
        while slots[at] != 0 {
            if equals(Int(slots[at]) - 1, name) { return Int32(slots[at]) - 1 }
            at = (at + 1) & (slots.count - 1)
        }
        return -1
    }

    mutating func add(_ name: [UInt8]) -> Int32 {
        let hash = name.reduce(Self.seed) { Self.mix($0, $1) }
        let there = name.withUnsafeBytes { find($0, hash) }
        if there >= 0 { return there }
        bytes.append(contentsOf: name)
        ends.append(Int32(bytes.count))
        if 2 * ends.count > slots.count { grow() }
        place(ends.count - 1, hash)
        return Int32(ends.count - 1)
    }

    private mutating func place(_ name: Int, _ hash: UInt64) {
        var at = slot(hash)
        while slots[at] != 0 { at = (at + 1) & (slots.count - 1) }
        slots[at] = UInt32(name) + 1
    }

    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: 2 * slots.count)
        for name in 0..<ends.count - 1 {
            let start = name == 0 ? 0 : Int(ends[name - 1])
            place(name, bytes[start..<Int(ends[name])].reduce(Self.seed) { Self.mix($0, $1) })
        }
    }
}

/// Keys of two words to numbers: what neither guests nor requests add to.
struct PairTable {
    private var keys: [UInt64] = [UInt64](repeating: .max, count: 64)
    private var values: [Int32] = [Int32](repeating: -1, count: 64)
    private(set) var count = 0

    @inline(__always) private func slot(_ key: UInt64) -> Int {
        let hash = key &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: hash >> 32) & (keys.count - 1)
    }

    /// -1: there is none.
    @inline(__always) func find(_ high: UInt32, _ low: UInt32) -> Int32 {
        let key = UInt64(high) << 32 | UInt64(low)
        var at = slot(key)
        while keys[at] != .max {
            if keys[at] == key { return values[at] }
            at = (at + 1) & (keys.count - 1)
        }
        return -1
    }

    /// `high` is not the largest number.
    mutating func set(_ high: UInt32, _ low: UInt32, _ value: Int32) {
        let key = UInt64(high) << 32 | UInt64(low)
        if 2 * count >= keys.count { grow() }
        var at = slot(key)
        while keys[at] != .max && keys[at] != key { at = (at + 1) & (keys.count - 1) }
        if keys[at] == .max { count += 1 }
        keys[at] = key
        values[at] = value
    }

    private mutating func grow() {
        let (oldKeys, oldValues) = (keys, values)
        keys = [UInt64](repeating: .max, count: 2 * oldKeys.count)
        values = [Int32](repeating: -1, count: 2 * oldKeys.count)
        for (key, value) in zip(oldKeys, oldValues) where key != .max {
            var at = slot(key)
            while keys[at] != .max { at = (at + 1) & (keys.count - 1) }
            keys[at] = key
            values[at] = value
        }
    }
}

final class PatternTree {
    @exclusivity(unchecked) private var branches = [PatternBranch(), PatternBranch()]
    @exclusivity(unchecked) private var names = PatternNames()
    @exclusivity(unchecked) private var below = PairTable()
    // Scratch: the active nodes, those after the next name, and in which step a node became active last.
    @exclusivity(unchecked) private var active: [PatternNode] = []
    @exclusivity(unchecked) private var next: [PatternNode] = []
    @exclusivity(unchecked) private var marks: [UInt64] = []
    @exclusivity(unchecked) private var step: UInt64 = 0

    // MARK: Making

    var count: Int { branches.count }

    /// The node where the pattern ends.
    func add(_ pattern: PathPattern) -> PatternNode {
        var node: PatternNode = pattern.isSpecial ? 1 : 0
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
        case .name(let name): below.set(UInt32(node), UInt32(names.add(name)), Int32(new))
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
        active.reserveCapacity(branches.count)
        next.reserveCapacity(branches.count)
        marks = [UInt64](repeating: 0, count: branches.count)
    }

    // MARK: Walking

    /// Calls `body` with the list of rules of each pattern that matches. `own`: the caller's domain id.
    @inline(__always) func match(
        _ path: UnsafeRawBufferPointer, own: UInt16?, _ body: (Int32) -> Void
    ) {
        active.removeAll(keepingCapacity: true)
        step &+= 1
        let isSpecial = path[0] != 0x2F
        enter(isSpecial ? 1 : 0, into: &active)
        var start = isSpecial ? 0 : 1
        while start < path.count {
            var hash = PatternNames.seed
            var end = start
            while end < path.count && path[end] != 0x2F {
                hash = PatternNames.mix(hash, path[end])
                end += 1
            }
            follow(UnsafeRawBufferPointer(rebasing: path[start..<end]), hash, own)
            if active.isEmpty { return }
            start = end + 1
        }
        for node in active where branches[Int(node)].list >= 0 { body(branches[Int(node)].list) }
    }

    /// The active nodes after one more name.
    @inline(__always) private func follow(_ name: UnsafeRawBufferPointer, _ hash: UInt64, _ own: UInt16?) {
        let number = names.find(name, hash)
        next.removeAll(keepingCapacity: true)
        step &+= 1
        for node in active {
            let branch = branches[Int(node)]
            if branch.isRest { enter(node, into: &next) }
            if number >= 0 {
                let child = below.find(UInt32(node), UInt32(number))
                if child >= 0 { enter(PatternNode(child), into: &next) }
            }
            if branch.any >= 0 { enter(branch.any, into: &next) }
            if branch.own >= 0, let own, isDecimal(name, own) { enter(branch.own, into: &next) }
        }
        swap(&active, &next)
    }

    /// Makes a node active, and the node of `**` below it, since that stands for no name as well.
    @inline(__always) private func enter(_ node: PatternNode, into list: inout [PatternNode]) {
        let branch = branches[Int(node)]
        if branch.isRest {
            if marks[Int(node)] == step { return }
            marks[Int(node)] = step
        }
        list.append(node)
        if branch.rest >= 0 && marks[Int(branch.rest)] != step {
            marks[Int(branch.rest)] = step
            list.append(branch.rest)
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
