// The sessions of the domains on their way to the next daemon: a log that dies with the host (design, "Rings
// and restarts").
//
// A frame is what one turn of the loop recorded (the core's SessionRecords), or that part of it which depends
// on what the store does not have yet. Its number is that of the newest batch that it depends on; 0: none. A
// frame whose batch the store does not have never happened.
//
// Invariants:
// - The first frame holds all sessions as they were when the log was begun; later ones what has changed, or
//   all sessions anew.
// - While a successor is being begun, every frame goes into both, until what its first frame depends on is
//   final; then it takes the log's place. So there is a whole log at every instant.
// - A log that cannot be written is removed: no sessions are better than wrong ones.

import CLinux
import Glibc
import XenStore
import XenStoreLog

/// The journal of one daemon's sessions.
final class SessionJournal {
    /// What the frames hold, in the log's head.
    private static let kind = "sessions"
    /// The log is begun anew when it has grown to twice what it began with, and this much.
    private static let slack = 4 << 20

    private let path: String
    private let server: Server
    private let boot: [UInt8]
    private let hostLog: Log
    private var log: RecordLog?
    private var successor: (log: RecordLog, sequence: UInt64)?
    private var beginMax = 0
    /// When a failed log is tried anew, in monotonic nanoseconds.
    private var retryAt: UInt64 = 0

    /// Opens or makes the log at `path`, which belongs to this process from now on.
    init(_ path: String, server: Server, boot: [UInt8], log hostLog: Log) throws(StartFailure) {
        self.path = path
        self.server = server
        self.boot = boot
        self.hostLog = hostLog
        do throws(LogFailure) {
            log = try RecordLog(path, kind: Self.kind)
        } catch {
            throw StartFailure("the journal of sessions: \(error)")
        }
    }

    /// The sessions that an earlier daemon left, as far as the store has come (`sequence`); nothing if they
    /// are of another boot of the host.
    func read(upTo sequence: UInt64) throws(StartFailure) -> SessionImage {
        guard let log else { return SessionImage() }
        var image = SessionImage()
        var isUnderstood = true
        var happened: [(sequence: UInt64, frame: [UInt8])] = []
        var hasMore = false
        do throws(LogFailure) {
            _ = try log.replay { (number, frame) throws(LogFailure) in
                if !isUnderstood { return }
                if number > sequence {
                    hasMore = true
                    return
                }
                isUnderstood = frame.withMemoryRebound(to: UInt8.self) { image.add($0.span) }
                happened.append((number, Array(frame)))
            }
            if hasMore { try keep(happened, in: log) }
        } catch {
            throw StartFailure("the journal of sessions: \(error)")
        }
        if !isUnderstood {
            hostLog.write(
                .error, "\(path): a frame that is no record of sessions, and all after it: left out")
        }
        return image.boot == boot ? image : SessionImage()
    }

    /// Leaves nothing in the log but these frames. What never happened must be gone before the store takes
    /// batches of the same numbers from us.
    private func keep(
        _ frames: [(sequence: UInt64, frame: [UInt8])], in log: RecordLog
    ) throws(LogFailure) {
        let fresh = try log.successor()
        for (sequence, frame) in frames {
            _ = try frame.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in
                try fresh.append(sequence, bytes)
            }
        }
        try log.replace(by: fresh, durably: false)
    }

    /// Begins anew with all sessions as they are now, which is before the loop's first turn, and goes on with
    /// what changes.
    func begin(_ rings: RingConnections?) {
        server.recordSessions(true)
        guard let log else { return }
        attempt { () throws(LogFailure) in
            // Behind what was read, in case that the batch which it depends on does not come to be; then in a
            // log of its own.
            rings?.recordEach()
            try writeAll(log, server.nextSequence ?? server.lastSequence)
            beginMax = 0
        }
    }

    /// Ends a turn.
    func record() {
        if log == nil { return tryAgain() }
        if server.hasSessions { attempt(write) }
        moveOn()
    }

    func close() {
        successor?.log.close()
        log?.close()
    }

    private func write() throws(LogFailure) {
        var failure: LogFailure?
        server.takeSessions { frame, sequence in
            frame.withUnsafeBytes { bytes in
                do throws(LogFailure) {
                    try log?.append(sequence, bytes)
                    try successor?.log.append(sequence, bytes)
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
    }

    private func writeAll(_ fresh: RecordLog, _ sequence: UInt64) throws(LogFailure) {
        var failure: LogFailure?
        boot.withUnsafeBufferPointer { boot in
            server.takeAllSessions(boot.span) { frame in
                frame.withUnsafeBytes { bytes in
                    do throws(LogFailure) { try fresh.append(sequence, bytes) } catch { failure = error }
                }
            }
        }
        if let failure { throw failure }
        beginMax = 2 * fresh.count + Self.slack
    }

    /// Begins a successor when the log has grown, and puts it in the log's place when it can stand alone.
    private func moveOn() {
        guard let log else { return }
        if let (fresh, sequence) = successor {
            if server.finalSequence < sequence { return }
            successor = nil
            attempt { () throws(LogFailure) in try log.replace(by: fresh, durably: false) }
        } else if log.count > beginMax {
            attempt { () throws(LogFailure) in
                let fresh = try log.successor()
                let sequence = server.nextSequence ?? server.lastSequence
                try writeAll(fresh, sequence)
                successor = (fresh, sequence)
            }
        }
    }

    private func attempt(_ body: () throws(LogFailure) -> Void) {
        do throws(LogFailure) {
            try body()
        } catch {
            hostLog.write(
                .error, "\(error); until it can be written, a restart would lose the guests' sessions")
            successor?.log.close()
            successor = nil
            log?.close()
            log = nil
            unlink(path)
            server.recordSessions(false)
            server.takeSessions { _, _ in }
            retryAt = monotonicNow() + 1_000_000_000
        }
    }

    private func tryAgain() {
        if monotonicNow() < retryAt { return }
        attempt { () throws(LogFailure) in
            let fresh = try RecordLog(path, kind: Self.kind)
            _ = try fresh.replay { (_, _) throws(LogFailure) in }
            log = fresh
            server.recordSessions(true)
            try writeAll(fresh, server.nextSequence ?? server.lastSequence)
            hostLog.write(.notice, "\(path): sessions are recorded again")
        }
    }
}
