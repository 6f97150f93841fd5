// The thread that brings batches from the write-ahead log into the tdb file.
//
// It gathers batches for some milliseconds and writes them as one group, in one transaction. What it waits
// for, a disk or another process's lock, nobody else waits for: the batches are final already. It rests for
// at least four times as long as the last group took, so that rewriting large lists of children again and
// again cannot take more than a fifth of a processor.

import Glibc
import XenStorePlugin

/// Batches on their way into the file.
final class Applier: @unchecked Sendable {
    /// Bytes that are gathered at most before a group is written early.
    private static let early = 8 << 20
    /// Bytes of batches that cannot be written from which on old records of a key are dropped.
    private static let large = 64 << 20
    /// How long the end waits for another process's lock, in nanoseconds.
    private static let patience: UInt64 = 1_000_000_000

    private let file: TDBFile
    private let log: WriteAhead
    private let host: PluginHost
    private let interval: UInt64
    /// Told of every batch that is in the file.
    private let applied: @Sendable (UInt64) -> Void

    private let lock = Lock()
    // Below: with `lock` held.
    private var pending = ByteBuffer(capacity: 1 << 16)
    private var pendingThrough: UInt64 = 0
    private var isEnding = false
    private var appliedThrough: UInt64
    private var groups = 0
    private var fileSize: Int

    // The thread's own.
    private let group = Group()
    private var complaints: Complaints
    private var thread: StoreThread?

    /// - Parameters:
    ///   - rest: batches of the write-ahead log that are not in the file, which has all up to `through`.
    ///   - interval: nanoseconds that batches are gathered.
    init(
        _ file: TDBFile, _ log: WriteAhead, rest: WriteAhead.Rest, through: UInt64, interval: UInt64,
        host: PluginHost, applied: @escaping @Sendable (UInt64) -> Void
    ) {
        (self.file, self.log, self.host) = (file, log, host)
        (self.interval, self.applied) = (interval, applied)
        (appliedThrough, fileSize) = (through, file.size)
        complaints = Complaints(host)
        if rest.batches.count > 0 {
            pending = rest.batches
            pendingThrough = rest.last
        }
    }

    func start() throws(PluginFailure) {
        thread = try StoreThread("tdb-file") { self.run() }
    }

    // MARK: The loop's thread

    /// Takes a copy of a batch that is in the write-ahead log.
    func add(_ sequence: UInt64, _ records: UnsafeRawBufferPointer) {
        lock.locked {
            let wasEmpty = pending.count == 0
            pending.append(records)
            pendingThrough = sequence
            if wasEmpty || pending.count > Self.early { lock.wake() }
        }
    }

    /// Writes what there is, unless the file stays locked, and ends the thread.
    func end() {
        lock.locked {
            isEnding = true
            lock.wake()
        }
        thread?.join()
    }

    /// For `report`: the newest batch in the file, its bytes, how many groups were written, bytes that wait.
    var progress: (applied: UInt64, size: Int, groups: Int, waiting: Int) {
        lock.locked { (appliedThrough, fileSize, groups, pending.count) }
    }

    // MARK: The thread

    private func run() {
        var rested: UInt64 = 0
        var deadline: UInt64?
        log.provide()
        do throws(PluginFailure) { try log.recycle(applied: appliedThrough) } catch {
            complaints.failed(error)
        }
        while true {
            let isLast = gather(notBefore: rested)
            if group.isEmpty { return }
            let begin = monotonicNow()
            if isLast, deadline == nil { deadline = begin + Self.patience }
            var pause: UInt64 = 0
            do throws(PluginFailure) {
                if try write() == .locked {
                    complaints.locked(file.path)
                    pause = 20_000_000
                } else {
                    complaints.over(file.path)
                    rested = monotonicNow() + 4 * (monotonicNow() - begin)
                }
            } catch {
                complaints.failed(error)
                pause = 1_000_000_000
            }
            log.provide()
            if let deadline, !group.isEmpty, monotonicNow() >= deadline {
                host.log(
                    .warning,
                    "\(file.path): the last batches are in the write-ahead log only; the next start writes "
                        + "them")
                return
            }
            if pause > 0 { usleep(UInt32((isLast ? min(pause, 50_000_000) : pause) / 1000)) }
        }
    }

    /// Waits for batches, and for more of them until it is time to write. True: these are the last.
    private func gather(notBefore rested: UInt64) -> Bool {
        lock.locked {
            while pending.count == 0, group.isEmpty, !isEnding { lock.wait() }
            // What could not be written is tried again at once: the caller has waited.
            let due = max(monotonicNow() + interval, rested)
            while group.isEmpty, !isEnding, pending.count < Self.early, monotonicNow() < due {
                lock.wait(until: due)
            }
            if pending.count > 0 { group.take(&pending, through: pendingThrough) }
            return isEnding
        }
    }

    private func write() throws(PluginFailure) -> TDBFile.Outcome {
        if group.byteCount > Self.large { group.compact() }
        let sequence = group.last
        let outcome = try file.transaction { () throws(PluginFailure) in
            try group.apply(to: file)
            try Applied.write(sequence, to: file)
        }
        guard outcome == .done else { return outcome }
        group.removeAll()
        lock.locked {
            appliedThrough = sequence
            groups += 1
            fileSize = file.size
        }
        applied(sequence)
        try log.recycle(applied: sequence)
        return .done
    }
}

/// What goes wrong for a while, said once a minute.
private struct Complaints {
    private let host: PluginHost
    private var since: UInt64?
    private var said: UInt64?
    private var reason = ""

    init(_ host: PluginHost) { self.host = host }

    /// Another process has the lock. Nothing is said of the first second.
    mutating func locked(_ path: String) {
        let now = monotonicNow()
        if since == nil { since = now }
        if now - (since ?? now) > 1_000_000_000 {
            say(.warning, "\(path): locked by another process; changes wait in the write-ahead log")
        }
    }

    mutating func failed(_ failure: PluginFailure) {
        if since == nil { since = monotonicNow() }
        say(.error, "\(failure.reason); changes wait in the write-ahead log, and it is tried again")
    }

    /// It works.
    mutating func over(_ path: String) {
        if said != nil { host.log(.notice, "\(path): written again, all changes are in it") }
        (since, said, reason) = (nil, nil, "")
    }

    private mutating func say(_ level: PluginLogLevel, _ line: String) {
        let now = monotonicNow()
        if let said, line == reason, now - said < 60_000_000_000 { return }
        (said, reason) = (now, line)
        host.log(level, line)
    }
}
