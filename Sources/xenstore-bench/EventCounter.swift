// Counts the events that a daemon sends to one guest, each of them.

import CLinux
import Glibc

/// A thread that makes a guest ready for the next event as soon as one has been sent.
///
/// An event that is pending swallows those that follow; a guest that is slow would see one where the daemon
/// sent many. The thread clears the pending word all the time, so that every event is a byte in the guest's
/// FIFO. That holds while it runs, and it is not always let: so it also says for how long it did not look.
///
/// The threads share nothing but words that are read and written atomically.
final class EventCounter {
    private final class Work {
        /// The guest's pending word.
        let pending: UnsafeMutableRawPointer
        /// Ours: 1 when the thread shall end; how often it has looked; its longest pause in nanoseconds.
        let end: UnsafeMutableRawPointer
        let looks: UnsafeMutableRawPointer
        let pause: UnsafeMutableRawPointer
        let cpu: Int32?

        init(_ pending: UnsafeMutableRawPointer, cpu: Int32?) {
            self.pending = pending
            self.cpu = cpu
            end = .allocate(byteCount: 12, alignment: 4)
            looks = end + 4
            pause = end + 8
            for word in [end, looks, pause] { shared_store(word, 0) }
        }

        deinit { end.deallocate() }

        func run() {
            if let cpu { _ = linux_pin_thread(0, cpu) }
            var before = now()
            while shared_load(end) == 0 {
                if shared_load(pending) != 0 { shared_store(pending, 0) }
                let time = now()
                let gap = UInt32(clamping: time - before)
                if gap > shared_load(pause) { shared_store(pause, gap) }
                shared_store(looks, shared_load(looks) &+ 1)
                before = time
            }
        }
    }

    private let guest: RingTransport
    private let work: Work
    private var thread: pthread_t?

    /// `daemonCPU` is where the daemon is bound to, if it is: the thread goes elsewhere.
    init(of guest: RingTransport, on host: SimulatedHost, daemonCPU: Int?) throws(Failure) {
        self.guest = guest
        work = Work(
            host.word(guest.domain, .pendingForGuest), cpu: daemonCPU.map { $0 == 0 ? 1 : 0 })
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(work).toOpaque())
        guard failure == 0 else {
            errno = failure
            throw .call("pthread_create")
        }
        self.thread = thread
    }

    deinit { stop() }

    /// Counts the events during `body` and for a millisecond more. Nil where the thread did not look for more
    /// than `longest` nanoseconds at a stretch meanwhile: some may be missing then.
    func count(longestPause longest: UInt32, during body: () throws(Failure) -> Void) throws(Failure) -> Int?
    {
        waitForLooks()
        _ = guest.takeEvents()
        shared_store(work.pause, 0)
        try body()
        // A pause that goes on is known when it has ended.
        waitForLooks()
        let pause = shared_load(work.pause)
        usleep(1000)
        let events = guest.takeEvents()
        return pause <= longest ? events : nil
    }

    func stop() {
        guard let thread else { return }
        shared_store(work.end, 1)
        pthread_join(thread, nil)
        self.thread = nil
    }

    /// Until the thread has looked at least once from beginning to end.
    private func waitForLooks() {
        let looks = shared_load(work.looks)
        while shared_load(work.looks) &- looks < 2 { usleep(10) }
    }
}
