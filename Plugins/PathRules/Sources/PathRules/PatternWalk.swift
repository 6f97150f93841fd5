// How far a path has been walked through a tree of patterns: which nodes were active behind each of its
// names.
//
// Invariants:
// - `nodes` has the active nodes of level 0, then those of level 1, and so on up to `levels - 1`, and behind
//   them those of the level that is being made. Level n belongs to the first n names of `path`, which end at
//   `ends[n]`.
// - `nodes` has room for all nodes of the tree behind what it holds whenever a level is begun: a level has
//   each node once at most.
//
// Unsafe code: room that is made once, at fixed places.

/// The levels of the last path, in room that was made before.
struct PatternWalk {
    /// Longer paths are walked from the start each time; no request has one.
    private static let pathMax = 4096
    /// Nodes that are kept for levels above the last one. Where patterns overlap so much that this is not
    /// enough, paths are walked from the start.
    private static let keptMax = 1 << 13

    private let room: Int
    private let nodes: UnsafeMutablePointer<PatternNode>
    private var used = 0
    private let ends: UnsafeMutablePointer<UInt16>
    /// Where each level's nodes begin; behind the last one, where the level that is being made begins.
    private let starts: UnsafeMutablePointer<Int32>
    private var levels = 0
    private let path: UnsafeMutableRawPointer
    private var count = 0
    private var own: UInt16?
    /// The level that is being made begins here, and the last one that is made ends here.
    private var begin = 0

    /// For a tree of so many nodes.
    init(room: Int) {
        self.room = room
        nodes = .allocate(capacity: 2 * room + Self.keptMax)
        ends = .allocate(capacity: Self.pathMax + 1)
        starts = .allocate(capacity: Self.pathMax + 2)
        path = .allocate(byteCount: Self.pathMax, alignment: 8)
    }

    func free() {
        nodes.deallocate()
        ends.deallocate()
        starts.deallocate()
        path.deallocate()
    }

    /// Goes back to where this path parts from the one before. False: there is nothing to go on from, and
    /// level 0 is to be made.
    mutating func resume(_ new: UnsafeRawBufferPointer, _ own: UInt16?) -> Bool {
        var shared = 0
        if own == self.own && count > 0 && new[0] == path.load(as: UInt8.self) { shared = sharedCount(new) }
        if new.count > Self.pathMax { shared = 0 }
        while levels > 0 {
            let end = Int(ends[levels - 1])
            // Level 0, that of no name, ends before the slash, or before the special path's only name.
            if shared > 0 && (levels == 1 || end <= shared && (end == new.count || new[end] == 0x2F)) {
                break
            }
            levels -= 1
        }
        self.own = own
        count = min(new.count, Self.pathMax)
        (path + shared).copyMemory(from: new.baseAddress! + shared, byteCount: count - shared)
        used = levels == 0 ? 0 : Int(starts[levels])
        begin = used
        return levels > 0
    }

    /// How many bytes at the start of `new` are those of the path before.
    private func sharedCount(_ new: UnsafeRawBufferPointer) -> Int {
        let most = min(count, new.count)
        var index = 0
        while index + 8 <= most {
            let other = new.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            if path.loadUnaligned(fromByteOffset: index, as: UInt64.self) != other { break }
            index += 8
        }
        while index < most && path.load(fromByteOffset: index, as: UInt8.self) == new[index] { index += 1 }
        return index
    }

    /// Where the next name begins.
    var nextStart: Int {
        let end = Int(ends[levels - 1])
        return levels == 1 && path.load(as: UInt8.self) != 0x2F ? 0 : end + 1
    }

    // MARK: Levels

    /// The places of the active nodes.
    var active: Range<Int> { Int(starts[levels - 1])..<begin }
    var isEmpty: Bool { active.isEmpty }
    @inline(__always) func node(_ place: Int) -> PatternNode { nodes[place] }

    /// Sees to it that a level can be made; if need be, by forgetting all but the last one.
    mutating func makeRoom() {
        if used + room <= 2 * room + Self.keptMax && levels < Self.pathMax { return }
        let last = active
        nodes.update(from: nodes + last.lowerBound, count: last.count)
        ends[0] = ends[levels - 1]
        levels = 1
        starts[0] = 0
        begin = last.count
        used = begin
        starts[1] = Int32(begin)
        // It is not level 0: the next path begins anew.
        count = 0
    }

    /// Adds a node to the level that is being made.
    @inline(__always) mutating func append(_ node: PatternNode) {
        nodes[used] = node
        used += 1
    }

    /// The level is made: its names end at this byte of the path.
    mutating func endLevel(at end: Int) {
        if levels == 0 { starts[0] = 0 }
        ends[levels] = UInt16(truncatingIfNeeded: end)
        levels += 1
        begin = used
        starts[levels] = Int32(begin)
    }
}
