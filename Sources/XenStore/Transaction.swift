// A transaction: a snapshot, what was looked at in it, and its own changes on top (specification, section C).
//
// What a transaction touches is an `Entry` each. An entry says two things:
// - what the commit has to check: `seen`, about the node that stood there in the snapshot (`base`) or its
//   absence;
// - what the transaction made of it: `state`.
//
// A removal is one entry, however large the subtree. Whatever the transaction did below the removed node
// before that is then out of date. Which is told by `sequence`, the transaction's own count of changes: an
// entry holds only if it is younger than the last removal of any node above it.
//
//     rm /a           entry /a: state removed, removedAt 1
//     write /a/b "x"  entry /a: state created, sequence 2; entry /a/b: created, sequence 3, child of entry /a
//     rm /a           entry /a: removed, removedAt 4. /a/b (3 < 4) is no more.
//
// Invariants:
// - An entry with no base has a parent entry, and a name. One with a base has the base's path.
// - A created entry is in its parent entry's list of added children exactly if it exists in the transaction's
//   view.
// - An entry's value and permissions are its own only if it says so; else they are the base's, as of the
//   snapshot.

import XenStoreTypes

/// The number of a transaction's record. 0: none, the live tree.
typealias TransactionID = UInt32
/// The number of an entry. 0: none.
typealias EntryID = UInt32

struct Transaction: BitwiseCopyable {
    /// The id that the client knows, unique on its connection.
    var number: UInt32
    var connection: UInt32
    /// 0 once it is doomed: it no longer keeps anything.
    var snapshot: SnapshotID
    var generation: UInt64
    var nextOfConnection: TransactionID
    var previousOfConnection: TransactionID = 0
    /// Neighbours in the order of age.
    var older: TransactionID
    var younger: TransactionID = 0
    var firstEntry: EntryID = 0
    var lastEntry: EntryID = 0
    /// Entries of nodes that it looked at or changed; these count against `transaction-nodes`.
    var touched = 0
    /// Count of changes so far.
    var sequence: UInt64 = 0
    var hasRemovals = false
    /// What the commit will add to the number of nodes of the connection's domain.
    var nodesDelta = 0
    /// Bytes that its entries and their values take, as its domain is charged for them.
    var bytes = 0

    /// It can only end in EAGAIN; its requests see the live tree and change nothing.
    var isDoomed: Bool { snapshot == 0 }
}

struct Entry: BitwiseCopyable {
    /// What was looked at, in bits.
    struct Seen: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        /// Value, permissions or existence were read or written.
        static let node = Seen(rawValue: 1)
        /// The list of children was read.
        static let children = Seen(rawValue: 2)
        /// It and all below was removed.
        static let subtree = Seen(rawValue: 4)
        /// A path below was created or found absent: existence and permissions count.
        static let anchor = Seen(rawValue: 8)
        /// It was found absent or created.
        static let absence = Seen(rawValue: 16)
    }

    enum State: UInt8, BitwiseCopyable {
        /// As in the snapshot, there or not.
        case unchanged
        /// A node of the snapshot with another value or other permissions.
        case changed
        case created
        case removed
    }

    var transaction: TransactionID
    /// Hash of the whole path.
    var hash: UInt64
    /// The node of the snapshot at this path; 0: there was none.
    var base: NodeID
    var parent: EntryID
    var seen: Seen = []
    var state: State = .unchanged
    var hasValue = false
    /// Created only because something below it was: nobody is told of it.
    var isImplicit = false
    var name: Blob
    var nameCount: UInt16
    var valueCount: UInt16 = 0
    var value: Blob = 0
    /// Its own permission list; 0: the base's.
    var permissions: PermissionsID = 0
    /// Count of changes when it was created or first changed, and when it was last removed.
    var sequence: UInt64 = 0
    var removedAt: UInt64 = 0
    var firstAdded: EntryID = 0
    var lastAdded: EntryID = 0
    var nextAdded: EntryID = 0
    var previousAdded: EntryID = 0
    /// The next entry of the transaction.
    var next: EntryID = 0
    /// While the transaction commits: the live node that it stands for.
    var live: NodeID = 0

    /// A node that the transaction has created or changed; it, or one above it, may have been removed since.
    var isWritten: Bool { state == .created || state == .changed }
}

/// A node as a view has it: a transaction's (with an entry, once touched), or the live tree's.
struct Place {
    var node: NodeID
    var entry: EntryID

    static let none = Place(node: 0, entry: 0)
    var isNone: Bool { node == 0 && entry == 0 }
}
