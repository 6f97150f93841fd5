// The thread that makes the write-ahead log proof against the death of the host.
//
// With `sync: always` a batch is committed once the log has been synced behind it, or once it is in the tdb
// file, which is synced then too. After a sync that failed the pages that it should have written may be gone
// though the next one succeeds: batches from before count as committed when they are in the tdb file.

import Glibc
import XenStorePlugin

/// How soon what is committed survives the death of the host.
enum SyncMode: String {
    case always, interval, never
}

/// Syncs the log behind every batch, or every so often.
final class Syncer: @unchecked Sendable {
    private let log: WriteAhead
    private let host: PluginHost
    /// Nanoseconds between two syncs; 0: as soon as there is something.
    private let interval: UInt64
    private let lock = Lock()
    // Below: with `lock` held.
    private var appended: UInt64
    private var synced: UInt64
    private var applied: UInt64
    private var told: UInt64
    /// Batches up to this one may be lost from the log.
    private var suspect: UInt64 = 0
    private var isEnding = false
    private var thread: StoreThread?

    /// - Parameter through: the newest batch there is.
    init(_ log: WriteAhead, host: PluginHost, interval: UInt64, through: UInt64) {
        (self.log, self.host, self.interval) = (log, host, interval)
        (appended, synced, applied, told) = (through, through, through, through)
    }

    func start() throws(PluginFailure) {
        thread = try StoreThread("tdb-file-sync") { self.run() }
    }

    /// A batch is in the log.
    func add(_ sequence: UInt64) {
        lock.locked {
            let wasIdle = appended == synced
            appended = sequence
            if wasIdle { lock.wake() }
        }
    }

    /// Batches up to this one are in the tdb file, and on the disk.
    func isApplied(_ sequence: UInt64) {
        lock.locked {
            applied = sequence
            tell(sequence)
        }
    }

    /// Syncs what there is, and ends the thread.
    func end() {
        lock.locked {
            isEnding = true
            lock.wake()
        }
        thread?.join()
    }

    /// Inside `locked`, so that numbers are told in their order.
    private func tell(_ sequence: UInt64) {
        guard interval == 0, sequence > told else { return }
        told = sequence
        host.committed(sequence)
    }

    private func run() {
        var failed = false
        while true {
            let (target, isLast): (UInt64, Bool) = lock.locked {
                while appended == synced, !isEnding { lock.wait() }
                let due = monotonicNow() + interval
                while !isEnding, monotonicNow() < due { lock.wait(until: due) }
                return (appended, isEnding)
            }
            do throws(PluginFailure) {
                try log.sync()
                if failed { host.log(.notice, "the write-ahead log is synced again") }
                failed = false
                lock.locked {
                    synced = target
                    if suspect <= applied { tell(target) }
                }
                log.provide()
            } catch {
                if !failed { host.log(.error, "\(error.reason); batches wait for the tdb file") }
                failed = true
                lock.locked { suspect = target }
                if !isLast { usleep(1_000_000) }
            }
            if isLast { return }
        }
    }
}
