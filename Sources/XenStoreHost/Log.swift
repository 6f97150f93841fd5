// The log, as the loop sees it: a line costs a copy into a queue, whatever the disk does.

import Glibc
import XenStore

/// Log, trace and reports. Belongs to the loop's thread.
public final class Log {
    /// How many bytes of lines wait for the disk; what comes beyond that is dropped and counted.
    public static let queueCapacity = 1 << 20
    /// How long a clean stop waits for the disk.
    private static let drainNanoseconds: UInt64 = 2_000_000_000

    /// Lines above it are not written.
    public var level: LogLevel {
        didSet { writer.setLevel(level) }
    }
    /// For lines of other threads.
    let writer: LogWriter

    /// Opens the files. Fails, naming it, if one cannot be opened for writing.
    public init(
        _ destination: LogDestination, level: LogLevel, traceFile: String? = nil,
        capacity: Int = queueCapacity
    ) throws(StartFailure) {
        self.level = level
        writer = try LogWriter(destination, traceFile: traceFile, capacity: capacity)
        writer.setLevel(level)
    }

    public func write(_ level: LogLevel, _ line: String) {
        if level <= self.level { _ = writer.enqueue(.line(level, wallClock(), Array(line.utf8))) }
    }

    func write(_ level: LogLevel, _ line: Span<UInt8>) {
        if level <= self.level { _ = writer.enqueue(.line(level, wallClock(), copy(line))) }
    }

    func trace(_ line: Span<UInt8>) { _ = writer.enqueue(.trace(wallClock(), copy(line))) }

    /// From now on the trace goes to this file. A failure is logged, and changes nothing.
    func setTraceFile(_ path: String) -> Bool { writer.enqueue(.traceFile(path)) }

    /// From now on the log goes there. A failure is logged, and changes nothing.
    func setDestination(_ destination: LogDestination) { _ = writer.enqueue(.destination(destination)) }

    /// Writes a file soon. False if too much waits to be written.
    func report(_ path: String, _ text: Span<UInt8>) -> Bool { writer.enqueue(.report(path, copy(text))) }

    /// Opens all files anew: they have been renamed (log rotation).
    func reopen() { _ = writer.enqueue(.reopen) }

    /// Writes what is waiting, for two seconds at most. Nothing is taken afterwards.
    public func close() { writer.stop(within: Log.drainNanoseconds) }

    private func copy(_ bytes: Span<UInt8>) -> [UInt8] { bytes.withUnsafeBufferPointer { Array($0) } }
}
