// epoll: a descriptor is reported as long as it is ready, or for `edges` whenever it becomes so.

import CLinux
import Glibc

/// The set of descriptors that the loop waits for.
///
/// Each is registered with a 64-bit token of the caller's. A closed descriptor's leftover events still
/// carry its token, so tokens must not be used twice.
final class Poll {
    static let readable = EPOLLIN.rawValue
    static let writable = EPOLLOUT.rawValue
    /// Reported once for what has come, read or not: whoever asks for this reads all there is. It saves the
    /// kernel a second look at the descriptor each time.
    static let edges = EPOLLET.rawValue
    /// Both directions are closed, or an error waits to be read. Reported whether asked for or not.
    static let gone = EPOLLHUP.rawValue | EPOLLERR.rawValue

    /// How many ready descriptors one wake-up brings; the others come with the next.
    private static let batch = 256

    private let descriptor: Int32
    private let events: UnsafeMutableBufferPointer<epoll_event>

    init() throws(StartFailure) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        events = .allocate(capacity: Poll.batch)
        if descriptor < 0 { throw StartFailure("cannot create an epoll descriptor", errno: errno) }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        events.deallocate()
    }

    /// False if the kernel has no memory for it.
    func add(_ descriptor: Int32, _ interest: UInt32, token: UInt64) -> Bool {
        control(EPOLL_CTL_ADD, descriptor, interest, token)
    }

    func change(_ descriptor: Int32, _ interest: UInt32, token: UInt64) {
        _ = control(EPOLL_CTL_MOD, descriptor, interest, token)
    }

    private func control(_ operation: Int32, _ target: Int32, _ interest: UInt32, _ token: UInt64) -> Bool {
        var event = epoll_event(events: interest, data: epoll_data_t(u64: token))
        return epoll_ctl(descriptor, operation, target, &event) == 0
    }

    /// Waits for something to be ready, at most `milliseconds` (-1: for ever). Returns how many events
    /// there are.
    func wait(_ milliseconds: Int32) -> Int {
        max(0, Int(epoll_wait(descriptor, events.baseAddress, Int32(Poll.batch), milliseconds)))
    }

    /// One of the events of the last `wait`.
    func event(_ index: Int) -> (token: UInt64, ready: UInt32) {
        (events[index].data.u64, events[index].events)
    }
}
