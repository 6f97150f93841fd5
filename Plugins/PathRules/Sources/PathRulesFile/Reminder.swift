// A thread that does something at even intervals until it is stopped. Unsafe code.

import Glibc
import XenStorePlugin

final class Reminder: @unchecked Sendable {
    private let interval: UInt64
    private let body: @Sendable () -> Void
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var thread = pthread_t()
    private var isStopped = false

    /// Calls `body` after each `interval` nanoseconds. Fails if there can be no thread.
    init(every interval: UInt64, _ body: @escaping @Sendable () -> Void) throws(PluginFailure) {
        self.interval = interval
        self.body = body
        lock = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        let own = Unmanaged.passRetained(self)
        let code = pthread_create(&thread, nil, { Reminder.main($0) }, own.toOpaque())
        if code != 0 {
            own.release()
            throw PluginFailure("cannot start a thread: \(String(cString: strerror(code)))", errno: code)
        }
    }

    deinit {
        pthread_mutex_destroy(lock)
        pthread_cond_destroy(condition)
        lock.deallocate()
        condition.deallocate()
    }

    /// Ends it, and returns when `body` runs no more. Once.
    func stop() {
        pthread_mutex_lock(lock)
        isStopped = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(lock)
        pthread_join(thread, nil)
    }

    private static func main(_ own: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        if let own { Unmanaged<Reminder>.fromOpaque(own).takeRetainedValue().run() }
        return nil
    }

    private func run() {
        // Signals are for the daemon's own threads.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        while wait() { body() }
    }

    /// False: it is stopped.
    private func wait() -> Bool {
        var until = timespec()
        clock_gettime(CLOCK_MONOTONIC, &until)
        let nanoseconds = UInt64(until.tv_nsec) + interval
        until.tv_sec += Int(nanoseconds / 1_000_000_000)
        until.tv_nsec = Int(nanoseconds % 1_000_000_000)
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while !isStopped {
            if pthread_cond_timedwait(condition, lock, &until) == ETIMEDOUT { return !isStopped }
        }
        return false
    }
}
