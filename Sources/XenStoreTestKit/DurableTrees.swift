// Whether the server's tree is the reference's, after a restart and at the end (DurableSimulation).

import XenStore
import XenStoreTypes

extension DurableSimulation {
    /// All that waits comes to its end; then the daemon is killed once more, and the trees are compared.
    func finish() throws {
        armed = []
        backend.mode = .final
        now += 1_100_000_000
        for peer in peers { peer.isAsleep = false }
        try comeToRest()
        server.committed(backend.complete())
        try comeToRest()
        try adoptOrder()
        try restart()
        try comeToRest()
        try adoptOrder()
    }

    /// Compares the trees. Where children stand in another order, which a restart does not keep, the reference
    /// takes it over. All has to be final.
    func adoptOrder() throws {
        guard server.finalSequence == server.lastSequence, server.nextSequence == nil else { return }
        let client = Client(server, domain: 0)
        defer { client.close() }
        var seen = 0
        var waiting = ["/", "@introduceDomain", "@releaseDomain"]
        while let path = waiting.popLast() {
            seen += 1
            guard let node = reference.tree[path] else { throw disagreement("\(path) should not be there") }
            let list = client.request(.getPermissions, [path])
            let expected = node.permissions.map { "\(UnicodeScalar($0.mode.letter))\($0.domain.rawValue)" }
            guard list?.strings == expected else {
                throw disagreement(
                    "permissions of \(path): \(list.map { "\($0)" } ?? "none") instead of \(expected)")
            }
            if path.hasPrefix("@") { continue }
            guard let value = client.request(.read, [path]), value.payload == node.value,
                value.errorName == nil
            else { throw disagreement("value of \(path) differs") }
            let children = client.request(.directory, [path])?.strings ?? []
            guard reference.reorder(path, children) else {
                throw disagreement("children of \(path): \(children) instead of \(node.children)")
            }
            waiting += children.map { ReferenceTree.join(path, $0) }
        }
        guard seen == reference.tree.nodes.count else { throw disagreement("nodes are missing") }
    }
}
