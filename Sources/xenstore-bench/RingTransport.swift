// A guest's side of its ring and event channel, on a simulated host (specification, section B).

import CLinux
import Glibc
import XenStoreRing

/// The guest of one introduced domain. A single message must not be larger than a ring: 1024 bytes.
///
/// It signals as Linux does: once for all that one call sends, and after making room in a ring that was full.
final class RingTransport: Transport {
    let domain: UInt32
    let page: RingPage
    private let host: SimulatedHost
    /// The reading end of its FIFO: a byte for each event.
    private let events: Int32
    /// What events are read into. Not made anew each time: on one CPU with the daemon, what the guest takes
    /// shows in the daemon's figures.
    private let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)

    /// The daemon must have introduced the domain; what it resets then would be lost.
    init(of domain: UInt32, on host: SimulatedHost) throws(Failure) {
        self.domain = domain
        self.host = host
        let folder = host.folder(domain)
        events = open(folder + "/event", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard events >= 0 else { throw .call(folder + "/event") }
        do throws(Failure) {
            page = RingPage(try mapFile(folder + "/ring", size: RingPage.byteCount))
        } catch {
            close(events)
            throw error
        }
    }

    deinit {
        munmap(page.page, RingPage.byteCount)
        close(events)
        chunk.deallocate()
    }

    /// Nobody waits for a ring in another thread.
    func shutDown() {}

    func send(_ bytes: Span<UInt8>) throws(Failure) -> Int {
        let count = try put(bytes)
        if count > 0 { try host.notifyDaemon(of: domain) }
        return count
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer, waiting: Bool) throws(Failure) -> Int {
        while true {
            let count = try moved(page.receiveResponse(into: buffer))
            if count == RingPage.ringCount { try host.notifyDaemon(of: domain) }
            if count > 0 || !waiting { return count }
            guard page.error == 0 else { throw Failure("domain \(domain): error \(page.error) in its page") }
            guard waitForEvent(milliseconds: Int32(patience) * 1000) else {
                throw Failure("domain \(domain): no event from the daemon in \(patience) s")
            }
            takePendingEvents()
        }
    }

    /// Takes the events that have come, and is ready for the next one.
    func takePendingEvents() {
        _ = takeEvents()
        shared_store(host.word(domain, .pendingForGuest), 0)
    }

    /// Sends without signalling; returns how many bytes found room.
    func put(_ bytes: Span<UInt8>) throws(Failure) -> Int {
        try moved(page.sendRequest(bytes))
    }

    /// Whether there is an event, waiting for one if there is none. It remains to be taken.
    func waitForEvent(milliseconds: Int32) -> Bool {
        var waiting = pollfd(fd: events, events: Int16(POLLIN), revents: 0)
        return poll(&waiting, 1, milliseconds) > 0
    }

    /// Takes the events that have come; returns how many there were.
    func takeEvents() -> Int {
        var sum = 0
        while true {
            let count = read(events, chunk.baseAddress, chunk.count)
            guard count > 0 else { return sum }
            sum += count
            if count < chunk.count { return sum }
        }
    }

    private func moved(_ outcome: RingPage.Outcome) throws(Failure) -> Int {
        guard case .moved(let count) = outcome else { throw Failure("domain \(domain): a bad ring index") }
        return count
    }
}
