// A connection: what has come in and is not carried out yet, and what is to go out.
//
// Invariants:
// - `output[sentCount...]` are the unsent bytes, whole messages but for a first one that is partly sent.
// - `input` is empty, or begins with a message that is incomplete or has to wait.
// - `stream` positions count every byte ever queued: `sentTotal` is the position of the first unsent byte.

import XenStoreTypes

/// The number of a connection, used again after `disconnect`.
public struct ConnectionID: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
}

final class Connection {
    let id: UInt32
    let account: AccountID
    let subject: Subject
    /// The control domain, or a socket that speaks for it: no permission and no quota holds it up.
    let isPrivileged: Bool
    let isReadOnly: Bool
    let isSocket: Bool
    /// Whose `/local/domain/N/` relative paths begin with.
    let home: DomainID
    /// Who is at the other end of a socket.
    let peer: SocketPeer

    // As in ParsedPath: what every request touches is not checked for exclusive access at run time.
    @exclusivity(unchecked) var input: [UInt8] = []
    @exclusivity(unchecked) private(set) var output: [UInt8] = []
    @exclusivity(unchecked) private(set) var sentCount = 0
    @exclusivity(unchecked) private(set) var sentTotal: UInt64 = 0
    @exclusivity(unchecked) private var events = EventIndex()
    /// Events before this position come before a reply that is already queued: a new event is not equal to
    /// one of them.
    @exclusivity(unchecked) private var runStart: UInt64 = 0
    /// Stream positions at which queued replies end; only kept where `outstanding` is limited.
    @exclusivity(unchecked) private(set) var replyEnds = ReusedList<UInt64>()
    /// From `position` on, what is queued waits until `generation` is final; both grow from one to the next.
    private struct Barrier {
        var position: UInt64
        var generation: UInt64
    }
    @exclusivity(unchecked) private var barriers: [Barrier] = []
    /// The newest generation that the connection had to wait for, or has to: for what it is told, or for what
    /// others did to its session.
    @exclusivity(unchecked) private(set) var barrier: UInt64 = 0
    /// The generation that has to be final before `slot` may be seen: that of the frame which recorded it.
    @exclusivity(unchecked) private(set) var slotGeneration: UInt64 = 0
    /// When the peer last took something, or found nothing to take.
    @exclusivity(unchecked) var unreadSince: UInt64 = 0
    var lostEvents = 0

    /// The peer broke the protocol, or does not read: nothing is carried out or sent any more.
    @exclusivity(unchecked) var isBroken = false
    /// The first waiting request must wait for a reservation's end.
    @exclusivity(unchecked) var isHeld = false
    /// It stands in the server's list of changed connections.
    @exclusivity(unchecked) var isListed = false
    /// Bytes of input and output that its domain is charged for.
    @exclusivity(unchecked) var charged = 0

    var firstWatch: WatchID = 0
    var firstTransaction: TransactionID = 0
    var nextTransactionNumber: UInt32 = 1
    /// EAGAINs in a row that its transactions have ended with.
    var conflicts = 0

    init(
        id: UInt32, account: AccountID, subject: Subject, isPrivileged: Bool, isReadOnly: Bool,
        isSocket: Bool, home: DomainID, peer: SocketPeer = SocketPeer()
    ) {
        self.id = id
        self.account = account
        self.subject = subject
        self.isPrivileged = isPrivileged
        self.isReadOnly = isReadOnly
        self.isSocket = isSocket
        self.home = home
        self.peer = peer
    }

    /// The domain that becomes the owner of what the connection creates; nil: the parent's owner does.
    var creatingDomain: DomainID? {
        guard !isPrivileged, case .domain(let domain) = subject else { return nil }
        return domain
    }

    /// The user who is charged for what the connection creates; 0: the owner is.
    var creatingUser: AccountID {
        if !isPrivileged, case .user = subject { return account }
        return 0
    }

    var unsentCount: Int { output.count - sentCount }
    /// Where in `output` the next message will begin.
    var outputEnd: Int { output.count }
    private var endPosition: UInt64 { sentTotal + UInt64(unsentCount) }

