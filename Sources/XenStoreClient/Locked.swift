// A lock and a thread: what the client needs of the machine's concurrency besides Swift's own.

import CLinux
import Glibc

/// A value that one thread at a time may touch.
final class Locked<Value>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value

    init(_ value: Value) {
        self.value = value
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Runs `body` while nobody else has the value. It must not block, nor resume a task, nor run what others
    /// have handed in.
    func with<R>(_ body: (inout Value) -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&value)
    }
}

/// The body of a thread on its way to it.
private final class ThreadBody {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// Starts a detached thread to which no signal is delivered. Returns 0, or why there is none (an errno).
func startThread(_ run: @escaping @Sendable () -> Void) -> Int32 {
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }

    let body = Unmanaged.passRetained(ThreadBody(run))
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, threadMain, body.toOpaque())
    guard code == 0 else {
        body.release()
        return code
    }
    pthread_detach(thread)
    return 0
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
    linux_name_thread("xenstore-client")
    body.run()
    return nil
}

/// Nanoseconds of a clock that only goes forward.
func monotonicNow() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

extension Duration {
    /// Whole nanoseconds, 0 for what is negative, the most there is for what does not fit.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        if seconds < 0 { return 0 }
        let (whole, isTooMuch) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return isTooMuch ? .max : whole + UInt64(max(0, attoseconds) / 1_000_000_000)
    }
}

/// What an errno means, in words.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }
