// The write-ahead log: where a batch is final before it is in the tdb file.
//
// Two record logs take turns, PATH.wal and PATH.wal2. Batches go to the *current* one until it has grown to a
// limit and the other, the *spare*, is empty; then they change places. The spare is emptied by the applier's
// thread once all of its batches are in the tdb file, so that the loop's thread neither waits for a disk nor
// renames anything. What counts after a restart is numbers alone: a batch that the tdb file has is skipped,
// in whichever log it stands.
//
// Invariants: every batch that is not in the tdb file is in one of the two; all numbers in the spare are
// below all numbers in the current one.

import Glibc
import XenStoreLog
import XenStorePlugin

/// The pair of logs. `append` and `room` belong to the loop's thread, `recycle` and `provide` to the
/// applier's, `sync` to any.
final class WriteAhead: @unchecked Sendable {
    static let kind = "tdb-wal1"
    /// Bytes of batches in the current log from which on it gives way to the spare.
    static let limit = 8 << 20
    /// Bytes that the loop should find ready, and those of them that only removals may use.
    static let ready = 1 << 20
    static let reserve = 256 << 10

    private let lock = Lock()
    /// The current log and the spare. Changed with `lock` held.
    private var logs: (current: RecordLog, spare: RecordLog)
    /// The newest batch in the spare; nil: it is empty. Changed with `lock` held.
    private var spareThrough: UInt64?
    /// Nothing has been added to the spare since it was synced. Changed with `lock` held.
    private var spareIsSynced = false
    /// `logs.current`, the loop's own, and bytes in it.
    private var current: RecordLog
    private var currentBytes = 0
    private var last: UInt64 = 0
    /// Held by whoever prepares, and never by the loop while it would have to wait.
    private let preparing = Lock()
    private var nextAttempt: UInt64 = 0

    private let syncing: Bool

    /// Opens both, or makes them. Throws EWOULDBLOCK while another process has one.
    ///
    /// - Parameter syncing: an emptied log's name is proof against the host's death before it is used.
    init(beside path: String, syncing: Bool) throws(PluginFailure) {
        self.syncing = syncing
        do throws(LogFailure) {
            logs = (
                try RecordLog(path + ".wal", kind: Self.kind, chunk: 4 << 20),
                try RecordLog(path + ".wal2", kind: Self.kind, chunk: 4 << 20)
            )
        } catch { throw PluginFailure(error) }
        current = logs.current
    }

    // MARK: Recovery

    /// What the logs hold beyond the tdb file.
    struct Rest {
        var batches = ByteBuffer()
        /// The newest batch: the tdb file's own if there is none beyond it.
        var last: UInt64
        /// What is wrong with the logs, a line each.
        var complaints: [String] = []
        /// Later batches do not follow on earlier ones, so that they are left out.
        var hasGap = false
    }

    /// Reads both logs, once, before anything is appended.
    ///
    /// - Parameter applied: the newest batch of the tdb file.
    /// - Parameter all: hand over what the tdb file should have, too, since it has lost something.
    func replay(after applied: UInt64, all: Bool) throws(PluginFailure) -> Rest {
        var rest = Rest(last: applied)
        let payloads = ByteBuffer()
        var frames: [(sequence: UInt64, start: Int, count: Int)] = []
        var through: [UInt64] = []
        for log in [logs.current, logs.spare] {
            var newest: UInt64 = 0
            do throws(LogFailure) {
                let found = try log.replay { (sequence, payload) throws(LogFailure) in
                    newest = max(newest, sequence)
                    guard all || sequence > applied else { return }
                    frames.append((sequence, payloads.count, payload.count))
                    payloads.append(payload)
                }
                if let file = found.setAside {
                    rest.complaints.append(
                        "\(log.path): the last \(found.cut) bytes are damaged and not replayed; they are in "
                            + file)
                }
            } catch { throw PluginFailure(error) }
            through.append(newest)
        }
        // The log with the newer batches goes on; the other waits to be emptied.
        if through[1] > through[0] { logs = (logs.spare, logs.current) }
        current = logs.current
        currentBytes = current.count
        spareThrough = logs.spare.count == 0 ? nil : min(through[0], through[1])

        frames.sort { $0.sequence < $1.sequence }
        connect(frames, payloads, all: all, &rest)
        last = rest.last
        return rest
    }

    /// Puts the batches that follow on one another into `rest`.
    private func connect(
        _ frames: [(sequence: UInt64, start: Int, count: Int)], _ payloads: ByteBuffer, all: Bool,
        _ rest: inout Rest
    ) {
        // Older batches may be replayed over newer records only if the newest come last.
        let mayRepeat = all && (frames.last?.sequence ?? 0) >= rest.last
        var frames = frames[...]
        if all, !mayRepeat { frames = frames.drop { [last = rest.last] in $0.sequence <= last } }
        var expected = mayRepeat ? frames.first?.sequence ?? 0 : rest.last + 1
        for frame in frames {
            guard frame.sequence == expected else {
                rest.hasGap = true
                rest.complaints.append(
                    "the write-ahead log goes on with batch \(frame.sequence), expected \(expected): what "
                        + "it has from there on does not belong to this file, and is left out")
                return
            }
            rest.batches.append(payloads.bytes.part(frame.start, frame.count))
            rest.last = expected
            expected += 1
        }
    }

