// The connected sockets: bytes from them to the server, and from the server to them.
//
// Invariants:
// - A slot stands at the index that is its ConnectionID's raw value; a free one has descriptor -1.
// - A token is a slot's serial number (upper 32 bits, never 0) and its index. No serial is used twice in 2^32
//   connections, so an event that was meant for a closed socket finds nobody.
// - `interest` is what epoll has been told. It is changed only when it must be: a request and its reply on
//   an idle socket cost epoll_wait, read and write, and no fourth call.
// - In one turn of the loop a connection gets one read and one write at most, whatever it asks for.
// - Writable interest is on exactly while `blocked`: the socket took less than there was.
// - Readable interest is taken away only when it has woken us in vain, and is given back when the server
//   wants input.

import Glibc
import XenStore

/// The sockets of one server.
final class SocketConnections {
    private struct Slot {
        var descriptor: Int32 = -1
        var serial: UInt32 = 0
        var interest: UInt32 = 0
        /// The turn of its last write.
        var turn: UInt32 = 0
        var blocked = false
        /// Stands in the list of those that write in the next turn.
        var late = false

        func token(_ index: Int) -> UInt64 { UInt64(serial) << 32 | UInt64(index) }
    }

    private static let readSize = 64 << 10

    private let server: Server
    private let poll: Poll
    private let buffer = ReadBuffer(capacity: readSize)
    // Every turn comes by here: checking at run time that nobody else is at these costs more than the rest.
    @exclusivity(unchecked) private var slots: [Slot] = []
    private var lastSerial: UInt32 = 0
    @exclusivity(unchecked) private var turn: UInt32 = 0
    /// Tokens of those that have more to write, but had their write in this turn.
    @exclusivity(unchecked) private var late: [UInt64] = []
    private(set) var count = 0
    /// Counts up with every socket that is closed.
    private(set) var closures: UInt64 = 0

    init(server: Server, poll: Poll) {
        self.server = server
        self.poll = poll
    }

    /// Whether there is something to write that no socket's readiness will remind us of.
    var hasLateOutput: Bool { !late.isEmpty }

    /// Takes over a connected, non-blocking socket. Where the kernel has no memory to watch it, it is closed.
    func add(_ descriptor: Int32, _ subject: Subject, readOnly: Bool, peer: SocketPeer) {
        let connection = server.connect(subject, readOnly: readOnly, peer: peer)
        let index = Int(connection.rawValue)
        if index >= slots.count {
            slots.append(contentsOf: repeatElement(Slot(), count: index + 1 - slots.count))
        }
        lastSerial = lastSerial == .max ? 1 : lastSerial + 1
        let slot = Slot(
            descriptor: descriptor, serial: lastSerial, interest: Poll.readable, turn: turn &- 1)
        slots[index] = slot
        count += 1
        if !poll.add(descriptor, slot.interest, token: slot.token(index)) { drop(index) }
    }

    /// Begins a turn of the loop: whoever had more than its write in the last one goes on.
    func beginTurn() {
        turn &+= 1
        if late.isEmpty { return }
        let tokens = late
        late.removeAll(keepingCapacity: true)
        for token in tokens {
            guard let index = find(token) else { continue }
            slots[index].late = false
            writeOutput(index)
        }
    }

    /// Handles what epoll says of a socket.
    func ready(_ token: UInt64, _ events: UInt32) {
        guard let index = find(token) else { return }
        if events & Poll.writable != 0 {
            slots[index].blocked = false
            writeOutput(index)
            guard slots[index].descriptor >= 0 else { return }
            updateInterest(index)
        }
        let gone = events & Poll.gone != 0
        if gone || events & Poll.readable != 0 { readInput(index, gone: gone) }
    }

    /// The server says that something has changed about a connection, which may be nobody's by now.
    func settle(_ connection: ConnectionID) {
        let index = Int(connection.rawValue)
        guard index < slots.count, slots[index].descriptor >= 0 else { return }
        if server.mustClose(connection) { return drop(index) }
        if !slots[index].blocked, server.outputCount(connection) > 0 {
            if slots[index].turn == turn { postpone(index) } else { writeOutput(index) }
        }
        if slots[index].descriptor >= 0 { updateInterest(index) }
    }

    /// Closes all, without another word.
    func closeAll() {
        for index in slots.indices where slots[index].descriptor >= 0 { drop(index) }
    }

    private func find(_ token: UInt64) -> Int? {
        let index = Int(token & 0xFFFF_FFFF)
        guard index < slots.count, slots[index].descriptor >= 0 else { return nil }
        return slots[index].serial == UInt32(token >> 32) ? index : nil
    }

    private func connection(_ index: Int) -> ConnectionID { ConnectionID(rawValue: UInt32(index)) }

    /// One read. A peer that has closed its side still gets the output that one write takes.
    private func readInput(_ index: Int, gone: Bool) {
        let connection = connection(index)
        guard server.wantsInput(connection) else {
            if gone { drop(index) } else { ignoreInput(index) }
            return
        }
        switch buffer.fill(from: slots[index].descriptor) {
        case .moved(0):
            writeOutput(index)
            drop(index)
        case .moved(let count):
            buffer.with(first: count) { server.receive(connection, $0) }
        case .wouldBlock: break
        case .failed: drop(index)
        }
    }

    /// One write of what is unsent, if anything is.
    private func writeOutput(_ index: Int) {
        let connection = connection(index)
        let descriptor = slots[index].descriptor
        guard descriptor >= 0, server.outputCount(connection) > 0 else { return }
        slots[index].turn = turn
        var offered = 0
        var transfer = Transfer.wouldBlock
        server.withOutput(connection) { bytes in
            offered = bytes.count
            transfer = writeSome(descriptor, bytes)
        }
        switch transfer {
        case .moved(let count):
            slots[index].blocked = count < offered
            server.sent(connection, count)
        case .wouldBlock: slots[index].blocked = true
        case .failed:
            drop(index)
            return
        }
        if slots[index].blocked {
            updateInterest(index)
        } else if server.outputCount(connection) > 0 {
            postpone(index)
        }
    }

    private func postpone(_ index: Int) {
        if slots[index].late { return }
        slots[index].late = true
        late.append(slots[index].token(index))
    }

    /// Readable but unwanted: epoll is not to wake us for it again.
    private func ignoreInput(_ index: Int) {
        setInterest(index, slots[index].interest & ~Poll.readable)
    }

    private func updateInterest(_ index: Int) {
        var interest = slots[index].interest & Poll.readable
        if interest == 0, server.wantsInput(connection(index)) { interest = Poll.readable }
        if slots[index].blocked { interest |= Poll.writable }
        setInterest(index, interest)
    }

    private func setInterest(_ index: Int, _ interest: UInt32) {
        if slots[index].interest == interest { return }
        slots[index].interest = interest
        poll.change(slots[index].descriptor, interest, token: slots[index].token(index))
    }

    private func drop(_ index: Int) {
        if slots[index].descriptor < 0 { return }
        server.disconnect(connection(index))
        close(slots[index].descriptor)
        slots[index] = Slot()
        count -= 1
        closures &+= 1
    }
}
