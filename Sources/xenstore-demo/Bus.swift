// A bus: a part of the tree in which devices appear and disappear, each served by a task of its own.

import XenStoreClient

/// Starts `serve` for each device `depth` levels below `root`: for those that are there, and for those that
/// appear. Ends when the connection is lost, or when its task is cancelled.
func serveDevices(
    _ client: XenStoreClient, below root: String, depth: Int, _ speaker: Speaker,
    serve: @escaping @Sendable (_ path: String) async throws -> Void
) async throws {
    try await withThrowingTaskGroup { group in
        var served: Set<String> = []
        for try await _ in try await client.watch(root) {
            let there = try await client.nodes(below: root, depth: depth)
            for path in there.subtracting(served) {
                // One device that fails is no reason to leave the others.
                group.addTask {
                    do {
                        try await serve(path)
                    } catch {
                        speaker.say("\(path): \(error)")
                    }
                }
            }
            served = there
        }
        group.cancelAll()
    }
}
