// What the fuzzers do with their bytes. The entry points stand in Tests/Fuzz; ordinary tests call these too.

import XenStore
import XenStoreTypes

/// Bytes as they could come from hostile peers: cut into pieces for three sockets and two rings, handed
/// over without looking, while domains are born and die.
///
/// The format: one byte that chooses the connection (the lowest three bits: 0 to 2 sockets, 3 and 4 the
/// rings of domains 1 and 2) and whether its output is fetched first (the highest bit), one byte of
/// length, then that many bytes. With 5, 6 and 7 something happens to a domain instead, and the second
/// byte says what. Traps when an invariant does not hold, or when the server says something that is no
/// message.
public func fuzzMessages(_ bytes: UnsafeBufferPointer<UInt8>) {
    let peers = FuzzPeers()
    var position = 0
    while position + 1 < bytes.count {
        let slot = Int(bytes[position] & 7)
        let second = bytes[position + 1]
        if slot >= FuzzPeers.count {
            peers.happen(second)
            position += 2
            continue
        }
        let end = min(position + 2 + Int(second), bytes.count)
        peers.send(slot, [UInt8](bytes[(position + 2)..<end]), isReadFirst: bytes[position] & 0x80 != 0)
        position = end
    }
    peers.leave()
}

/// Those whose bytes a fuzzer makes up.
private final class FuzzPeers {
    static let count = 5
    private let world = TestWorld(domains: [0])
    private let server: Server
    private var sockets: [Client] = []
    /// The guests' side of the rings, with the beginning it belongs to.
    private var rings: [DomainID: (beginning: Int?, client: Client)] = [:]

    init() {
        world.canIntroduce = true
        server = Server(ServerConfiguration(), world: world)
        for slot in 0..<3 { sockets.append(connect(slot)) }
        for number in 1...2 {
            world.create(UInt16(number))
            _ = sockets[0].request(.introduce, ["\(number)", "7", "9"])
        }
    }

    private func connect(_ slot: Int) -> Client {
        Client(server, slot == 2 ? .user(1000) : .domain(.zero), readOnly: slot == 1)
    }

    private func ring(_ domain: DomainID) -> Client? {
        guard let id = world.rings[domain] else { return nil }
        if let known = rings[domain], known.beginning == world.beginnings[domain] { return known.client }
        let client = Client(server, connection: id)
        rings[domain] = (world.beginnings[domain], client)
        return client
    }

    func send(_ slot: Int, _ bytes: [UInt8], isReadFirst: Bool) {
        guard let client = slot < 3 ? sockets[slot] : ring(DomainID(UInt16(slot - 2))) else { return }
        if isReadFirst { requireWellFormed(client.drain()) }
        client.send(bytes)
        if slot < 3 && client.mustClose {
            client.close()
            sockets[slot] = connect(slot)
        }
    }

    /// The lowest bit chooses the domain, the next three say what happens.
    func happen(_ what: UInt8) {
        let domain = DomainID(UInt16(1 + what & 1))
        switch what >> 1 & 7 {
        case 0: world.create(domain.rawValue)
        case 1: world.domains?[domain] = nil
        case 2: world.domains?[domain]?.isShutdown.toggle()
        case 3: world.domains?[domain]?.isDying = true
        case 4: world.attachFailure = world.attachFailure == nil ? .io : nil
        case 5: server.domainsChanged()
        case 6:
            if let ring = world.rings[domain] { server.reconnect(ring) }
            world.noteBeginning(domain)
        default:
            if let ring = world.rings[domain] { server.deactivate(ring) }
            world.noteBeginning(domain)
        }
    }

    /// All say what is left, and go; domains die.
    func leave() {
        for domain in [DomainID(1), DomainID(2)] {
            if let ring = ring(domain) { requireWellFormed(ring.drain()) }
        }
        for client in sockets { requireWellFormed(client.drain()) }
        precondition(server.checkInvariants() == 0, "an invariant does not hold")
        for client in sockets { client.close() }
        world.domains = [:]
        server.domainsChanged()
        precondition(world.rings.keys.allSatisfy { $0 == .zero }, "a ring outlives its domain")
        precondition(server.checkInvariants() == 0, "an invariant does not hold when all are gone")
    }
}

private func requireWellFormed(_ messages: [Message]) {
    for message in messages {
        precondition(message.payload.count <= MessageHeader.payloadMax, "a payload over 4096 bytes")
        guard let type = MessageType(rawValue: message.type) else {
            preconditionFailure("a reply of no known type")
        }
        if type == .watchEvent {
            precondition(message.requestID == 0 && message.transactionID == 0 && message.strings.count == 2)
        }
        if type == .error {
            let isKnown = ErrorName.allCases.contains { "\($0.name)" == message.errorName }
            precondition(isKnown && message.strings.count == 1, "no error name: \(message)")
        }
    }
}

/// Bytes as a program of requests, carried out by the server and by the reference store: the first byte
/// chooses the quotas, every step after it takes what it needs. Traps on the first disagreement.
public func fuzzRequests(_ bytes: UnsafeBufferPointer<UInt8>) {
    var choices = ByteChoices([UInt8](bytes))
    let simulation = Simulation(seed: UInt64(choices.byte()))
    do {
        try simulation.prepare()
        while !choices.isEmpty { try simulation.take(Step(from: &choices, slots: Simulation.slotCount)) }
        try simulation.compareTrees()
    } catch {
        fatalError("\(error)")
    }
}
