// How a simulation compares the server's output and tree with the reference's.

import XenStore
import XenStoreTypes

extension Simulation {
    /// Reads every connection's output and holds it against what the reference expects.
    func compareOutputs(_ step: Step) throws {
        for slot in slots.indices where !slots[slot].isAsleep {
            var actual = (slots[slot].client?.drain() ?? [])[...]
            for expected in reference.takeExpected(slots[slot].key) {
                if let problem = match(expected, &actual, slot) {
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

    /// Nil if the next messages are the expected ones, which are then removed.
    private func match(_ expected: Expected, _ actual: inout ArraySlice<Message>, _ slot: Int) -> String? {
        switch expected {
        case .events(let events):
            let got = actual.prefix(events.count)
            actual = actual.dropFirst(events.count)
            let isRight =
                got.allSatisfy { $0.isEvent && $0.requestID == 0 && $0.transactionID == 0 }
                && got.map(\.payload).sorted(by: { $0.lexicographicallyPrecedes($1) })
                    == events.sorted(by: { $0.lexicographicallyPrecedes($1) })
            return isRight ? nil : "expected events \(events.map(Message.printable)), got \(Array(got))"
        case .reply(let reply):
            let got = actual.popFirst()
            guard got == reply else { return "expected \(reply), got \(got.map { "\($0)" } ?? "nothing")" }
            return nil
        case .part(let request, let list, let offset, let path, let listing, let change):
            guard let got = actual.popFirst(), got.type == request.type else {
                return "expected a part of a list"
            }
            if request.transactionID == 0, let problem = checkGeneration(got, path, listing, change) {
                return problem
            }
            return checkPart(got.payload, list, offset)
        }
    }

    /// A changed list must show another generation, and an untouched node the same.
    private func checkGeneration(_ got: Message, _ path: String, _ listing: Int, _ change: Int) -> String? {
        let text = Array(got.payload.prefix { $0 != 0 })
        defer { generations[path] = Generation(text: text, listing: listing, change: change) }
        guard let old = generations[path] else { return nil }
        if old.listing != listing && old.text == text { return "the list changed, the generation did not" }
        if old.listing == listing && old.change == change && old.text != text {
            return "the generation changed, the node did not"
        }
        return nil
    }

    private func checkPart(_ payload: [UInt8], _ list: [UInt8], _ offset: Int) -> String? {
        guard let end = payload.firstIndex(of: 0), end > 0 else { return "no generation" }
        let rest = Array(list.dropFirst(offset))
        let names = Array(payload[(end + 1)...])
        if names == rest + [0] { return nil }
        let isPrefix = names.last == 0 && names == Array(rest.prefix(names.count)) && names.count < rest.count
        guard isPrefix else { return "wrong part \(Message.printable(payload))" }
        let next = rest[names.count...].prefix { $0 != 0 }.count + 1
        return payload.count + next < MessageHeader.payloadMax ? "a name more would have fitted" : nil
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
