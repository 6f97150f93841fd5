// How a simulation holds messages of the server against what the reference expects.

import XenStoreTypes

/// Compares messages, and remembers the generations of lists of children that were shown.
struct OutputMatcher {
    /// The generations that DIRECTORY_PART showed for a path, by the state that it was in.
    private struct Generation {
        var text: [UInt8]
        var listing: Int
        var change: Int
    }

    private var generations: [String: Generation] = [:]
    /// The paths of parts that were queued, by request; and what was last shown of each.
    private var paths: [UInt32: String] = [:]
    private var shown: [String: [UInt8]] = [:]

    /// Nil if the next messages are the expected ones, which are then removed. `isPrefix`: not all events of
    /// a change need be there.
    mutating func match(
        _ expected: Expected, _ actual: inout ArraySlice<Message>, isPrefix: Bool = false
    ) -> String? {
        switch expected {
        case .events(let events):
            let got = actual.prefix(events.count)
            actual = actual.dropFirst(events.count)
            guard got.allSatisfy({ $0.isEvent && $0.requestID == 0 && $0.transactionID == 0 }),
                areEqual(got.map(\.payload), events, isPrefix: isPrefix)
            else { return "expected events \(events.map(Message.printable)), got \(Array(got))" }
            return nil
        case .reply(let reply):
            let got = actual.popFirst()
            guard got == reply else { return "expected \(reply), got \(got.map { "\($0)" } ?? "nothing")" }
            return nil
        case .part(let request, let list, let offset, let path, let listing, let change):
            guard let got = actual.popFirst(), got.type == request.type else {
                return "expected a part of a list"
            }
            if request.transactionID == 0 {
                paths[request.requestID] = path
                if let problem = checkGeneration(got, path, listing, change) { return problem }
            }
            return checkPart(got.payload, list, offset)
        }
    }

    /// The message has reached its peer.
    mutating func show(_ message: Message) {
        guard message.type == MessageType.directoryPart.rawValue, let path = paths[message.requestID] else {
            return
        }
        shown[path] = Array(message.payload.prefix { $0 != 0 })
    }

    /// After a restart every list must show another generation than before.
    mutating func restart() {
        generations = shown.mapValues { Generation(text: $0, listing: -1, change: -1) }
    }

    private func areEqual(_ got: [[UInt8]], _ events: [[UInt8]], isPrefix: Bool) -> Bool {
        if !isPrefix || got.count == events.count {
            return got.sorted { $0.lexicographicallyPrecedes($1) }
                == events.sorted { $0.lexicographicallyPrecedes($1) }
        }
        var left = events
        for event in got {
            guard let position = left.firstIndex(of: event) else { return false }
            left.remove(at: position)
        }
        return true
    }

    /// A changed list must show another generation, and an untouched node the same.
    private mutating func checkGeneration(
        _ got: Message, _ path: String, _ listing: Int, _ change: Int
    ) -> String? {
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
}