    // MARK: The loop's thread

    /// Keeps a batch; final against the death of the process when it returns. Throws with nothing kept.
    func append(_ sequence: UInt64, _ records: UnsafeRawBufferPointer) throws(PluginFailure) {
        if currentBytes >= Self.limit { changeOver() }
        do throws(LogFailure) {
            do throws(LogFailure) {
                try current.append(sequence, records)
            } catch {
                // The spare has blocks of its own.
                guard error.isFull, changeOver() else { throw error }
                try current.append(sequence, records)
            }
        } catch { throw PluginFailure(error) }
        currentBytes += records.count
        last = sequence
    }

    /// Goes on in the spare, if it is empty.
    @discardableResult
    private func changeOver() -> Bool {
        lock.locked {
            guard spareThrough == nil, last > 0 else { return false }
            logs = (logs.spare, logs.current)
            (spareThrough, spareIsSynced) = (last, false)
            current = logs.current
            currentBytes = 0
            return true
        }
    }

    /// Bytes of records that the next batch may have where it lets the store grow.
    var room: UInt64 {
        var room = current.room
        if room < Self.ready, monotonicNow() >= nextAttempt {
            // The applier has not come to it yet, or the disk is full.
            let isDone = preparing.lockedNow { prepare(current) }
            if isDone == false { nextAttempt = monotonicNow() + 100_000_000 }
            room = current.room
        }
        return UInt64(max(0, room - Self.reserve))
    }

    /// Allocates what the log will need until it gives way to the other.
    private func prepare(_ log: RecordLog) -> Bool {
        do throws(LogFailure) {
            try log.prepare(max(Self.limit - log.count, 0) + 2 * Self.ready)
            return true
        } catch {
            return false
        }
    }

    // MARK: Other threads

    /// Allocates what the loop will need next.
    func provide() {
        let log = lock.locked { logs.current }
        if log.room < 2 * Self.ready { _ = preparing.locked { prepare(log) } }
        log.warm(256 << 10)
    }

    /// Empties the spare if everything in it is in the tdb file, which has all batches up to `applied`.
    func recycle(applied: UInt64) throws(PluginFailure) {
        let full: RecordLog? = lock.locked {
            guard let through = spareThrough, through <= applied else { return nil }
            return logs.spare
        }
        guard let full else { return }
        do throws(LogFailure) {
            let empty = try full.successor()
            try Self.rename(empty, durably: syncing)
            _ = preparing.locked { prepare(empty) }
            // Nobody else changes the spare while it is not empty.
            lock.locked { (logs.spare, spareThrough) = (empty, nil) }
        } catch { throw PluginFailure(error) }
    }

    /// Gives an empty log its place.
    private static func rename(_ empty: RecordLog, durably: Bool) throws(LogFailure) {
        if durably { try empty.sync() }
        try empty.takeName()
        if durably { try empty.syncDirectory() }
    }

    /// Makes what has been appended when it is called proof against the death of the host.
    func sync() throws(PluginFailure) {
        let (logs, through) = lock.locked { (self.logs, spareIsSynced ? nil : spareThrough) }
        do throws(LogFailure) {
            if let through {
                try logs.spare.sync()
                lock.locked { if spareThrough == through { spareIsSynced = true } }
            }
            try logs.current.sync()
        } catch { throw PluginFailure(error) }
    }

    /// Moves both logs to names that nobody reads again, and begins with empty ones. Returns the names.
    func setAside() throws(PluginFailure) -> [String] {
        var names: [String] = []
        for log in [logs.current, logs.spare] where log.count > 0 {
            names.append(try keepUnderAnotherName(log.path))
            do throws(LogFailure) {
                let empty = try log.successor()
                try Self.rename(empty, durably: true)
                if log === logs.current { logs.current = empty } else { logs.spare = empty }
            } catch { throw PluginFailure(error) }
        }
        current = logs.current
        currentBytes = 0
        spareThrough = nil
        return names
    }

    /// Bytes in both.
    var byteCount: Int {
        let logs = lock.locked { self.logs }
        return logs.current.count + logs.spare.count
    }

    func close() {
        logs.current.close()
        logs.spare.close()
    }
}

extension PluginFailure {
    init(_ failure: LogFailure) { self.init(failure.description, errno: failure.code) }
}

/// Gives the file at `path` a second name, `PATH.damaged-N`, that is not taken. Returns it.
func keepUnderAnotherName(_ path: String) throws(PluginFailure) -> String {
    for number in 1...9999 {
        let name = "\(path).damaged-\(number)"
        if link(path, name) == 0 { return name }
        guard errno == EEXIST else {
            throw PluginFailure("\(path): cannot be kept as \(name): \(errorText(errno))", errno: errno)
        }
    }
    throw PluginFailure("\(path): there are 9999 damaged files beside it", errno: EEXIST)
}
