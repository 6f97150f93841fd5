// The reference's watches and event queues (specification, section D). Decisions where it leaves room:
//
// - An event equal to one that is queued and unsent on the same connection is dropped, if no reply was queued
//   there since. An event of a special path is never dropped.
// - A change of a special node's permissions fires nothing: its watches tell of domains.
// - Whether the watcher may read is asked of the tree before and after the change: the node or its parent. Of
//   a transaction, each node's change is one of its own, in the order of the events.

import XenStoreTypes

struct ReferenceWatch {
    /// The absolute path.
    var path: String
    var token: [UInt8]
    /// Nil: any.
    var depth: Int?
    /// What is cut off the front of event paths: empty unless the path was given as a relative one.
    var prefix: String

    func matches(_ changed: String, exactly: Bool) -> Bool {
        if exactly || changed.hasPrefix("@") || path.hasPrefix("@") { return changed == path }
        guard let below = ReferenceTree.depth(of: changed, below: path) else { return false }
        return below <= depth ?? .max
    }
}

/// What the reference expects on a connection, in order.
public enum Expected {
    /// These events, each once, in any order.
    case events([[UInt8]])
    /// A reply, with the request's ids copied.
    case reply(Message)
    /// A reply to DIRECTORY_PART: the rest of the child list from `offset`, as much as fits.
    case part(Message, list: [UInt8], offset: Int, path: String, listing: Int, change: Int)
}

extension ReferenceStore {
    /// Queues the events of one changed node on every connection.
    func fire(_ path: String, exactly: Bool = false, before: ReferenceTree, after: ReferenceTree) {
        if path.hasPrefix("@") { return }
        for connection in connections.values {
            var events: [[UInt8]] = []
            for watch in connection.watches where watch.matches(path, exactly: exactly) {
                guard mayRead(path, connection, before) || mayRead(path, connection, after) else { continue }
                let shown = String(path.dropFirst(watch.prefix.count))
                events.append(Array(shown.utf8) + [0] + watch.token + [0])
            }
            connection.queue(events: events, coalescing: !path.hasPrefix("@"))
        }
    }

    /// One removal: everything below the top first, each for those who watch just that.
    func fireRemoval(_ paths: [String], top: String, before: ReferenceTree, after: ReferenceTree) {
        let marks = connections.mapValues(\.expected.count)
        for path in paths where path != top { fire(path, exactly: true, before: before, after: after) }
        for (key, connection) in connections { connection.joinEvents(from: marks[key]!) }
        fire(top, before: before, after: after)
    }

    private func mayRead(_ path: String, _ connection: ReferenceConnection, _ tree: ReferenceTree) -> Bool {
        if let node = tree[path], grants(node.permissions, connection.subject, .read) { return true }
        guard let parent = ReferenceTree.parent(path), let node = tree[parent] else { return false }
        return grants(node.permissions, connection.subject, .read)
    }
}

/// One of the beginnings of a connection.
struct ReferenceBeginning: Equatable {
    var connection: ObjectIdentifier
    var resets: Int
}

/// A connection as the reference sees it.
final class ReferenceConnection {
    let subject: ReferenceSubject
    let isReadOnly: Bool
    var watches: [ReferenceWatch] = []
    var transactions: [UInt32: ReferenceTransaction] = [:]
    /// Where the search for the next transaction id begins.
    var nextTransaction: UInt32 = 1
    /// How many commits ended in EAGAIN.
    var lostCount = 0
    /// A ring that its guest has broken: nothing is said or heard until there is a new beginning.
    var isBroken = false
    /// How often it was reset.
    private(set) var resets = 0
    /// Output expected since the last look.
    private(set) var expected: [Expected] = []
    /// What was looked at and is not sent yet, oldest first: events; nil for what no later event is equal to.
    private(set) var unsent: [[UInt8]?] = []

    init(_ subject: ReferenceSubject, readOnly: Bool) {
        self.subject = subject
        isReadOnly = readOnly
    }

    /// All goes but the connection: watches, transactions, what is to be sent. Transaction ids go on.
    func reset() {
        resets += 1
        watches = []
        transactions = [:]
        expected = []
        unsent = []
        lostCount = 0
    }

    func copy() -> ReferenceConnection {
        let other = ReferenceConnection(subject, readOnly: isReadOnly)
        other.watches = watches
        other.transactions = transactions
        other.nextTransaction = nextTransaction
        other.lostCount = lostCount
        other.isBroken = isBroken
        other.resets = resets
        other.expected = expected
        other.unsent = unsent
        return other
    }

    /// What was queued before a restart is equal to nothing that comes after it.
    func restartOutput() { unsent = unsent.map { _ in nil } }

    func setUnsent(_ count: Int) { unsent = Array(repeating: nil, count: count) }

    /// What was looked at last waits to be sent.
    func keepUnsent(_ messages: [Message]) { unsent += messages.map { $0.isEvent ? $0.payload : nil } }

    /// The first so many of the unsent messages are on their way.
    func sent(_ count: Int) { unsent.removeFirst(count) }

    func queue(_ item: Expected) { if !isBroken { expected.append(item) } }

    func queue(events: [[UInt8]], coalescing: Bool) {
        var kept: [[UInt8]] = []
        for event in events where event.count <= MessageHeader.payloadMax {
            if coalescing && (kept.contains(event) || isQueued(event)) { continue }
            kept.append(event)
        }
        if !kept.isEmpty { expected.append(.events(kept)) }
    }

    /// Makes what was queued after the first `start` items one group without an order.
    func joinEvents(from start: Int) {
        var joined: [[UInt8]] = []
        for case .events(let events) in expected[start...] { joined += events }
        expected.removeSubrange(start...)
        if !joined.isEmpty { expected.append(.events(joined)) }
    }

    func takeExpected() -> [Expected] {
        defer { expected = [] }
        return expected
    }

    private func isQueued(_ event: [UInt8]) -> Bool {
        for item in expected.reversed() {
            guard case .events(let events) = item else { return false }
            if events.contains(event) { return true }
        }
        for message in unsent.reversed() {
            guard let message else { return false }
            if message == event { return true }
        }
        return false
    }
}
