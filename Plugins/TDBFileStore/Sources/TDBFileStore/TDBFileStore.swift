// The store backend that keeps the tree in a tdb file, as xenstored did up to Xen 4.17.
//
// A batch is final when it is in the write-ahead log (WriteAhead). A thread of its own brings it from there
// into the tdb file (Applier), in transactions, each with the number of its last batch (Applied). So at any
// instant the file holds the tree as it was at some batch, and the log every batch behind it.

import Glibc
import XenStorePlugin
import XenStoreTypes

public let tdbFileStore = Plugin(
    backend: TDBFileStore.init, name: "tdb-file", version: "1.0",
    summary: "A tdb file in xenstored's old layout, for tdbdump, tdbtool and tdbbackup.", isDurable: true,
    options: Settings.descriptions)

/// A tdb file and its write-ahead log.
public final class TDBFileStore: StoreBackend {
    private let settings: Settings
    private let log: WriteAhead
    private let file: TDBFile
    private let isRescued: Bool
    private var applier: Applier?
    private var syncer: Syncer?
    private var last: UInt64 = 0

    public override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        settings = try Settings(options)
        let syncing = settings.sync != .never
        // What must not be touched gets no log beside it either.
        _ = try TDBHeader.inspect(settings.path)
        log = try WriteAhead(beside: settings.path, syncing: syncing)
        let opening = try Opening(settings.path, syncing: syncing, host: host)
        (file, isRescued) = (opening.file, opening.isRescued)
        try super.init(host: host, options: options)
    }

    public override func recover(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) -> UInt64 {
        let applied = try Applied.read(from: file) ?? 0
        var rest = try log.replay(after: applied, all: isRescued)
        for complaint in rest.complaints { host.log(.error, "\(settings.path): \(complaint)") }
        try readFile(receive)
        if rest.batches.count > 0 { try receive(rest.batches.bytes) }
        last = rest.last
        if rest.hasGap {
            try applyNow(&rest)
            for name in try log.setAside() {
                host.log(.error, "\(settings.path): the log is kept as \(name)")
            }
        }
        try start(rest, applied: applied)
        return last
    }

    /// Hands over what is in the tdb file, some records at a time.
    private func readFile(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) {
        var batch: [UInt8] = []
        batch.reserveCapacity(1 << 18)
        var failure: PluginFailure?
        // One lock instead of one a record.
        try Opening.lock(file, host)
        defer { file.unlock() }
        let isWhole = file.visitAll { key, value in
            guard !Applied.isKey(key), let node = NodeRecord(value) else { return true }
            node.append(to: &batch, key: key)
            guard batch.count >= 1 << 17 else { return true }
            do throws(PluginFailure) { try hand(&batch, receive) } catch { failure = error }
            return failure == nil
        }
        if let failure { throw failure }
        guard isWhole else { throw PluginFailure("\(settings.path): cannot be read", errno: EIO) }
        try hand(&batch, receive)
    }

    private func hand(
        _ batch: inout [UInt8], _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) {
        var failure: PluginFailure?
        batch.withUnsafeBytes { bytes in
            if bytes.isEmpty { return }
            do throws(PluginFailure) { try receive(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        batch.removeAll(keepingCapacity: true)
    }

    /// Writes the log's good batches to the file, before the log is set aside.
    private func applyNow(_ rest: inout WriteAhead.Rest) throws(PluginFailure) {
        guard rest.batches.count > 0 else { return }
        let group = Group()
        group.take(&rest.batches, through: rest.last)
        let outcome = try file.transaction { () throws(PluginFailure) in
            try group.apply(to: file)
            try Applied.write(group.last, to: file)
        }
        guard outcome == .done else {
            throw PluginFailure("\(settings.path): locked by another process", errno: EWOULDBLOCK)
        }
    }

    private func start(_ rest: WriteAhead.Rest, applied: UInt64) throws(PluginFailure) {
        var syncer: Syncer?
        if settings.sync != .never {
            let interval = settings.sync == .always ? 0 : settings.syncInterval
            syncer = Syncer(log, host: host, interval: interval, through: rest.last)
        }
        let applier = Applier(
            file, log, rest: rest, through: applied, interval: settings.applyInterval, host: host
        ) { [syncer] in syncer?.isApplied($0) }
        try syncer?.start()
        do throws(PluginFailure) {
            try applier.start()
        } catch {
            syncer?.end()
            throw error
        }
        (self.applier, self.syncer) = (applier, syncer)
    }

    public override func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome {
        guard let applier else { throw PluginFailure("\(settings.path): is not recovered") }
        guard last == 0 || sequence == last + 1 else {
            throw PluginFailure("\(settings.path): batch \(sequence), expected \(last + 1)")
        }
        try log.append(sequence, records)
        last = sequence
        applier.add(sequence, records)
        syncer?.add(sequence)
        return settings.sync == .always ? .submitted : .final
    }

    public override func close() {
        syncer?.end()
        applier?.end()
        applier = nil
        file.close()
        log.close()
    }

    public override var room: UInt64 { log.room }

    public override func flush() throws(PluginFailure) { try log.sync() }

    public override func report() -> String {
        guard let progress = applier?.progress else { return "" }
        return """
            tdb-file bytes: \(progress.size)
            tdb-file log bytes: \(log.byteCount)
            tdb-file batches: \(last)
            tdb-file batches in the file: \(progress.applied)
            tdb-file groups written: \(progress.groups)
            tdb-file bytes waiting: \(progress.waiting)

            """
    }
}
