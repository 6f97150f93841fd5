// Does a reservation hold, whatever others do meanwhile? (The simulation beside this leaves reservations
// out.)

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

/// Guests and the control domain, each with its requests in order, taken in turns.
private struct Crowd {
    let server: Server
    var random: SplitMix64
    var clients: [Client] = []
    /// What each has yet to send.
    var waiting: [[Step.Request]]
    /// The transactions that each has open, and the request of which the reply is still to come.
    var open: [[UInt32]]
    var pending: [Message?]
    /// How the commits of transactions that had the reservation ended.
    var commits = 0
    var conflicts = 0

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
        var configuration = ServerConfiguration()
        configuration.hashSeed = (random.next(), random.next())
        server = Server(configuration, world: TestWorld())
        for domain: UInt16 in [0, 0, 1, 2, 3] { clients.append(Client(server, domain: domain)) }
        waiting = clients.map { _ in [] }
        open = clients.map { _ in [] }
        pending = clients.map { _ in nil }
        for path in ["/a", "/b", "/local/domain/2"] {
            _ = clients[0].request(.makeDirectory, [path])
            _ = clients[0].request(.setPermissions, [path, "b0"])
        }
    }

    mutating func turn() {
        let slot = random.below(clients.count)
        if random.chance(10) { server.advance(to: server.now + UInt64(random.below(4_000_000))) }
        takeReply(slot)
        if pending[slot] != nil { return }
        if waiting[slot].isEmpty {
            let step = Step(from: &random, slots: Simulation.slotCount)
            guard case .requests(let requests) = step.action else { return }
            waiting[slot] = requests
        }
        // Everybody has lost twice, always.
        server.connections[Int(clients[slot].id.rawValue)]!.conflicts = 2
        send(slot, waiting[slot].removeFirst())
    }

    private mutating func send(_ slot: Int, _ request: Step.Request) {
        let which = request.transaction == 0 ? 0 : open[slot].last ?? 0
        let message = Message(
            type: request.type, requestID: 1, transactionID: which, payload: request.payload)
        pending[slot] = message
        let holder = server.transactions.holder
        let isHolder = which != 0 && server.transactions.find(clients[slot].id.rawValue, which) == holder
        clients[slot].send(message.bytes)
        guard let reply = takeReply(slot) else { return }
        if isHolder && message.type == MessageType.transactionEnd.rawValue {
            if reply.errorName == nil { commits += 1 }
            if reply.errorName == "EAGAIN" { conflicts += 1 }
        }
    }

    @discardableResult private mutating func takeReply(_ slot: Int) -> Message? {
        guard let message = pending[slot], let reply = clients[slot].reply() else { return nil }
        pending[slot] = nil
        switch MessageType(rawValue: message.type) {
        case .transactionStart:
            if let id = reply.strings.first.flatMap({ UInt32($0) }) { open[slot].append(id) }
        case .transactionEnd where reply.errorName != "EINVAL":
            open[slot].removeAll { $0 == message.transactionID }
        case .resetWatches where reply.errorName == nil: open[slot] = []
        default: break
        }
        return reply
    }
}

@Test(arguments: seeds) func reservationsHold(seed: UInt64) {
    var crowd = Crowd(seed: seed)
    let again: Comment = "repeat: XENSTORE_SEED=\(seed) swift test --filter reservationsHold"
    for turn in 0..<2000 {
        crowd.turn()
        if turn % 20 == 0 { #expect(crowd.server.checkInvariants() == 0, again) }
    }
    #expect(crowd.commits > 0, again)
    #expect(crowd.conflicts == 0, again)
}
