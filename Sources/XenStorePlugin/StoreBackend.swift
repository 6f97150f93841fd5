// A store backend, as a class to be subclassed: the smallest overrides `init`, `recover` and `commit`.

/// How far a batch has got when `commit` returns.
public enum CommitOutcome: Sendable {
    /// The death of the process cannot undo it any more.
    case final
    /// The module has a copy and keeps at it until it is final; `PluginHost.committed` will say so, in the
    /// order of the numbers.
    case submitted
}

/// Makes the tree outlive the process.
///
/// What is handed in is lent for the call. All calls but `flush` come from one thread, one at a time, and
/// `commit`, `room` and `report` must not wait for a disk. An instance lives from `init` to the end of
/// `close`, and nothing is called behind that.
open class StoreBackend {
    public let host: PluginHost

    /// Opens what the options say, or makes it.
    ///
    /// Throws for options that are wrong (`PluginFailure.option`) and files that cannot be used: another
    /// process has it (EWOULDBLOCK), a newer format, another owner, a symbolic link. What is there stays as
    /// it is.
    public init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) { self.host = host }

    /// Hands back everything that is kept as packed records (`StoreRecord`), in an order in which the later
    /// of two records of one key counts, one or many a call. Once, before the first commit.
    ///
    /// Returns the number of the newest committed batch, 0 if there is none. Throws what `receive` throws,
    /// and where the file cannot be read. The base class has nothing to hand back.
    open func recover(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) -> UInt64 { 0 }

    /// Keeps a batch of packed records as a whole, together with its number. Numbers count up by one.
    ///
    /// Throws with nothing of it kept, ENOSPC where the disk is full; it is then offered again under the same
    /// number, perhaps with more records behind it.
    open func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome { .final }

    /// Ends the instance: makes final what is submitted, if that can be, and ends the module's own threads.
    open func close() {}

    /// Bytes of records that the next batch may have where it lets the store grow. Beyond it the daemon
    /// refuses with ENOSPC, and goes on with removals, for which the module holds something in reserve. While
    /// there is plenty, it is asked after some tens of batches only.
    open var room: UInt64 { .max }

    /// What is final when it is called survives the death of the host when it returns. On a thread of its
    /// own, beside any other call; may wait for the disk.
    open func flush() throws(PluginFailure) {}

    /// Lines `name: value\n` for CONTROL memreport.
    open func report() -> String { "" }
}
