// Pending event channels as Xen tells them to the domain that gets the events: by its FIFO ABI
// (`EventQueues`), or by the older 2-level one (`EventBits`). Views of memory that Xen changes at the same
// time, and nothing else: no hypercalls.
//
// The FIFO ABI has 2^17 ports. A control block, and a word for each port, 1024 of them a page:
//
//     control block, 72 bytes         event word, bits
//     offset 0   u32 ready: queues    0 to 16  link: the next port of the queue, 0: there is none
//     offset 8   u32 head[16]: the    28       busy: Xen is changing the link, and nobody else may
//                first port of each            change anything
//                                     29       linked: the port is in a queue
//                                     30       masked: it is not put into one
//                                     31       pending
//
// Xen sets `pending` and, where the port is neither masked nor linked, `linked`; then it links the port
// behind the last one, if that is still linked; if not, the queue was empty, so that it sets the queue's
// head and then its bit in `ready`. So the one word of the last port decides, for both sides, whether a port
// is behind it: we take `linked` and the link away in one step, and where there was no link, the head counts
// again.
//
// Invariants:
// - `ready` has a bit for each queue that we have begun and not emptied; `heads`, its next port, if it is
//   known.
// - Words of ports that nobody has bound are masked.

import CMachine

/// Ports of Xen's FIFO ABI.
struct EventQueues {
    static var controlCount: Int { 72 }
    static var portsPerPage: Int { 1024 }

    private enum Word {
        static var link: UInt32 { 1 << 17 - 1 }
        static var busy: UInt32 { 1 << 28 }
        static var linked: UInt32 { 1 << 29 }
        static var masked: UInt32 { 1 << 30 }
        static var pending: UInt32 { 1 << 31 }
    }

    private let control: UnsafeMutableRawPointer
    private var pages: [UnsafeMutableRawPointer] = []
    private var ready: UInt32 = 0
    private var heads = InlineArray<16, UInt32>(repeating: 0)

    /// `control`: `controlCount` bytes, aligned to 8, all zero.
    init(_ control: UnsafeMutableRawPointer) { self.control = control }

    /// So many ports have words, from 0 on.
    var portCount: Int { pages.count * Self.portsPerPage }

    /// Makes a page of 4096 bytes one of words that are masked.
    static func prepare(_ page: UnsafeMutableRawPointer) {
        for port in 0..<portsPerPage { (page + 4 * port).storeBytes(of: Word.masked, as: UInt32.self) }
    }

    /// Adds the words of the next 1024 ports; Xen has the page already.
    mutating func add(_ page: UnsafeMutableRawPointer) { pages.append(page) }

    private func word(_ port: UInt32) -> UnsafeMutableRawPointer? {
        let page = Int(port) / Self.portsPerPage
        if port == 0 || page >= pages.count { return nil }
        return pages[page] + 4 * (Int(port) % Self.portsPerPage)
    }

    /// Changes a word as Xen allows it: not while it is busy, which it is for a few instructions of Xen's.
    /// Answers what was there.
    @discardableResult
    private func change(
        _ word: UnsafeMutableRawPointer, clearing: UInt32 = 0, setting: UInt32 = 0
    ) -> UInt32 {
        while true {
            let found = machine_load32(word) & ~Word.busy
            if machine_replace32(word, found, found & ~clearing | setting) != 0 { return found }
            machine_pause()
        }
    }

    /// No event of this port is handed over any more, until Xen is asked to unmask it.
    func mask(_ port: UInt32) {
        if let word = word(port) { change(word, setting: Word.masked) }
    }

    /// Some queue was left before its end.
    var hasMore: Bool { ready != 0 }

    /// Hands over ports that are pending, in Xen's order, and makes them not pending. At most as many as
    /// there are words, however fast others signal: `hasMore` then.
    mutating func take(_ body: (UInt32) -> Void) {
        ready |= machine_exchange32(control, 0) & 0xFFFF
        var budget = portCount
        while ready != 0 && budget > 0 {
            budget -= 1
            if let port = takeFirst(of: ready.trailingZeroBitCount) { body(port) }
        }
    }

    /// Takes the first port out of a queue that is ready. Nil: the port is masked, or not pending any more.
    private mutating func takeFirst(of queue: Int) -> UInt32? {
        var port = heads[queue]
        if port == 0 { port = machine_load32(control + 8 + 4 * queue) }
        guard let word = word(port) else {
            // Not a port: Xen has nothing there.
            leave(queue)
            return nil
        }
        let link = change(word, clearing: Word.linked | Word.link) & Word.link
        heads[queue] = link
        if link == 0 { leave(queue) }
        let found = machine_load32(word)
        if found & Word.pending == 0 || found & Word.masked != 0 { return nil }
        change(word, clearing: Word.pending)
        return port
    }

    private mutating func leave(_ queue: Int) {
        ready &= ~(1 << UInt32(queue))
        heads[queue] = 0
    }
}

/// Ports of Xen's 2-level ABI, in shared_info: a bit a port that says pending, one that says masked, and a
/// selector with a bit for each 64 ports of which some are pending.
struct EventBits {
    static var portCount: Int { 4096 }
    private static var words: Int { 64 }

    private enum Offset {
        static var selector: Int { 8 }
        static var pending: Int { 2048 }
        static var mask: Int { 2560 }
    }

    private let shared: UnsafeMutableRawPointer

    /// Masks all ports.
    init(_ shared: UnsafeMutableRawPointer) {
        self.shared = shared
        for word in 0..<Self.words { machine_store64(shared + Offset.mask + 8 * word, .max) }
    }

    private func place(_ offset: Int, _ port: UInt32) -> UnsafeMutableRawPointer {
        shared + offset + 8 * Int(port / 64)
    }

    func mask(_ port: UInt32) {
        _ = machine_set_bits(place(Offset.mask, port), 1 << UInt64(port % 64))
    }

    /// What is pending of a port that is closed does not count for the next that has its number.
    func forget(_ port: UInt32) {
        _ = machine_clear_bits(place(Offset.pending, port), 1 << UInt64(port % 64))
    }

    /// Hands over the ports that are pending, and makes them not pending.
    func take(_ body: (UInt32) -> Void) {
        var selected = machine_exchange(shared + Offset.selector, 0)
        while selected != 0 {
            let word = selected.trailingZeroBitCount
            selected &= selected - 1
            let pending = shared + Offset.pending + 8 * word
            var bits = machine_load64(pending) & ~machine_load64(shared + Offset.mask + 8 * word)
            _ = machine_clear_bits(pending, bits)
            while bits != 0 {
                body(UInt32(word * 64 + bits.trailingZeroBitCount))
                bits &= bits - 1
            }
        }
    }
}
