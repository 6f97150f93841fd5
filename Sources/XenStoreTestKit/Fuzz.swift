// What the fuzzers do with their bytes. The entry points stand in Tests/Fuzz; ordinary tests call these too.

import XenStore
import XenStoreTypes

/// Bytes as they could come from hostile peers: cut into pieces for five connections, handed over without looking.
///
/// The format: one byte that chooses the connection (the lowest three bits) and whether its output is fetched
/// first (the highest bit), one byte of length, then that many bytes. Traps when an invariant does not hold, or when
/// the server says something that is no message.
public func fuzzMessages(_ bytes: UnsafeBufferPointer<UInt8>) {
    let server = Server(ServerConfiguration(), world: TestWorld(domains: [0, 1, 2]))
    let subjects: [Subject] = [
        .domain(DomainID(0)), .domain(DomainID(1)), .domain(DomainID(2)), .user(1000), .domain(DomainID(0)),
    ]
    func connect(_ slot: Int) -> Client {
        Client(server, subjects[slot], readOnly: slot == 4, isSocket: slot != 1)
    }
    var clients = subjects.indices.map(connect)
    var position = 0
    while position + 1 < bytes.count {
        let slot = Int(bytes[position] & 7) % clients.count
        if bytes[position] & 0x80 != 0 { requireWellFormed(clients[slot].drain()) }
        let end = min(position + 2 + Int(bytes[position + 1]), bytes.count)
        clients[slot].send([UInt8](bytes[(position + 2)..<end]))
        position = end
        if clients[slot].mustClose {
            clients[slot].close()
            clients[slot] = connect(slot)
        }
    }
    for client in clients { requireWellFormed(client.drain()) }
    precondition(server.checkInvariants() == 0, "an invariant does not hold")
    for client in clients { client.close() }
    precondition(server.checkInvariants() == 0, "an invariant does not hold after the last disconnect")
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

/// Bytes as a program of requests, carried out by the server and by the reference store: the first byte chooses the
/// quotas, every step after it takes what it needs. Traps on the first disagreement.
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
