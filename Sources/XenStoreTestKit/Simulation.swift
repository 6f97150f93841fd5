// A server and the reference store, led through the same steps; after each of them they must agree.
//
// Invariants after every step that passed:
// - each connection's output was what the reference expected, in order, and all of it has been read, but for
//   those
//   that are asleep;
// - `server.checkInvariants()` found nothing, and the server has as many nodes as the reference;
// - no connection has had two EAGAINs in a row (its next transaction would make others wait; tests of their
//   own cover that): the one that got the second starts anew;
// - a slot of a ring has a client exactly while the ring is attached.

import XenStore
import XenStoreTypes

/// What a simulation found wrong.
public struct Disagreement: Error, CustomStringConvertible {
    public var step: Int
    public var description: String
}

/// One run. Time stands still in it.
public final class Simulation {
    struct Slot {
        var subject: ReferenceSubject
        var isReadOnly = false
        /// The domain whose ring it is; nil: a socket.
        var ring: UInt16?
        /// Nil while the ring is not attached.
        var client: Client?
        /// Which of its domain's beginnings the client belongs to.
        var beginning = 0
        /// The rest of a half-sent request, and the whole of it.
        var rest: (bytes: [UInt8], message: Message)?
        /// Its output is not read until it speaks again.
        var isAsleep = false
        /// Its name in the reference.
        var key: Int
    }

    /// How many connections there are besides guests: dom0 by two sockets, a read-only one and its ring; a
    /// plain user.
    public static let hostSlots = 5
    public static let guests = 6
    public static let slotCount = hostSlots + guests
    public let server: Server
    public let world = TestWorld(domains: [0])
    public let reference = ReferenceStore()
    var slots: [Slot] = []
    var matcher = OutputMatcher()
    /// A domain that has changed on the host, of which the store has not been told.
    var unnoticed: UInt16?
    /// How many domains have been made.
    public internal(set) var births = 0
    private var lastRequestID: UInt32 = 0

    /// `seed` decides the quotas, not the steps. There can be domains up to the number `guests`.
    public init(seed: UInt64, guests: Int = Simulation.guests) {
        var random = SplitMix64(seed: seed)
        world.canIntroduce = true
        reference.hasHypervisor = true
        reference.domains = [0: ReferenceDomain(uniqueID: 0)]
        var configuration = ServerConfiguration()
        configuration.hashSeed = (random.next(), random.next())
        Self.chooseQuotas(&random, &configuration, reference)
        server = Server(configuration, world: world)
        slots = [
            Slot(subject: .domain(0), key: 0), Slot(subject: .domain(0), key: 1),
            Slot(subject: .domain(0), isReadOnly: true, key: 2), Slot(subject: .user(1000), key: 3),
        ]
        for index in slots.indices { connect(index) }
        for domain in 0...UInt16(guests) {
            slots.append(
                Slot(subject: .domain(domain), ring: domain, key: ReferenceStore.ringKey(domain)))
        }
    }

    /// Small quotas, so that they are met.
    static func chooseQuotas(
        _ random: inout SplitMix64, _ configuration: inout ServerConfiguration, _ reference: ReferenceStore
    ) {
        let limits: [(QuotaName, String, [UInt32])] = [
            (.nodes, "nodes", [8, 15, 40, 1000]), (.watches, "watches", [2, 5, 128]),
            (.transactions, "transactions", [1, 3, 10]), (.nodeSize, "node-size", [10, 100, 2048]),
            (.pathMax, "path-max", [5, 20, 2048]), (.nodePermissions, "node-permissions", [2, 4, 5]),
            (.transactionNodes, "transaction-nodes", [0]),
        ]
        for (quota, name, values) in limits {
            let value = random.one(of: values)
            configuration.quotas[quota] = value
            reference.quotas[name] = Int(value)
        }
    }

    /// Runs steps until one disagrees.
    public func run(_ steps: [Step]) throws {
        try prepare()
        for (number, step) in steps.enumerated() {
            do {
                try take(step)
            } catch var found as Disagreement {
                found.step = number
                throw found
            }
        }
        try compareTrees()
    }

    /// The first domains, their homes and the two trees in which everybody may meddle.
    public func prepare() throws {
        func ask(_ type: MessageType, _ strings: [String]) throws {
            let request = Step.Request(
                type: type.rawValue, transaction: 0, payload: [UInt8](strings: strings))
            try take(Step(slot: 0, action: .requests([request])))
        }
        try ask(.introduce, ["0", "1", "2"])
        for domain in 1...3 {
            try take(
                Step(
                    slot: 0,
                    action: .life(
                        Life(event: .create, domain: UInt16(domain), isNoticed: true),
                        then: Step.Request.birth(of: UInt16(domain)))))
        }
        for (path, list) in [
            ("/local/domain/0", ["n0"]), ("/local/domain/2", ["n2", "r1"]), ("/a", ["b0"]),
            ("/b", ["r1", "b2"]),
        ] {
            try ask(.makeDirectory, [path])
            try ask(.setPermissions, [path] + list)
        }
    }

