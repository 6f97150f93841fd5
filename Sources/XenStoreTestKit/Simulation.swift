// A server and the reference store, led through the same steps; after each of them they must agree.
//
// Invariants after every step that passed:
// - each connection's output was what the reference expected, in order, and all of it has been read;
// - `server.checkInvariants()` found nothing, and the server has as many nodes as the reference;
// - no connection has had two EAGAINs in a row (its next transaction would make others wait; tests of their
//   own cover that): the one that got the second starts anew.

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
        var isReadOnly: Bool
        var client: Client
    }

    /// The generations that DIRECTORY_PART showed for a path, by the state that it was in.
    struct Generation {
        var text: [UInt8]
        var listing: Int
        var change: Int
    }

    /// How many connections there are: dom0 twice and read-only, three guests, a read-only one, a plain user.
    public static let slotCount = 8
    public let server: Server
    public let world: TestWorld
    public let reference = ReferenceStore()
    var slots: [Slot] = []
    var generations: [String: Generation] = [:]
    private var lastRequestID: UInt32 = 0

    /// `seed` decides the quotas, not the steps.
    public init(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        world = TestWorld(domains: [0, 1, 2, 3])
        reference.domains = [0, 1, 2, 3]
        var configuration = ServerConfiguration()
        configuration.hashSeed = (random.next(), random.next())
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
        server = Server(configuration, world: world)
        let kinds: [(ReferenceSubject, Bool)] = [
            (.domain(0), false), (.domain(1), false), (.domain(2), false), (.domain(3), false),
            (.domain(0), false),
            (.domain(0), true), (.domain(3), true), (.user(1000), false),
        ]
        for (subject, isReadOnly) in kinds { addSlot(subject, isReadOnly) }
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

    /// The homes and the two trees in which everybody may meddle.
    public func prepare() throws {
        for (path, list) in [
            ("/local/domain/0", ["n0"]), ("/local/domain/1", ["n1"]), ("/local/domain/2", ["n2", "r1"]),
            ("/local/domain/3", ["n3"]), ("/a", ["b0"]), ("/b", ["r1", "b2"]),
        ] {
            let make = Step.Request(
                type: MessageType.makeDirectory.rawValue, transaction: 0, payload: Array(path.utf8) + [0])
            let open = Step.Request(
                type: MessageType.setPermissions.rawValue, transaction: 0,
                payload: [UInt8](strings: [path] + list))
            try take(Step(slot: 0, action: .requests([make])))
            try take(Step(slot: 0, action: .requests([open])))
        }
    }

    /// Takes one step on both sides and compares.
    public func take(_ step: Step) throws {
        switch step.action {
        case .requests(let requests):
            var bytes: [UInt8] = []
            for request in requests {
                // One after the other, since a request may speak of the transaction that the one before it
                // started.
                let message = message(step.slot, request)
                bytes += message.bytes
                reference.handle(step.slot, message)
            }
            slots[step.slot].client.send(bytes)
        case .pieces(let request, let cuts):
            let message = message(step.slot, request)
            var from = 0
            for cut in cuts + [message.bytes.count] {
                slots[step.slot].client.send(Array(message.bytes[from..<cut]))
                from = cut
            }
            reference.handle(step.slot, message)
        case .vanish(let request, let count):
            let bytes = message(step.slot, request).bytes
            slots[step.slot].client.send(Array(bytes.prefix(min(count, bytes.count - 1))))
            restart(step.slot)
        case .oversized(let length):
            slots[step.slot].client.send(Message.header(1, 1, 0, length))
            guard slots[step.slot].client.mustClose else {
                throw disagreement("not closed after length \(length)")
            }
            restart(step.slot)
        }
        try compareOutputs(step)
        let violations = server.checkInvariants()
        guard violations == 0 else {
            let lines = world.lines.filter { $0.level == .error }.map(\.text).suffix(5)
            throw disagreement("\(violations) invariants do not hold after \(step): \(lines)")
        }
        world.lines = []
    }

    private func message(_ slot: Int, _ request: Step.Request) -> Message {
        lastRequestID &+= 1
        var transaction: UInt32 = 0
        if request.transaction > 0 {
            let open = reference.openTransactions(slot)
            transaction = request.transaction <= open.count ? open[request.transaction - 1] : open.last ?? 0
        }
        return Message(
            type: request.type, requestID: lastRequestID, transactionID: transaction, payload: request.payload
        )
    }

    private func addSlot(_ subject: ReferenceSubject, _ isReadOnly: Bool) {
        reference.connect(slots.count, subject, readOnly: isReadOnly)
        slots.append(
            Slot(subject: subject, isReadOnly: isReadOnly, client: makeClient(subject, isReadOnly)))
    }

    private func makeClient(_ subject: ReferenceSubject, _ isReadOnly: Bool) -> Client {
        switch subject {
        case .domain(let id): Client(server, domain: id, readOnly: isReadOnly)
        case .user(let uid): Client(server, .user(uid), readOnly: isReadOnly)
        }
    }

    /// The slot's peer goes and a new one comes.
    func restart(_ slot: Int) {
        slots[slot].client.close()
        reference.disconnect(slot)
        reference.connect(slot, slots[slot].subject, readOnly: slots[slot].isReadOnly)
        slots[slot].client = makeClient(slots[slot].subject, slots[slot].isReadOnly)
    }

    func disagreement(_ text: String) -> Disagreement { Disagreement(step: -1, description: text) }
}
