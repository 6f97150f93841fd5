// The core's way to what makes the tree outlive the process. The host adapts modules to it (design,
// "Backends"); the simulation and the tests subclass it.

import XenStoreTypes

/// Keeps batches of records (`StoreRecord`). The base class keeps nothing, and so has nothing to wait for.
open class Backend {
    public enum Outcome: Sendable, Equatable {
        /// The death of the process cannot undo the batch any more.
        case final
        /// That will be told later, in the order of the numbers.
        case submitted
        /// Nothing of it is kept; the code is an errno. It may be offered again under the same number,
        /// perhaps with more records behind it.
        case failed(code: Int32)
    }

    public init() {}

    /// Keeps a batch, whole or not at all, together with its number. Numbers count up by one.
    open func commit(_ sequence: UInt64, _ records: Span<UInt8>) -> Outcome { .final }

    /// Bytes of records that the next batch may have where it lets the store grow. Removals may go beyond.
    open var room: Int { .max }
}
