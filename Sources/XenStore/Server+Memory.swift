// Where the host's memory is bounded, as in a kernel of our own, and running out must not be the end: what
// would make the server grow is refused in time.
//
// Nodes and their bytes that have been removed leave room that the arenas keep: it counts as free for the
// next ones. A table that is about to double must find the memory for it in one piece.

import XenStoreTypes

extension Server {
    /// Throws ENOSPC if a request of this type may make the server grow, and its peer may not have more of
    /// the host's memory.
    @inline(__always) func checkMemoryLeft(
        _ type: MessageType, _ request: Request
    ) throws(ErrorName) {
        if !isMemoryBounded || !type.isGrowing && (request.transaction == 0 || type.isShrinking) { return }
        if mayGrow(request.connection) { return }
        refuseForMemory(request.connection)
        throw .nospc
    }

    private func mayGrow(_ connection: Connection) -> Bool {
        let spare = tree.nodes.spare + bytes.spare
        let state = world.memoryState(piece: tree.index.nextGrowth, spare: spare)
        return connection.isPrivileged ? state != .exhausted : state == .ample
    }

    /// Whether what waits for an unprivileged peer to read it must not become more.
    @inline(__always) func isMemoryScarce(_ connection: Connection) -> Bool {
        isMemoryBounded && !connection.isPrivileged && !connection.isSocket
            && world.memoryState(piece: 0, spare: 0) != .ample
    }

    /// The log gets a line at most every five seconds.
    private func refuseForMemory(_ connection: Connection) {
        memoryRefusals += 1
        if let last = memoryRefusalLogged, now < last + 5_000_000_000 { return }
        memoryRefusalLogged = now
        var line = Line("memory is short: requests refused so far ")
        line.add(memoryRefusals)
        line.add(", this one of ")
        line.add(subject: connection.subject)
        log(.warning, line)
    }
}

extension MessageType {
    /// Outside of a transaction; inside of one, all that look are remembered.
    @inline(__always) fileprivate var isGrowing: Bool {
        switch self {
        case .write, .makeDirectory, .setPermissions, .watch, .transactionStart, .introduce, .setFeature,
            .setQuota, .setTarget:
            true
        default: false
        }
    }

    @inline(__always) fileprivate var isShrinking: Bool {
        switch self {
        case .transactionEnd, .remove, .unwatch, .resetWatches: true
        default: false
        }
    }
}
