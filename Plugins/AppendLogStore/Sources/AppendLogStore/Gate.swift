// A lock, the three conditions that threads wait for behind it, and the threads themselves.

import CLinux
import Glibc

/// Held for moments only: the loop's thread waits for it.
final class Gate: @unchecked Sendable {
    /// Who can be woken.
    enum Side: Int, CaseIterable {
        case sync, room, compaction
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let conditions = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: Side.allCases.count)

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        for side in Side.allCases { pthread_cond_init(conditions + side.rawValue, &attributes) }
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        for side in Side.allCases { pthread_cond_destroy(conditions + side.rawValue) }
        conditions.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    @inline(__always)
    func with<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    func wake(_ side: Side) { pthread_cond_signal(conditions + side.rawValue) }

    /// Lets others in until woken, or for so many milliseconds. By who is inside.
    func wait(_ side: Side, milliseconds: Int? = nil) {
        guard let milliseconds else {
            pthread_cond_wait(conditions + side.rawValue, mutex)
            return
        }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let nanoseconds = time.tv_nsec + milliseconds % 1000 * 1_000_000
        time.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
        time.tv_nsec = nanoseconds % 1_000_000_000
        pthread_cond_timedwait(conditions + side.rawValue, mutex, &time)
    }
}

/// A thread to which no signal is delivered.
final class DiskThread: @unchecked Sendable {
    private var thread = pthread_t()
    private let name: String
    private let body: @Sendable () -> Void

    /// Starts it; nil, with errno, where the system has no more threads.
    init?(_ name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let own = Unmanaged.passRetained(self)
        let code = pthread_create(&thread, nil, runThread, own.toOpaque())
        if code != 0 {
            own.release()
            errno = code
            return nil
        }
    }

    fileprivate func run() {
        linux_name_thread(name)
        body()
    }

    /// Waits for its end. Once.
    func join() { pthread_join(thread, nil) }
}

private func runThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument { Unmanaged<DiskThread>.fromOpaque(argument).takeRetainedValue().run() }
    return nil
}
