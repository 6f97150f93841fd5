// Does a connection send all that is queued, in order, and each equal event once while nobody could tell
// (specification, section D)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

private func makeConnection() -> Connection {
    Connection(
        id: 0, account: 1, subject: .domain(DomainID(3)), isPrivileged: false, isReadOnly: false,
        isSocket: false, home: DomainID(3))
}

private struct Event: Hashable {
    var path: String
    var token: String
    var key: UInt64?

    /// As it goes over the wire.
    var bytes: [UInt8] {
        Message(.watchEvent, [UInt8](strings: [path, token])).bytes
    }
}

extension Connection {
    fileprivate func queue(_ event: Event) {
        Array(event.path.utf8).withBytes { path in
            Array(event.token.utf8).withBytes { _ = queueEvent(path: path, token: $0, key: event.key) }
        }
    }

    fileprivate func queueReply(_ payload: [UInt8], _ number: UInt32 = 1, isCounted: Bool = true) {
        let type = MessageType.read.rawValue
        let start = beginReply(
            MessageHeader(type: type, requestID: number, transactionID: 0, length: 77))
        payload.withBytes { append($0) }
        endReply(start, isCounted: isCounted)
    }

    fileprivate var unsent: [UInt8] {
        var copy: [UInt8] = []
        withUnsent(unsentCount) { copy = [UInt8](copying: $0) }
        return copy
    }
}

/// What is queued as a list of messages, compared with all of them for every event.
private struct NaiveConnection {
    var messages: [(bytes: [UInt8], event: Event?, isCounted: Bool)] = []
    /// Bytes of the first message that are sent.
    var sent = 0

    mutating func queue(_ event: Event) {
        if event.bytes.count > 4096 + 16 { return }
        var later = messages.count - 1
        while event.key != nil, later >= (sent > 0 ? 1 : 0), let other = messages[later].event {
            if other == event { return }
            later -= 1
        }
        messages.append((event.bytes, event, false))
    }

    mutating func queueReply(_ payload: [UInt8], _ number: UInt32, isCounted: Bool) {
        messages.append((Message(.read, requestID: number, payload).bytes, nil, isCounted))
    }

    var unsent: [UInt8] { Array(messages.flatMap(\.bytes).dropFirst(sent)) }

    /// Answers how many counted replies are gone.
    mutating func send(_ count: Int) -> Int {
        sent += count
        var replies = 0
        while let first = messages.first, first.bytes.count <= sent {
            sent -= first.bytes.count
            if first.isCounted { replies += 1 }
            messages.removeFirst()
        }
        return replies
    }
}

@Suite struct ConnectionTests {
    private let event = Event(path: "/a", token: "t", key: 7)

    @Test func equalEventIsQueuedOnce() {
        let connection = makeConnection()
        for _ in 0..<3 { connection.queue(event) }
        #expect(connection.unsent == event.bytes)
    }

    @Test func notBehindAReply() {
        let connection = makeConnection()
        connection.queue(event)
        connection.queueReply([1])
        connection.queue(event)
        connection.queue(event)
        let reply = Message(.read, requestID: 1, [1]).bytes
        #expect(connection.unsent == event.bytes + reply + event.bytes)
    }

    @Test func notWithOneThatIsPartlySent() {
        let connection = makeConnection()
        connection.queue(event)
        #expect(connection.sent(1) == 0)
        connection.queue(event)
        connection.queue(event)
        #expect(connection.unsent == event.bytes.dropFirst() + event.bytes)
    }

    @Test func notWithOneThatIsSent() {
        let connection = makeConnection()
        for _ in 0..<3 {
            connection.queue(event)
            #expect(connection.unsent == event.bytes)
            #expect(connection.sent(event.bytes.count) == 0)
        }
    }

    /// One behind another that is partly sent is still wholly unsent.
    @Test func withOneBehindTheOneThatIsPartlySent() {
        let connection = makeConnection()
        let other = Event(path: "/b", token: "t", key: 8)
        connection.queue(other)
        connection.queue(event)
        #expect(connection.sent(3) == 0)
        connection.queue(event)
        #expect(connection.unsent == other.bytes.dropFirst(3) + event.bytes)
    }

