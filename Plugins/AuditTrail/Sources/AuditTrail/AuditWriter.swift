// The thread that writes what the queue brings.
//
// Invariants:
// - A line is in the file, or counted in `missing` until the file has a line that says so.
// - Everything but the queue and `host` belongs to the thread.

import AuditTrailLines
import CLinux
import Glibc
import XenStorePlugin

/// How many lines are missing at one place, and why.
private struct Missing {
    var lines: UInt64 = 0
    var reason: StaticString = ""
}

final class AuditWriter: @unchecked Sendable {
    private let queue: AuditQueue
    private let file: AuditFile
    private var thread = pthread_t()
    /// The one of the instance before: what it has comes first.
    private let before = Exchange<AuditWriter>()
    private let host: Exchange<PluginHost>
    private var missing = Missing()
    /// Missing lines that the log does not know of, and when it was told last.
    private var untold: UInt64 = 0
    private var told: UInt64?
    private var complaint: String?

    /// Lines wait this long for others, in nanoseconds.
    static let delay: UInt64 = 100_000_000
    /// The log is told of missing lines not more often.
    static let tellingInterval: UInt64 = 10_000_000_000

    /// Opens the file and starts the thread. Fails, with its errno, where that cannot be.
    init(_ file: AuditFile, capacity: Int, host: PluginHost) throws(PluginFailure) {
        self.file = file
        self.host = Exchange(host)
        queue = AuditQueue(capacity: capacity)
        try file.open()
        try start()
    }

    /// Takes a copy of a line, or counts it as missing. Never waits for the disk.
    func add(_ line: UnsafeRawBufferPointer) { queue.add(line) }

    /// Lets `older` write what it has, and begins behind it. Nothing may have been added yet.
    func follow(_ older: AuditWriter) {
        if let host = host.value { older.use(host) }
        before.value = older
        older.queue.end()
    }

    /// Uses this host from now on, and so do those that have not ended before it: theirs are closed first.
    private func use(_ host: PluginHost) {
        self.host.value = host
        before.value?.use(host)
    }

    /// Ends the thread when everything is written.
    func close() {
        queue.end()
        pthread_join(thread, nil)
    }

    // MARK: The thread

    /// No signal is delivered to it but those of its own faults.
    private func start() throws(PluginFailure) {
        var all = sigset_t()
        var previous = sigset_t()
        sigfillset(&all)
        for fault in [SIGBUS, SIGSEGV, SIGILL, SIGFPE] { sigdelset(&all, fault) }
        pthread_sigmask(SIG_SETMASK, &all, &previous)
        defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }
        let own = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { argument in
                linux_name_thread("audit-trail")
                Unmanaged<AuditWriter>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, own.toOpaque())
        guard code == 0 else {
            own.release()
            throw PluginFailure("a thread cannot be started: \(String(cString: strerror(code)))", errno: code)
        }
    }

    private func run() {
        while true {
            let taken = queue.take(delay: Self.delay, patience: untold > 0 ? Self.tellingInterval : nil)
            if let older = before.value {
                pthread_join(older.thread, nil)
                before.value = nil
                // It may have set aside the file that is open here.
                file.close()
            }
            write(taken)
            tell(isLast: taken.isLast)
            if taken.isLast { break }
        }
        file.close()
    }

    private func write(_ taken: AuditQueue.Taken) {
        writeMissing()
        if missing.lines > 0 {
            // They would stand in front of what says that others are missing.
            lose(UInt64(taken.lines.reduce(0) { $1 == 0x0A ? $0 + 1 : $0 }), Self.unwritable)
        } else {
            lose(UInt64(file.append(taken.lines)), Self.unwritable)
            complaint = file.complaint ?? complaint
        }
        lose(taken.dropped, "the queue was full")
        writeMissing()
    }

    private static let unwritable: StaticString = "the file could not be written"

    private func lose(_ lines: UInt64, _ reason: StaticString) {
        if lines == 0 { return }
        if missing.lines == 0 { missing.reason = reason }
        missing.lines += lines
        untold += lines
    }

    /// Says in the file what is missing there.
    private func writeMissing() {
        if missing.lines == 0 { return }
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { room in
            var line = JSONLine(room)
            line.add(missing: missing.lines, because: missing.reason, at: .now)
            if file.append(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<line.count])) == 0
            {
                missing.lines = 0
            }
            complaint = file.complaint ?? complaint
        }
    }

    /// Says in the log what is missing in the file, and what the file has refused.
    private func tell(isLast: Bool) {
        if untold == 0 && complaint == nil { return }
        // The clock and the log are the host's, whose owner may change meanwhile.
        host.with { host in
            let now = host.clock
            if let told, now < told + Self.tellingInterval, !isLast { return }
            told = now
            let reason = complaint ?? "the queue was full"
            host.log(.warning, untold > 0 ? "\(untold) lines are missing in \(file.path): \(reason)" : reason)
            untold = 0
            complaint = nil
        }
    }
}

extension AuditTime {
    /// What the machine's clock says.
    static var now: AuditTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return AuditTime(seconds: Int64(time.tv_sec), microseconds: UInt64(time.tv_nsec / 1000))
    }
}

/// A reference that two threads use.
private final class Exchange<Value: AnyObject & Sendable>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var kept: Value?

    init(_ value: Value? = nil) {
        kept = value
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    var value: Value? {
        get { locked { kept } }
        set { locked { kept = newValue } }
    }

    /// Nobody sets it meanwhile.
    func with(_ body: (Value) -> Void) { locked { if let kept { body(kept) } } }

    private func locked<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}
