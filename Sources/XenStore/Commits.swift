// How far the backend has got with the tree (design, "Backends").
//
// A change takes the next generation, and its records go into the batch of this turn. At the turn's end the
// batch is offered to the backend under the next number. Until the backend has it for good, nothing leaves
// that could show the change: each connection has *barriers* at the stream positions from which on bytes
// wait for a generation to become final.
//
// Invariants:
// - `final` <= the generation of every batch on its way <= `offered` <= the tree's generation.
// - Batches on their way stand in the order of their numbers, which are consecutive and end with `sequence`.
// - Without a backend nothing is recorded, and everything is final at once.

import XenStoreTypes

final class Commits {
    struct OnTheWay {
        var sequence: UInt64
        var generation: UInt64
    }

    let backend: Backend?
    /// Records of the changes since the last batch that was taken.
    @exclusivity(unchecked) var batch: [UInt8] = []
    /// Nodes were removed since.
    @exclusivity(unchecked) var hasRemoved = false
    /// Changes are recorded: not while the tree is being recovered.
    @exclusivity(unchecked) var isRecording = false
    /// The number of the last batch that was taken.
    @exclusivity(unchecked) var sequence: UInt64 = 0
    /// Changes up to this generation are in batches that were taken.
    @exclusivity(unchecked) var offered: UInt64 = 0
    /// Changes up to this generation are the backend's for good.
    @exclusivity(unchecked) var final: UInt64 = .max
    @exclusivity(unchecked) var onTheWay: [OnTheWay] = []
    /// Bytes that the next batch may have before requests that grow the store are refused.
    @exclusivity(unchecked) private(set) var room = Int.max
    /// Batches since the backend was asked for its room.
    @exclusivity(unchecked) private var batchesUnasked = 0
    /// The last batch was not taken: when it is offered again.
    @exclusivity(unchecked) var retryAt: UInt64?
    /// Why, as errno, for reports.
    var failure: Int32 = 0
    /// Size from which on the batch is worth shrinking, in bytes.
    var shrinkAt = Commits.shrinkFirst
    /// When the log was told last that requests are refused.
    var refusalLogged: UInt64?
    /// Connections that have barriers, perhaps some that are gone or have none any more.
    @exclusivity(unchecked) var waiting: [UInt32] = []

    init(_ backend: Backend?) { self.backend = backend }

    /// Adds what a node is now. `permission` gives its list's entries by position.
    @inline(__always) func put(
        _ path: Bytes, generation: UInt64, value: Bytes, permissionCount: Int,
        permission: (Int) -> Permission
    ) {
        StoreRecord.append(
            to: &batch, .put, generation: generation, permissionCount: permissionCount, key: path.raw,
            value: value.raw, permission: permission)
    }

    /// Adds that there is nothing of this key any more.
    func remove(_ key: Bytes, generation: UInt64) {
        StoreRecord.append(
            to: &batch, .remove, generation: generation, permissionCount: 0, key: key.raw,
            value: Bytes.empty.raw, permission: Self.noPermission)
    }

    /// Adds what a note says now.
    func note(_ key: Bytes, _ value: Bytes, generation: UInt64) {
        StoreRecord.append(
            to: &batch, .put, generation: generation, permissionCount: 0, key: key.raw, value: value.raw,
            permission: Self.noPermission)
    }

    /// The backend is asked for its room.
    func askRoom() {
        room = backend?.room ?? .max
        batchesUnasked = 0
    }

    /// A batch was taken. While there is room in plenty, the backend is asked now and then only, which would
    /// cost as much as the batch.
    func reckonRoom(without bytes: Int) {
        // A store may need a multiple of what a batch counts.
        if room != .max { room -= Self.pageSize + 4 * bytes }
        batchesUnasked += 1
        if batchesUnasked >= 32 || room < Self.plenty { askRoom() }
    }

    func haveNoRoom() { room = 0 }

    private static let plenty = 1 << 20
    private static let pageSize = 4096

    private static func noPermission(_: Int) -> Permission {
        preconditionFailure("a record without permissions")
    }
}
