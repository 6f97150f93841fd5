// What the tree is made of: nodes, and the older versions of them that open transactions still see.
//
// Generations and versions. The server has one counter, the generation. Each committed change (a request
// outside of a transaction, or a whole transaction) takes the next number and stamps it on what it changed:
// on a node whose value, permissions or existence changed (`modified`), and on a node whose list of children
// changed (`childrenChanged`). A transaction that begins at generation S sees the tree as it was when S was
// the newest:
//
//     generation      1            2                3                4
//     request         write /a "x" tx t starts, S=1 write /a "y"     rm /a
//     node /a         modified 1   modified 1       modified 3       modified 4, dead
//       its versions  -            -                [1: "x"]         [1: "x"]
//
// At 3 the node still has the version that t sees (modified 1 <= S), so it is kept, as a `Version` behind the
// node. At 4 nobody could see the state of generation 3 (no open snapshot is 3 or later), so it is not kept,
// and the node itself stays as a dead one, in the index and among its parent's children, for t alone: whoever
// looks at the live tree passes over dead nodes. When t ends, the version goes, and with its last version the
// dead node.
//
// A new node of the same path is another record. So a record's life is one unbroken span of generations, a
// child's span lies within its parent's, and a path names at most one record at any generation.
//
// What t sees of a node is the first of (the node itself, its versions from newer to older) whose `modified`
// is at most S; if there is none, the node did not exist then. A version is kept only while a snapshot needs
// it, and each hangs on the newest snapshot that sees it (specification, section C: at most one old version
// for each snapshot).

import XenStoreTypes

/// The number of a node's record. 0: none.
typealias NodeID = UInt32
/// The number of an older version of a node. 0: none.
typealias VersionID = UInt32

/// A node, 72 bytes.
struct Node: BitwiseCopyable {
    /// Chained hash of the whole path.
    var hash: UInt64
    /// Generation of the last change of value, permissions or existence; of a dead node: of its death.
    var modified: UInt64
    /// Generation of the last creation or removal among the children, or of the node's own creation.
    var childrenChanged: UInt64
    /// 0 for the root and the special nodes.
    var parent: NodeID
    /// Siblings, in the order of creation, dead ones among them.
    var next: NodeID = 0
    var previous: NodeID = 0
    var firstChild: NodeID = 0
    var lastChild: NodeID = 0
    /// Neighbours among the living nodes of the same owner, in no order.
    var nextOwned: NodeID = 0
    var previousOwned: NodeID = 0
    /// The newest older version that somebody still sees.
    var older: VersionID = 0
    var name: Blob
    var value: Blob
    /// 0 in a dead node: its versions have theirs.
    var permissions: PermissionsID
    /// Bytes of the name; the top bit says that the node is dead.
    private var nameCountAndLife: UInt16
    var valueCount: UInt16

    init(
        hash: UInt64, generation: UInt64, parent: NodeID, name: Blob, nameCount: Int, value: Blob,
        valueCount: Int, permissions: PermissionsID
    ) {
        self.hash = hash
        modified = generation
        childrenChanged = generation
        self.parent = parent
        self.name = name
        self.value = value
        self.permissions = permissions
        nameCountAndLife = UInt16(nameCount)
        self.valueCount = UInt16(valueCount)
    }

    @inline(__always) var nameCount: Int { Int(nameCountAndLife & 0x7FFF) }
    @inline(__always) var isDead: Bool { nameCountAndLife & 0x8000 != 0 }
    @inline(__always) mutating func die() { nameCountAndLife |= 0x8000 }
}

/// What a node was from generation `modified` until it changed next, 48 bytes.
struct Version: BitwiseCopyable {
    var modified: UInt64
    var node: NodeID
    var older: VersionID
    /// 0: the node itself is what followed.
    var newer: VersionID
    var value: Blob
    var permissions: PermissionsID
    var valueCount: UInt16
    /// The next in the list of what one snapshot keeps.
    var nextKept: VersionID = 0
}

/// The number of a snapshot. 0: none.
typealias SnapshotID = UInt32

/// A generation that open transactions see. They share it while nothing has changed in between.
struct Snapshot: BitwiseCopyable {
    var generation: UInt64
    var users: UInt32
    var newer: SnapshotID = 0
    var older: SnapshotID = 0
    /// The versions of which this is the newest snapshot that sees them, oldest change first.
    var firstKept: VersionID = 0
    var lastKept: VersionID = 0
}

/// A value and a permission list as they were at some generation.
struct NodeState {
    var value: Bytes
    var permissions: PermissionsID
}