    /// A special event has no key.
    @Test func neverWithoutAKey() {
        let connection = makeConnection()
        let special = Event(path: "@releaseDomain", token: "t", key: nil)
        for _ in 0..<3 { connection.queue(special) }
        #expect(connection.unsent == special.bytes + special.bytes + special.bytes)
    }

    /// Hashes that collide do not make events equal: the same length, and another.
    @Test func neverByTheKeyAlone() {
        let connection = makeConnection()
        let others = [Event(path: "/b", token: "t", key: 7), Event(path: "/longer", token: "", key: 7)]
        for other in [event] + others { connection.queue(other) }
        #expect(connection.unsent == event.bytes + others[0].bytes + others[1].bytes)
    }

    /// XSA-324.
    @Test func tooLongEventsAreDropped() {
        let connection = makeConnection()
        for (count, isQueued) in [(4092, true), (4093, true), (4094, false), (5000, false)] {
            let long = Event(path: String(repeating: "p", count: count), token: "t", key: 9)
            connection.queue(long)
            #expect(connection.unsent == (isQueued ? long.bytes : []), "\(count) bytes")
            _ = connection.sent(connection.unsentCount)
        }
    }

    @Test func cancelledReplyLeavesNothing() {
        let connection = makeConnection()
        connection.queue(event)
        let start = connection.beginReply(
            MessageHeader(type: 2, requestID: 1, transactionID: 0, length: 0))
        connection.append(byte: 1)
        #expect(connection.payloadCount(start) == 1)
        connection.cancelReply(start)
        connection.queue(event)
        #expect(connection.unsent == event.bytes)
    }

    /// Replies, events and partial sends in any order, a queue that is small, and one that is over 128 KiB.
    @Test(arguments: seeds, [200, 40_000]) func sendsWhatANaiveOneSends(seed: UInt64, fill: Int) throws {
        var random = SplitMix64(seed: seed)
        let connection = makeConnection()
        var naive = NaiveConnection()
        var unsentMax = 0
        for step in 0..<1500 {
            let isFilling = step / 500 % 2 == 0
            switch random.below(isFilling ? 8 : 12) {
            case 0:
                let payload = [UInt8](repeating: UInt8(step & 255), count: min(4096, random.below(fill)))
                let isCounted = random.chance(70)
                let number = UInt32(step)
                connection.queueReply(payload, number, isCounted: isCounted)
                naive.queueReply(payload, number, isCounted: isCounted)
            case 1...6:
                let number = random.below(12)
                let isLong = random.chance(3)
                let token = random.below(3)
                var event = Event(
                    path: "/" + String(repeating: "n", count: isLong ? 4000 + number * 20 : number),
                    token: ["", "t", "tok"][token], key: nil)
                // Another key for each event; some are never equal to any.
                let ordinal = UInt64(number * 6 + token * 2 + (isLong ? 1 : 0)) + 1
                if random.chance(90) { event.key = ordinal &* 0x9E37_79B9_7F4A_7C15 }
                connection.queue(event)
                naive.queue(event)
            default:
                let unsent = connection.unsentCount
                if unsent == 0 { continue }
                let isAll = !isFilling && random.chance(5)
                let count = isAll ? unsent : min(unsent, random.below(isFilling ? 30 : fill * 2))
                let replies = connection.sent(count)
                try demand(naive.send(count) == replies, seed, step, "\(replies) replies")
            }
            unsentMax = max(unsentMax, connection.unsentCount)
            if step % 50 == 0 || connection.unsentCount < 500 {
                try demand(connection.unsent == naive.unsent, seed, step, "what is to send")
            }
        }
        try demand(connection.unsent == naive.unsent, seed, 1500, "what is to send")
        let counted = naive.messages.count { $0.isCounted }
        #expect(connection.replyEnds.count == counted, "seed \(seed)")
        #expect(fill < 40_000 || unsentMax > 131_072, "seed \(seed): \(unsentMax)")
    }
}
