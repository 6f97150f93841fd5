// The store backend append-log: every batch is a frame of a checksummed log, which is compacted from time to
// time.
//
// README.md says what is promised, FORMAT.md what stands in the file.

import XenStoreLog
import XenStorePlugin

/// Keeps the tree in a log. Batches are final against the death of the process when `commit` returns; with
/// `sync: always` they are acknowledged when the disk has them.
public final class AppendLogStore: StoreBackend {
    /// What the frames of its logs hold.
    static let kind = "XSSTORE1"

    private let log: StoreLog
    private var threads: [DiskThread] = []
    private var isRecovered = false

    public override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        let settings = try Settings(options)
        do throws(LogFailure) {
            log = StoreLog(
                try RecordLog(settings.path, kind: Self.kind, chunk: StoreLog.ahead / 2), settings, host)
        } catch {
            throw PluginFailure(error.description, errno: error.code)
        }
        try super.init(host: host, options: options)
    }

    public override func recover(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) -> UInt64 {
        var refusal: PluginFailure?
        var batches = Leading()
        do throws(LogFailure) {
            let found = try log.log.replay { sequence, records throws(LogFailure) in
                batches.add(sequence, records.count)
                do throws(PluginFailure) { try receive(records) } catch {
                    refusal = error
                    throw LogFailure(error.code, error.reason)
                }
            }
            report(found)
            // What comes back counts as committed from now on.
            if log.settings.sync != .never { try log.log.sync() }
        } catch {
            throw refusal ?? PluginFailure(error.description, errno: error.code)
        }
        log.gate.with {
            log.last = batches.newest
            log.synced = batches.newest
            log.base = batches.leadingBytes
            log.setThreshold()
        }
        log.makeRoom(log.log)
        try startThreads()
        isRecovered = true
        return batches.newest
    }

    public override func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome {
        guard isRecovered else { throw PluginFailure("append-log: commit before recovery") }
        try log.commit(sequence, records)
        return log.settings.sync == .always ? .submitted : .final
    }

    public override func close() {
        log.stop()
        for thread in threads { thread.join() }
        threads = []
        // With `always`, the thread has ended only after everything was synced.
        if log.settings.sync == .interval, isRecovered { try? flush() }
        isRecovered = false
        log.log.close()
    }

    public override var room: UInt64 { UInt64(log.room) }

    public override func flush() throws(PluginFailure) {
        do throws(LogFailure) { _ = try log.sync() } catch {
            throw PluginFailure(error.description, errno: error.code)
        }
    }

    public override func report() -> String {
        log.gate.with {
            """
            append-log bytes: \(log.log.count)
            append-log bytes allocated ahead: \(log.log.room)
            append-log bytes at which it is compacted: \(log.threshold)
            append-log compactions: \(log.compactions)
            append-log newest batch: \(log.last)
            append-log newest batch synced: \(log.synced)

            """
        }
    }

    private func startThreads() throws(PluginFailure) {
        let log = log
        var bodies: [(String, @Sendable () -> Void)] = [
            ("log-room", { log.keepRoom() }), ("log-compaction", { log.keepCompact() }),
        ]
        if log.settings.sync != .never { bodies.append(("log-sync", { log.keepSynced() })) }
        for (name, body) in bodies {
            guard let thread = DiskThread(name, body) else {
                throw PluginFailure("append-log: cannot start a thread")
            }
            threads.append(thread)
        }
    }

    private func report(_ found: RecordLog.Replay) {
        let path = log.settings.path
        if let aside = found.setAside {
            host.log(
                .error,
                "append-log: \(path): damaged: the first \(found.frames) batches are good, \(found.cut) bytes"
                    + " behind them are not, and are kept in \(aside)")
        } else if found.cut > 0 {
            host.log(.notice, "append-log: \(path): a batch that was never finished is dropped")
        }
    }
}

/// The sequences of a log's frames. The first ones of one sequence are what a compaction has left.
private struct Leading {
    private(set) var newest: UInt64 = 0
    private(set) var leadingBytes = 0
    private var first: UInt64?

    mutating func add(_ sequence: UInt64, _ count: Int) {
        if first == nil { first = sequence }
        if sequence == first { leadingBytes += count }
        newest = max(newest, sequence)
    }
}

public let appendLogStore = Plugin(
    backend: AppendLogStore.init, name: "append-log", version: "1.0",
    summary: "Keeps the tree in a checksummed log, compacted from time to time.", isDurable: true,
    options: Settings.descriptions)