    // MARK: Replies

    /// Begins a reply; what is appended to `output` until `endReply` is its payload. Answers where the
    /// message begins.
    @inline(__always) func beginReply(_ header: MessageHeader) -> Int {
        let start = output.count
        appendHeader(header.type, header.requestID, header.transactionID)
        return start
    }

    @inline(__always) func append(_ bytes: Bytes) { output.append(bytes) }
    @inline(__always) func append(byte: UInt8) { output.append(byte) }
    @inline(__always) func append(decimal: UInt64) { output.append(decimal: decimal) }

    /// Bytes of payload so far in the message that begins at `start`.
    @inline(__always) func payloadCount(_ start: Int) -> Int { output.count - start - MessageHeader.size }

    /// Ends the reply that begins at `start`, writing its length. `isCounted`: it is remembered until it is
    /// sent.
    @inline(__always) func endReply(_ start: Int, isCounted: Bool) {
        output.set(word: UInt32(payloadCount(start)), at: start + 12)
        runStart = endPosition
        if isCounted { replyEnds.append(runStart) }
    }

    /// Takes back what was begun at `start`.
    @inline(__always) func cancelReply(_ start: Int) { output.removeLast(output.count - start) }

    private func appendHeader(_ type: UInt32, _ request: UInt32, _ transaction: UInt32) {
        output.append(words: (type, request, transaction, 0))
    }

    // MARK: Events

    /// Queues an event and answers true, unless it is too long for a message, or `key` is not nil and an
    /// equal one is queued and wholly unsent with no reply behind it: then whoever reads that one will see
    /// this change too.
    func queueEvent(path: Bytes, token: Bytes, key: UInt64?) -> Bool {
        let length = path.count + token.count + 2
        if length > MessageHeader.payloadMax { return false }
        let start = output.count
        let position = endPosition
        appendHeader(MessageType.watchEvent.rawValue, 0, 0)
        output.append(path)
        output.append(0)
        output.append(token)
        output.append(0)
        output.set(word: UInt32(length), at: start + 12)
        guard let key else { return true }
        let valid = max(sentTotal, runStart)
        guard let earlier = events.insert(key, position, valid: valid) else { return true }
        let first = sentCount + Int(earlier - sentTotal)
        let isEqual = output.withBytes { all in
            all.slice(first, first + MessageHeader.size + length) == all.slice(start, all.count)
        }
        if isEqual { output.removeLast(output.count - start) }
        return !isEqual
    }

    // MARK: Barriers (Commits.swift)

    @inline(__always) var hasBarriers: Bool { !barriers.isEmpty }

    /// What is queued from `start` on, an index of `output`, waits for a generation.
    func bar(from start: Int, _ generation: UInt64) {
        if let last = barriers.last, last.generation >= generation { return }
        barriers.append(
            Barrier(position: sentTotal + UInt64(start - sentCount), generation: generation))
        barrier = max(barrier, generation)
    }

    /// What is recorded of it depends on a generation.
    func wait(for generation: UInt64) { barrier = max(barrier, generation) }

    /// Nothing waits for this generation or an earlier one any more. Answers whether anything did.
    func lift(upTo generation: UInt64) -> Bool {
        var lifted = 0
        while lifted < barriers.count && barriers[lifted].generation <= generation { lifted += 1 }
        if lifted > 0 { barriers.removeFirst(lifted) }
        return lifted > 0
    }

    /// How many of the unsent bytes may be sent now.
    @inline(__always) var sendableCount: Int {
        guard let first = barriers.first else { return unsentCount }
        return first.position > sentTotal ? Int(first.position - sentTotal) : 0
    }

    // MARK: What the session's records have of it (SessionRecords.swift)

    /// Positions in the output's stream: what was unsent when it was recorded last.
    @exclusivity(unchecked) private var recordedStart: UInt64 = 0
    @exclusivity(unchecked) private var recordedEnd: UInt64 = 0

    /// The ring's slot as it was recorded last.
    private(set) var slot: RingSlot?

