// The one door into the loop for other threads.

import CLinux
import Glibc

/// Messages from other threads to the loop's. Any thread may post, at any time; nothing is lost while the
/// loop runs, and nothing is delivered after it has ended.
final class Mailbox<Message: Sendable>: EventSource, @unchecked Sendable {
    let descriptor: Int32
    /// Called on the loop's thread with each message, in order. To be set on that thread, before the loop
    /// runs.
    var deliver: (Message) -> Void = { _ in }
    private let monitor = Monitor()
    private var waiting: [Message] = []

    init() throws(StartFailure) {
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        if descriptor < 0 { throw StartFailure("cannot create an event descriptor", errno: errno) }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    func post(_ message: Message) {
        monitor.locked { waiting.append(message) }
        eventfd_write(descriptor, 1)
    }

    func ready(_ loop: EventLoop) {
        var count: eventfd_t = 0
        eventfd_read(descriptor, &count)
        let messages = monitor.locked {
            defer { waiting = [] }
            return waiting
        }
        for message in messages { deliver(message) }
    }
}
