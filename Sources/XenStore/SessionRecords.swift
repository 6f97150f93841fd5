// What a restart of the daemon needs besides the tree: the *sessions* of the domains, as records in a journal
// that the host keeps and that dies with the host (design, "Rings and restarts").
//
// A frame is the records of one turn. A record, in the machine's byte order:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | bytes of the whole record |
// | 4 | 1 | kind, see `SessionKind` |
// | 5 | 1 | flags of the kind |
// | 6 | 2 | domain id |
// | 8 | - | the kind's body |
//
// 1 domain: what the domain is now. Flags: 1 introduced, 2 shut down, 4 ring deactivated. Body: u64 unique
//   id, u64 gfn, u32 port, u32 features, u32 target (0xFFFFFFFF: none), u32 next transaction id, u32 bits of
//   its own limits, u32 limits, one a `QuotaName`.
// 2 ended: nothing of the domain is left.
// 3 watch: it has this watch too. Body: u16 depth, u16 bytes of home, u16 bytes of path, u16 bytes of token,
//   path, token.
// 4 unwatch: it has that one no more. Body as 3.
// 5 transaction: it is open. Body: u32 id.
// 6 transaction's end: it is open no more. Body as 5.
// 7 ring: its slot. Flags: 1 the ring begins anew. Body: u32 req_cons and u32 rsp_prod as they were, u32
//   req_cons and u32 rsp_prod as they are to be, u32 bytes gone from the front of the queue, u32 bytes of
//   input, u32 bytes of output, input (all that the buffer holds now), output (queued behind what was).
// 8 reset: no watch, no transaction, empty buffers.
// 9 quota: the limit for all, domain id 0. Body: u32 `QuotaName`, u32 limit.
// 10 boot: what came before counts no more; what follows is of this boot of the host. Body: text.

import XenStoreTypes

enum SessionKind: UInt8 {
    case domain = 1
    case ended, watch, unwatch, transaction, transactionEnd, ring, reset, quota, boot
}

/// Where a ring's two streams stand: the daemon's own two indexes.
public struct RingPositions: Equatable, Sendable, BitwiseCopyable {
    /// req_cons
    public var consumed: UInt32
    /// rsp_prod
    public var produced: UInt32

    public init(consumed: UInt32, produced: UInt32) {
        self.consumed = consumed
        self.produced = produced
    }
}

/// A ring's durable slot: the positions before and after its last turn. Both are the same ring's as long as
/// the guest has not begun it anew in between.
public struct RingSlot: Equatable, Sendable, BitwiseCopyable {
    public var before: RingPositions
    public var after: RingPositions
    /// The ring was to begin anew, with both indexes `after`.
    public var isRestarted: Bool

    public init(before: RingPositions, after: RingPositions, isRestarted: Bool = false) {
        self.before = before
        self.after = after
        self.isRestarted = isRestarted
    }
}

/// The records of the turn, being written.
final class Sessions {
    static let headSize = 8
    static let noTarget = UInt32.max

    /// Whether anybody wants records.
    @exclusivity(unchecked) var isRecording = false
    @exclusivity(unchecked) var frame: [UInt8] = []
    /// Only while the frame is split.
    var free: [UInt8] = []
    var bound: [UInt8] = []
    /// Accounts of which a record of kind 1 is due.
    @exclusivity(unchecked) var noted: [AccountID] = []

    /// Begins a record; what is appended until `end` is its body.
    @inline(__always) func begin(_ kind: SessionKind, _ domain: UInt32, flags: UInt8 = 0) -> Int {
        let start = frame.count
        frame.append(word: 0)
        frame.append(word: UInt32(kind.rawValue) | UInt32(flags) << 8 | domain << 16)
        return start
    }

    @inline(__always) func end(_ start: Int) { frame.set(word: UInt32(frame.count - start), at: start) }

    @inline(__always) func append(_ word: UInt32) { frame.append(word: word) }

    func append(long: UInt64) {
        frame.append(word: UInt32(truncatingIfNeeded: long))
        frame.append(word: UInt32(truncatingIfNeeded: long >> 32))
    }

    func watch(_ kind: SessionKind, _ domain: UInt32, _ watch: Watch, path: Bytes, token: Bytes) {
        let start = begin(kind, domain)
        append(UInt32(watch.depth) | UInt32(watch.homeCount) << 16)
        append(UInt32(path.count) | UInt32(token.count) << 16)
        frame.append(path)
        frame.append(token)
        end(start)
    }

    func transaction(_ kind: SessionKind, _ domain: UInt32, _ number: UInt32) {
        let start = begin(kind, domain)
        append(number)
        end(start)
    }

    func quota(_ quota: QuotaName, _ limit: UInt32) {
        let start = begin(.quota, 0)
        append(UInt32(quota.rawValue))
        append(limit)
        end(start)
    }

    func bare(_ kind: SessionKind, _ domain: UInt32) { end(begin(kind, domain)) }

    func ring(
        _ domain: UInt32, _ slot: RingSlot, gone: UInt32, input: [UInt8], outputCount: Int,
        output: (inout [UInt8]) -> Void
    ) {
        let start = begin(.ring, domain, flags: slot.isRestarted ? 1 : 0)
        append(slot.before.consumed)
        append(slot.before.produced)
        append(slot.after.consumed)
        append(slot.after.produced)
        append(gone)
        append(UInt32(input.count))
        append(UInt32(outputCount))
        if !input.isEmpty { frame.append(contentsOf: input) }
        if outputCount > 0 { output(&frame) }
        end(start)
    }
}
