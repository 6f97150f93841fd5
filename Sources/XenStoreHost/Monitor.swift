// Threads, and the lock between them. Two threads live as long as the daemon: the loop's and the log's. A
// third reads the configuration at SIGHUP, a fourth closes the policies that were in force before.

import CLinux
import Glibc

/// A mutex with a condition. What it guards stands beside it, in the same class.
final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` while no other thread holds the monitor. It must not block.
    func locked<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Waits for a `wake`. Only inside `locked`, which it leaves meanwhile; it may return without any reason.
    func wait() { pthread_cond_wait(condition, mutex) }

    /// As `wait`, until `deadline` (monotonic nanoseconds) at the latest. False: it has passed.
    func wait(until deadline: UInt64) -> Bool {
        var time = timespec(
            tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        return pthread_cond_timedwait(condition, mutex, &time) == 0
    }

    /// Wakes all who wait.
    func wake() { pthread_cond_broadcast(condition) }
}

/// The body of a thread on its way to it.
private final class ThreadBody {
    let name: String
    let run: @Sendable () -> Void
    init(_ name: String, _ run: @escaping @Sendable () -> Void) { (self.name, self.run) = (name, run) }
}

/// Starts a detached thread to which no signal is delivered but those of its own faults. `name` has at most
/// 15 bytes.
func startThread(_ name: String, _ run: @escaping @Sendable () -> Void) throws(StartFailure) {
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    // A fault ends the process where its signal is blocked, though there is a handler (shared_files.h).
    for fault in [SIGBUS, SIGSEGV, SIGILL, SIGFPE] { sigdelset(&all, fault) }
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }

    let body = Unmanaged.passRetained(ThreadBody(name, run))
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, threadMain, body.toOpaque())
    guard code == 0 else {
        body.release()
        throw StartFailure("cannot start the thread \(name)", errno: code)
    }
    pthread_detach(thread)
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
    linux_name_thread(body.name)
    body.run()
    return nil
}
