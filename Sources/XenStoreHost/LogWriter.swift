// The log's own thread: whatever may block on a disk, a terminal or syslog is done here.
//
// Invariants:
// - The queue holds at most `capacity` bytes of lines, plus as much that the thread has taken and is
//   writing. The trace gets at most half of it, so that a guest's requests cannot push the log's lines out.
// - A line that finds no room is counted, and the count is logged where the lines are missing.
// - Everything else in the class than the queue and its counters belongs to the writer's thread.

import CLinux
import Glibc
import XenStore

/// What the thread can be asked to do, in order.
enum LogJob: Sendable {
    case line(LogLevel, timespec, [UInt8])
    case trace(timespec, [UInt8])
    /// Writes the trace to this file from now on.
    case traceFile(String)
    /// Writes the log there from now on.
    case destination(LogDestination)
    /// Opens all files anew.
    case reopen
    /// Writes a file of its own, replacing a regular file of that name.
    case report(String, [UInt8])

    /// The bytes of memory that it holds, about.
    fileprivate var size: Int {
        switch self {
        case .line(_, _, let text), .trace(_, let text), .report(_, let text): text.count + 96
        default: 96
        }
    }
}

/// The queue to the thread, and the thread.
final class LogWriter: @unchecked Sendable {
    private let monitor = Monitor()
    private let capacity: Int
    private var queue: [LogJob] = []
    private var queued = 0
    /// Lines of other threads above it are not written.
    private var level = LogLevel.debug
    private var droppedLines = 0
    private var droppedTraces = 0
    private var stopping = false
    private var ended = false

    private var sink: LogSink
    private var trace: LogFile?

    /// Opens the files and starts the thread. Fails if a file cannot be opened.
    init(_ destination: LogDestination, traceFile: String?, capacity: Int) throws(StartFailure) {
        self.capacity = capacity
        sink = try LogSink(destination)
        if let traceFile { trace = try LogFile(path: traceFile) }
        try startThread("log") { self.run() }
    }

    /// False if there is no room: the job will not be done. Never waits for the disk.
    func enqueue(_ job: LogJob) -> Bool {
        let size = job.size
        return monitor.locked {
            var room = capacity - queued
            if case .trace = job { room -= capacity / 2 }
            guard size <= room, !stopping else {
                countDropped(job)
                return false
            }
            queued += size
            queue.append(job)
            if queue.count == 1 { monitor.wake() }
            return true
        }
    }

    func setLevel(_ level: LogLevel) { monitor.locked { self.level = level } }

    /// A line that another thread than the loop's has to say.
    func write(_ level: LogLevel, _ text: [UInt8]) {
        if monitor.locked({ level <= self.level }) { _ = enqueue(.line(level, wallClock(), text)) }
    }

    /// Ends the thread when everything is written, and waits for that, but not longer than `nanoseconds`:
    /// what a blocked disk holds up then is lost.
    func stop(within nanoseconds: UInt64) {
        let deadline = monotonicNow() + nanoseconds
        monitor.locked {
            stopping = true
            monitor.wake()
            while !ended, monitor.wait(until: deadline) {}
        }
    }

    private func countDropped(_ job: LogJob) {
        switch job {
        case .line: droppedLines += 1
        case .trace: droppedTraces += 1
        default: break
        }
    }

    private func run() {
        while let (jobs, lines, traces) = next() {
            for job in jobs { perform(job) }
            report(dropped: lines + sink.takeLost(), traces + (trace?.takeLost() ?? 0))
            sink.flush()
            trace?.flush()
        }
        monitor.locked {
            ended = true
            monitor.wake()
        }
    }

    /// Waits for jobs; nil: there will be no more. Also what was dropped behind them.
    private func next() -> (jobs: [LogJob], lines: Int, traces: Int)? {
        monitor.locked {
            while queue.isEmpty, !stopping { monitor.wait() }
            if queue.isEmpty { return nil }
            let taken = (queue, droppedLines, droppedTraces)
            (queue, queued, droppedLines, droppedTraces) = ([], 0, 0, 0)
            return taken
        }
    }

    private func perform(_ job: LogJob) {
        switch job {
        case .line(let level, let time, let text): sink.append(level, time, text)
        case .trace(let time, let text):
            trace?.append { line in
                line.append(time, dashes: false)
                line.append(harmless: text)
            }
        case .traceFile(let path):
            attempt { () throws(StartFailure) in
                let file = try LogFile(path: path)
                trace?.flush()
                trace = file
            }
        case .destination(let destination):
            attempt { () throws(StartFailure) in
                let fresh = try LogSink(destination)
                sink.flush()
                sink = fresh
            }
        case .reopen:
            attempt { () throws(StartFailure) in try sink.reopen() }
            attempt { () throws(StartFailure) in try trace?.reopen() }
        case .report(let path, let text):
            attempt { () throws(StartFailure) in try writeReport(path, text) }
        }
    }

    /// A failure becomes a line of the log; what was in use before stays in use.
    private func attempt(_ body: () throws(StartFailure) -> Void) {
        do throws(StartFailure) { try body() } catch {
            sink.append(.error, wallClock(), Array(error.description.utf8))
        }
    }

    private func report(dropped lines: Int, _ traces: Int) {
        if lines == 0, traces == 0 { return }
        let text =
            "\(lines) lines of the log and \(traces) of the trace are missing here: they came too fast"
        sink.append(.warning, wallClock(), Array(text.utf8))
    }
}

/// Replaces the regular file `path`, or creates it with mode 0600. May block.
private func writeReport(_ path: String, _ text: [UInt8]) throws(StartFailure) {
    let flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | O_NONBLOCK
    let descriptor = open(path, flags, 0o600)
    guard descriptor >= 0 else { throw StartFailure("report \(path)", errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
        throw StartFailure("report \(path): this is no regular file")
    }
    guard ftruncate(descriptor, 0) == 0, LogFile.writeAll(descriptor, text.span) else {
        throw StartFailure("report \(path)", errno: errno)
    }
}
