// How a simulation compares the server's output and tree with the reference's.

import XenStore
import XenStoreTypes

extension Simulation {
    /// Reads every connection's output and holds it against what the reference expects.
    func compareOutputs(_ step: Step) throws {
        for slot in slots.indices where !slots[slot].isAsleep {
            var actual = (slots[slot].client?.drain() ?? [])[...]
            for expected in reference.takeExpected(slots[slot].key) {
                if let problem = matcher.match(expected, &actual) {
                    throw disagreement("after \(step)\n  slot \(slot) (\(slots[slot].subject)): \(problem)")
                }
            }
            if let extra = actual.first {
                throw disagreement(
                    "after \(step)\n  slot \(slot) (\(slots[slot].subject)): unexpected \(extra)")
            }
        }
        for slot in slots.indices where reference.hasLostTwice(slots[slot].key) { restart(slot) }
    }

    /// Reads the server's whole tree through a fresh control connection and compares it.
    public func compareTrees() throws {
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
            else {
                throw disagreement("value of \(path) differs")
            }
            guard let children = client.request(.directory, [path]), children.strings == node.children else {
                throw disagreement("children of \(path) differ from \(node.children)")
            }
            waiting += node.children.map { ReferenceTree.join(path, $0) }
        }
        guard seen == reference.tree.nodes.count else { throw disagreement("nodes are missing") }
    }
}
