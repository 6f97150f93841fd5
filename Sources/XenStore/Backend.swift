// What makes the tree outlive the process (design, "Backends").

import XenStoreTypes

/// Keeps batches of records. The host subclasses it for the store that is configured, tests for faults.
///
/// No method may call back into the server.
open class Backend {
    public init() {}

    public enum Outcome: Sendable, Equatable {
        /// The batch is proof against the death of this process.
        case final
        /// It will be; `Server.committed` is then to be told.
        case submitted
        /// Nothing of it is kept, for the reason of this errno. It is offered again, under the same number
        /// and perhaps with more in it.
        case failed(code: Int32)
    }

    /// Keeps a batch (`StoreRecord`), the whole of it or nothing, together with its number. Numbers count up
    /// by one.
    open func commit(_ sequence: UInt64, _ records: Span<UInt8>) -> Outcome { .final }

    /// Bytes of records that the next batch may have where it makes the store grow. What removes may have
    /// more: the backend holds something in reserve for that. While there is plenty, it is asked after some
    /// tens of batches only (`Commits.reckonRoom`).
    open var room: Int { .max }

    /// What it says of itself, in lines `name: value`, ASCII.
    open var report: [UInt8] { [] }
}