    /// Takes one step on both sides and compares.
    public func take(_ step: Step) throws {
        world.attachFailure = step.attachFails ? .io : nil
        reference.attachFailure = world.attachFailure
        if slots[step.slot].isAsleep {
            slots[step.slot].isAsleep = false
            try compareOutputs(step)
        }
        try act(step)
        followRings()
        try compareOutputs(step)
        let violations = server.checkInvariants()
        guard violations == 0 else {
            let lines = world.lines.filter { $0.level == .error }.map(\.text).suffix(5)
            throw disagreement("\(violations) invariants do not hold after \(step): \(lines)")
        }
        guard server.nodeCount == reference.tree.nodes.count else {
            throw disagreement(
                "\(server.nodeCount) nodes instead of \(reference.tree.nodes.count) after \(step)")
        }
        world.lines = []
    }

    private func act(_ step: Step) throws {
        if case .life(let life, let requests) = step.action {
            happen(life)
            followRings()
            try compareOutputs(step)
            return send(step.slot, requests)
        }
        guard slots[step.slot].client != nil else { return }
        switch step.action {
        case .life: break
        case .requests(let requests): send(step.slot, requests)
        case .pieces(let request, let cuts):
            finishHalf(step.slot)
            let message = message(step.slot, request)
            var from = 0
            for cut in cuts + [message.bytes.count] {
                slots[step.slot].client?.send(Array(message.bytes[from..<cut]))
                from = cut
            }
            reference.handle(slots[step.slot].key, message)
        case .half(let request, let count): sendHalf(step.slot, request, count)
        case .sleep: slots[step.slot].isAsleep = true
        case .vanish(let request, let count):
            sendHalf(step.slot, request, count)
            restart(step.slot)
        case .oversized(let length): try sendOversized(step.slot, length)
        }
    }

    private func send(_ slot: Int, _ requests: [Step.Request]) {
        finishHalf(slot)
        var bytes: [UInt8] = []
        for request in requests {
            // One after the other, since a request may speak of the transaction that the one before it
            // started.
            let message = message(slot, request)
            bytes += message.bytes
            reference.handle(slots[slot].key, message)
        }
        slots[slot].client?.send(bytes)
    }

    private func sendHalf(_ slot: Int, _ request: Step.Request, _ count: Int) {
        finishHalf(slot)
        let message = message(slot, request)
        let half = message.bytes.prefix(min(count, message.bytes.count - 1))
        slots[slot].client?.send(Array(half))
        slots[slot].rest = (Array(message.bytes.dropFirst(half.count)), message)
    }

    private func finishHalf(_ slot: Int) {
        guard let rest = slots[slot].rest else { return }
        slots[slot].rest = nil
        slots[slot].client?.send(rest.bytes)
        reference.handle(slots[slot].key, rest.message)
    }

    private func sendOversized(_ slot: Int, _ length: UInt32) throws {
        finishHalf(slot)
        slots[slot].client?.send(Message.header(1, 1, 0, length))
        guard slots[slot].client?.mustClose != false else {
            throw disagreement("not closed after length \(length)")
        }
        if let domain = slots[slot].ring { reference.deactivate(domain) } else { restart(slot) }
    }

    private func message(_ slot: Int, _ request: Step.Request) -> Message {
        lastRequestID &+= 1
        var transaction: UInt32 = 0
        if request.transaction > 0 {
            let open = reference.openTransactions(slots[slot].key)
            transaction = request.transaction <= open.count ? open[request.transaction - 1] : open.last ?? 0
        }
        return Message(
            type: request.type, requestID: lastRequestID, transactionID: transaction, payload: request.payload
        )
    }

    private func connect(_ slot: Int) {
        let (subject, isReadOnly) = (slots[slot].subject, slots[slot].isReadOnly)
        reference.connect(slots[slot].key, subject, readOnly: isReadOnly)
        switch subject {
        case .domain(let id): slots[slot].client = Client(server, domain: id, readOnly: isReadOnly)
        case .user(let uid): slots[slot].client = Client(server, .user(uid), readOnly: isReadOnly)
        }
    }

    /// The slot's peer goes and a new one comes; a ring is reset.
    func restart(_ slot: Int) {
        if let domain = slots[slot].ring { return reconnect(domain) }
        slots[slot].rest = nil
        slots[slot].isAsleep = false
        slots[slot].client?.close()
        reference.disconnect(slots[slot].key)
        connect(slot)
    }

    func disagreement(_ text: String) -> Disagreement { Disagreement(step: -1, description: text) }
}