    /// The slot is recorded, in a frame that depends on a generation. One that was recorded before counts as
    /// it was then.
    func record(_ new: RingSlot, dependingOn generation: UInt64) {
        if slot == new { return }
        slot = new
        slotGeneration = generation
    }

    /// How many recorded bytes have gone since, and how many unsent ones at the end are new. They count as
    /// recorded from now on.
    func takeUnrecorded() -> (gone: UInt32, fresh: Int) {
        let gone = min(sentTotal, recordedEnd) - recordedStart
        let fresh = endPosition - max(recordedEnd, sentTotal)
        recordedStart = sentTotal
        recordedEnd = endPosition
        return (UInt32(gone), Int(fresh))
    }

    /// Nothing is recorded of what is unsent.
    func forgetRecorded() {
        recordedStart = sentTotal
        recordedEnd = sentTotal
    }

    func appendLast(_ count: Int, to frame: inout [UInt8]) {
        frame.append(contentsOf: output[(output.count - count)...])
    }

    /// What was queued when the daemon ended.
    func restore(input: [UInt8], output: [UInt8]) {
        self.input = input
        self.output = output
        runStart = endPosition
    }

    // MARK: Sending

    /// Forgets what has come in and what is to go out.
    func clear() {
        input = []
        sentTotal += UInt64(unsentCount)
        output = []
        sentCount = 0
        runStart = sentTotal
        replyEnds.removeAll()
        events = EventIndex()
        barriers = []
        slot = nil
        isHeld = false
    }

    /// Calls `body` with the first `count` unsent bytes.
    @inline(__always) func withUnsent(_ count: Int, _ body: (Span<UInt8>) -> Void) {
        output.withBytes { $0.slice(sentCount, sentCount + count).withSpan(body) }
    }

    /// The first `count` unsent bytes are gone. Answers how many counted replies went with them.
    func sent(_ count: Int) -> Int {
        precondition(count >= 0 && count <= unsentCount)
        sentCount += count
        sentTotal += UInt64(count)
        if sentCount == output.count {
            // A buffer that a burst made large is not kept.
            output.removeAll(keepingCapacity: output.capacity <= 16384)
            sentCount = 0
            events.shrink()
        } else if sentCount > output.count / 2 && sentCount > 65536 {
            output.removeFirst(sentCount)
            sentCount = 0
        }
        var replies = 0
        while replies < replyEnds.count && replyEnds[replies] <= sentTotal { replies += 1 }
        if replies > 0 { replyEnds.removeFirst(replies) }
        return replies
    }
}

/// Where in the stream an event was queued last, by the event's hash. Entries that lie before `valid` are as
/// good as gone.
struct EventIndex {
    private var keys: [UInt64] = []
    /// Stream position + 1; 0: a free slot.
    private var positions: [UInt64] = []
    private var used = 0

    /// The valid position under this key; or nil, and then the key has the new position from now on.
    mutating func insert(_ key: UInt64, _ position: UInt64, valid: UInt64) -> UInt64? {
        if (used + 1) * 4 > keys.count * 3 { rebuild(valid: valid) }
        let mask = keys.count - 1
        var slot = Int(truncatingIfNeeded: key >> 32) & mask
        while positions[slot] != 0 {
            if keys[slot] == key {
                if positions[slot] > valid { return positions[slot] - 1 }
                positions[slot] = position + 1
                return nil
            }
            slot = (slot + 1) & mask
        }
        keys[slot] = key
        positions[slot] = position + 1
        used += 1
        return nil
    }

    /// Nothing is queued: a large table is given back.
    mutating func shrink() {
        if keys.count > 256 { self = EventIndex() }
    }

    private mutating func rebuild(valid: UInt64) {
        let oldKeys = keys
        let oldPositions = positions
        let remaining = oldPositions.reduce(0) { $1 > valid ? $0 + 1 : $0 }
        var size = 16
        while size < remaining * 2 + 2 { size *= 2 }
        keys = [UInt64](repeating: 0, count: size)
        positions = keys
        used = 0
        for slot in 0..<oldKeys.count where oldPositions[slot] > valid {
            _ = insert(oldKeys[slot], oldPositions[slot] - 1, valid: valid)
        }
    }
}
