// Xen's side of the FIFO ABI for event channels, in steps as small as the accesses to memory that it shares
// with the domain, so that a test can let anything happen between them. Written from the public header
// (xen/event_channel.h) and Xen's design document of the ABI.

import CMachine

/// The memory of both sides, and what Xen knows besides.
final class QueueModel {
    static let link: UInt32 = 1 << 17 - 1
    static let busy: UInt32 = 1 << 28
    static let linked: UInt32 = 1 << 29
    static let masked: UInt32 = 1 << 30
    static let pending: UInt32 = 1 << 31

    let control: UnsafeMutableRawPointer
    private(set) var pages: [UnsafeMutableRawPointer] = []
    /// The port that was linked last, by queue; 0: none yet.
    private var tails = [UInt32](repeating: 0, count: 16)
    private var isLocked = [Bool](repeating: false, count: 16)
    var priorities: [UInt32: Int] = [:]
    /// The domain is told that there is something.
    var upcall: () -> Void = {}
    /// How often a port has become pending.
    var raised: [UInt32: Int] = [:]
    var signals: [Signal] = []
    /// The domain has changed a word that Xen had marked as busy.
    private(set) var wasDisturbed = false

    init(control: UnsafeMutableRawPointer) { self.control = control }

    func add(_ page: UnsafeMutableRawPointer) { pages.append(page) }

    func word(_ port: UInt32) -> UnsafeMutablePointer<UInt32> {
        pages[Int(port) / 1024].assumingMemoryBound(to: UInt32.self) + Int(port) % 1024
    }

    private func head(_ queue: Int) -> UnsafeMutablePointer<UInt32> {
        control.assumingMemoryBound(to: UInt32.self) + 2 + queue
    }

    // MARK: What Xen does

    /// Begins to raise an event.
    func signal(_ port: UInt32) { signals.append(Signal(port, queue: priorities[port] ?? 7, .raise)) }

    /// EVTCHNOP_unmask, which is over before the domain goes on.
    func unmask(_ port: UInt32) {
        word(port).pointee &= ~Self.masked
        if word(port).pointee & Self.pending == 0 { return }
        let signal = Signal(port, queue: priorities[port] ?? 7, .look)
        signals.append(signal)
        while signal.state != .done { stepAll() }
    }

    /// EVTCHNOP_close: what is pending is forgotten. Answers whether something was.
    func forget(_ port: UInt32) -> Bool {
        if Int(port) >= 1024 * pages.count { return false }
        defer { word(port).pointee &= ~Self.pending }
        return word(port).pointee & Self.pending != 0
    }

    func stepAll() {
        for signal in signals { step(signal) }
        signals.removeAll { $0.state == .done }
    }

    func finish() { while !signals.isEmpty { stepAll() } }

    /// An event on its way into its queue.
    final class Signal {
        enum State { case raise, look, lock, mark, readTail, swapTail, tryBusy, setHead, setReady, done }

        let port: UInt32
        let queue: Int
        var state: State
        var hasLink = false
        var seen: UInt32 = 0

        init(_ port: UInt32, queue: Int, _ state: State) {
            (self.port, self.queue, self.state) = (port, queue, state)
        }
    }

    /// One access to shared memory.
    func step(_ signal: Signal) {
        let word = word(signal.port)
        switch signal.state {
        case .raise:
            if word.pointee & Self.pending == 0 { raised[signal.port, default: 0] += 1 }
            word.pointee |= Self.pending
            signal.state = .look
        case .look:
            signal.state = word.pointee & (Self.masked | Self.linked) != 0 ? .done : .lock
        case .lock:
            if isLocked[signal.queue] { return }
            isLocked[signal.queue] = true
            signal.state = .mark
        case .mark:
            let wasLinked = word.pointee & Self.linked != 0
            word.pointee |= Self.linked
            if wasLinked { return unlock(signal) }
            let tail = tails[signal.queue]
            signal.state = tail == 0 || tail == signal.port ? .setHead : .readTail
        case .readTail, .swapTail, .tryBusy: linkTail(signal)
        case .setHead:
            if !signal.hasLink { head(signal.queue).pointee = signal.port }
            tails[signal.queue] = signal.port
            signal.state = .setReady
        case .setReady:
            if !signal.hasLink {
                let ready = control.assumingMemoryBound(to: UInt32.self)
                let isNew = ready.pointee >> UInt32(signal.queue) & 1 == 0
                ready.pointee |= 1 << UInt32(signal.queue)
                if isNew { upcall() }
            }
            unlock(signal)
        case .done: break
        }
    }

    private func linkTail(_ signal: Signal) {
        let tail = word(tails[signal.queue])
        if signal.state == .readTail || signal.state == .tryBusy {
            if signal.state == .tryBusy { tail.pointee |= Self.busy }
            signal.seen = tail.pointee
            if signal.seen & Self.linked == 0 {
                tail.pointee &= ~Self.busy
                signal.state = .setHead
            } else {
                signal.state = .swapTail
            }
            return
        }
        if tail.pointee == signal.seen {
            tail.pointee = (signal.seen & ~(Self.link | Self.busy)) | signal.port
            signal.hasLink = true
            signal.state = .setHead
            return
        }
        if signal.seen & Self.busy != 0 {
            let gone = signal.seen & ~tail.pointee
            let come = tail.pointee & ~signal.seen
            if gone & (Self.pending | Self.linked) != 0 || come & Self.masked != 0 { wasDisturbed = true }
        }
        signal.state = .tryBusy
    }

    private func unlock(_ signal: Signal) {
        isLocked[signal.queue] = false
        signal.state = .done
    }
}
