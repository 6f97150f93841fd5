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

    /// Compares the trees. Where children stand in another order, which a restart does not keep, the
    /// reference takes it over.
    func adoptOrder() throws {
        let reader = server.connect(.domain(.zero))
        defer { server.disconnect(reader) }
        func ask(_ type: MessageType, _ path: String) -> Message {
            server.receive(reader, Message(type, [UInt8](strings: [path])).bytes.span)
            // Whatever it waits for: nobody else is told.
            var bytes = server.queued(reader)
            server.sent(reader, bytes.count)
            return Message.take(from: &bytes)!
        }
        var seen = 0
        var waiting = ["/", "@introduceDomain", "@releaseDomain"]
        while let path = waiting.popLast() {
            seen += 1
            guard let node = reference.tree[path] else { throw disagreement("\(path) should not be there") }
            let list = ask(.getPermissions, path)
            let expected = node.permissions.map { "\(UnicodeScalar($0.mode.letter))\($0.domain.rawValue)" }
            guard list.strings == expected else {
                throw disagreement("permissions of \(path): \(list) instead of \(expected)")
            }
            if path.hasPrefix("@") { continue }
            let value = ask(.read, path)
            guard value.payload == node.value, value.errorName == nil else {
                throw disagreement("value of \(path): \(value)")
            }
            let names = ask(.directory, path)
            let children = names.payload.isEmpty ? [] : names.strings
            guard reference.reorder(path, children) else {
                throw disagreement("children of \(path): \(children) instead of \(node.children)")
            }
            // So it was from the beginning, as far as this daemon's batches go.
            for (sequence, checkpoint) in past.checkpoints where sequence > firstSequence {
                _ = checkpoint.reference.reorder(path, children)
            }
            waiting += children.map { ReferenceTree.join(path, $0) }
        }
        guard seen == reference.tree.nodes.count else { throw disagreement("nodes are missing") }
    }
}
