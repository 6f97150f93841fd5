// A store backend for tests: batches as bytes, and whatever can happen to them.
//
// Invariants: `batches[n]` is batch number n + 1, which is final; those on the way have the numbers that
// follow.

import XenStore
import XenStoreTypes

/// A backend that does what the test says.
public final class TestBackend: Backend {
    /// What becomes of the next batch.
    public enum Mode: Sendable, Equatable {
        /// It is final at once.
        case final
        /// It is taken, and final when the test says so.
        case submitted
        /// It is not taken, for the reason of this errno.
        case failing(Int32)
    }

    public var mode = Mode.final
    /// What `room` answers.
    public var limit = Int.max
    public private(set) var batches: [[UInt8]] = []
    public private(set) var onTheWay: [[UInt8]] = []
    /// How many batches were refused.
    public private(set) var refused = 0
    /// A batch that came under a number that was not its turn.
    public private(set) var wrongNumber: UInt64?

    /// The number of the newest final batch.
    public var sequence: UInt64 { UInt64(batches.count) }

    public override init() {}

    public override func commit(_ sequence: UInt64, _ records: Span<UInt8>) -> Outcome {
        if sequence != UInt64(batches.count + onTheWay.count + 1) { wrongNumber = sequence }
        switch mode {
        case .final:
            batches += onTheWay + [[UInt8](copying: records)]
            onTheWay = []
            return .final
        case .submitted:
            onTheWay.append([UInt8](copying: records))
            return .submitted
        case .failing(let code):
            refused += 1
            return .failed(code: code)
        }
    }

    public override var room: Int { limit }

    /// So many batches, the oldest first, are final. Answers the number of the newest final one, of which the
    /// server is to be told.
    public func complete(_ count: Int = .max) -> UInt64 {
        let count = min(count, onTheWay.count)
        batches += onTheWay.prefix(count)
        onTheWay.removeFirst(count)
        return sequence
    }

    /// What another process finds: the final batches, and nothing of the others.
    public func found() -> TestBackend {
        let other = TestBackend()
        other.batches = batches
        return other
    }

    /// Everything that was kept, one batch after the other.
    public var records: [UInt8] { batches.flatMap { $0 } }

    /// The newest record of each key that is there still, in an order that `random` says: what a backend with
    /// an index hands over.
    public func compacted(_ random: inout SplitMix64) -> [UInt8] {
        var newest: [[UInt8]: [UInt8]] = [:]
        records.withUnsafeBytes { all in
            _ = StoreRecord.forEach(in: all) { record in
                newest[Array(record.key)] = record.kind == .put ? Array(record.bytes) : nil
            }
        }
        let keys = newest.keys.sorted { $0.lexicographicallyPrecedes($1) }.shuffled(using: &random)
        return keys.flatMap { newest[$0]! }
    }
}

extension Server {
    /// As a host does it when it starts: takes the tree over. Answers whether it is the same boot.
    public func recover(
        _ records: [UInt8], sequence: UInt64, boot: String = "boot", keep: [String] = []
    ) -> Bool {
        _ = records.withUnsafeBytes { recover($0) }
        let boot = Array(boot.utf8)
        return finishRecovery(sequence: sequence, boot: boot.span, keep: keep.map { Array($0.utf8) })
    }
}
