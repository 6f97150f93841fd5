// Lines on their way from the loop to the writer's thread.
//
// Invariants, while nobody holds the mutex:
// - `front` is what has been added and not been taken; `back` belongs to the thread. Both have `capacity`
//   bytes, and there is no other memory.
// - Once a line has been dropped, all are until the thread takes what is there: what is missing is missing at
//   one place.

import Glibc

/// A bounded queue of bytes. The loop never waits in it for longer than another thread takes to exchange two
/// pointers.
final class AuditQueue: @unchecked Sendable {
    /// What the thread gets at a time.
    struct Taken {
        /// Lent until the next `take`.
        var lines: UnsafeRawBufferPointer
        /// Lines that found no room behind these.
        var dropped: UInt64
        /// There will be no more.
        var isLast: Bool
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let capacity: Int
    private var front: UnsafeMutableRawPointer
    private var back: UnsafeMutableRawPointer
    private var count = 0
    private var dropped: UInt64 = 0
    private var isEnding = false

    init(capacity: Int) {
        self.capacity = capacity
        front = .allocate(byteCount: capacity, alignment: 16)
        back = .allocate(byteCount: capacity, alignment: 16)
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
        front.deallocate()
        back.deallocate()
    }

    /// Takes a copy of a line, or counts it as dropped.
    func add(_ line: UnsafeRawBufferPointer) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard dropped == 0, line.count <= capacity - count, !isEnding else {
            dropped += 1
            return
        }
        let before = count
        (front + count).copyMemory(from: line.baseAddress!, byteCount: line.count)
        count += line.count
        if before == 0 || (before < capacity / 2 && count >= capacity / 2) { pthread_cond_signal(condition) }
    }

    /// Lets the thread end when it has taken everything.
    func end() {
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Waits for lines, and then a little for more, so that a wake-up is for many. Without any, it waits no
    /// longer than `patience`. Both in nanoseconds.
    func take(delay: UInt64, patience: UInt64?) -> Taken {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        wait(patience) { count > 0 || dropped > 0 || isEnding }
        wait(delay) { count >= capacity / 2 || dropped > 0 || isEnding }
        let taken = Taken(
            lines: UnsafeRawBufferPointer(start: front, count: count), dropped: dropped, isLast: isEnding)
        swap(&front, &back)
        count = 0
        dropped = 0
        return taken
    }

    /// Waits until something holds, but not longer than so many nanoseconds.
    private func wait(_ limit: UInt64?, _ holds: () -> Bool) {
        var deadline = timespec()
        if let limit {
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            let nanoseconds = UInt64(deadline.tv_nsec) + limit
            deadline.tv_sec += Int(nanoseconds / 1_000_000_000)
            deadline.tv_nsec = Int(nanoseconds % 1_000_000_000)
        }
        while !holds() {
            if limit == nil {
                pthread_cond_wait(condition, mutex)
            } else if pthread_cond_timedwait(condition, mutex, &deadline) != 0 {
                return
            }
        }
    }
}
