// What happens in a durable simulation, step by step; and the machine behind the rings (DurableSimulation).

import XenStore
import XenStoreRing
import XenStoreTypes

/// One step: an ordinary one, or something that happens to the store or to the daemon.
public struct DurableStep: Sendable, CustomStringConvertible {
    public enum Action: Sendable {
        case ordinary(Step)
        /// Several in one turn.
        case together([Step])
        /// Several, one after the other, so that each sees what the others did.
        case inTurn([Step])
        /// What the backend does from now on; time passes, so that the server tries.
        case mode(TestBackend.Mode)
        /// The backend has so many more batches for good.
        case complete(Int)
        /// The daemon is killed, in so many turns, at this moment; perhaps again when it comes up.
        case kill([(turns: Int, moment: DurableSimulation.Moment)])
        case reboot
        /// The journal is begun anew.
        case compact
    }

    public var action: Action

    init(_ action: Action) { self.action = action }

    public init<C: Choices>(from choices: inout C) {
        func ordinary(_ choices: inout C) -> Step {
            Step(from: &choices, slots: DurableSimulation.peerCount, guests: DurableSimulation.guests)
        }
        switch choices.below(100) {
        case ..<45: action = .ordinary(ordinary(&choices))
        case ..<60: action = .inTurn(Self.changeAndLooks(&choices))
        case ..<76: action = .together((0...choices.below(3)).map { _ in ordinary(&choices) })
        case ..<84: action = .complete(choices.one(of: [1, 1, 2, 100]))
        case ..<90:
            action = .mode(choices.one(of: [.final, .final, .submitted, .submitted, .failing(28)]))
        case ..<98: action = .kill(Self.kills(&choices))
        case ..<99: action = .compact
        default: action = choices.chance(30) ? .reboot : .complete(1)
        }
    }

    /// Somebody changes a node, and others look at it, at what stands above it, or below.
    private static func changeAndLooks<C: Choices>(_ choices: inout C) -> [Step] {
        let top = choices.one(of: ["/a", "/b", "/a/a", "/local/domain/2", "/local/domain/1/a"])
        func request(_ type: MessageType, _ payload: [UInt8]) -> Step.Request {
            Step.Request(type: type.rawValue, transaction: 0, payload: payload)
        }
        func node() -> [UInt8] { Array("\(top)/x\0".utf8) }
        let change: Step.Request
        switch choices.below(4) {
        case 0: change = request(.remove, node())
        case 1: change = request(.setPermissions, node() + [UInt8](strings: [choices.one(of: ["b0", "n2"])]))
        default: change = request(.write, node() + [UInt8(0x30 + choices.below(10))])
        }
        var steps = [Step(slot: choices.one(of: [0, 0, 4]), action: .requests([change]))]
        for _ in 0...choices.below(4) {
            let look = choices.one(of: [
                request(.read, node()), request(.directory, Array("\(top)\0".utf8)),
                request(.getPermissions, node()), request(.read, Array("\(top)/x/y\0".utf8)),
                request(.watch, Array("\(top)\0w\0".utf8)), request(.isDomainIntroduced, Array("4\0".utf8)),
            ])
            let slot = choices.below(DurableSimulation.peerCount)
            steps.append(Step(slot: slot, action: .requests([look])))
        }
        return steps
    }

    private static func kills<C: Choices>(
        _ choices: inout C
    ) -> [(turns: Int, moment: DurableSimulation.Moment)] {
        let moments: [DurableSimulation.Moment] = [
            .beforeInputs, .afterInputs, .afterFreeRecords, .beforeCommit, .afterCommit, .amidPublication,
        ]
        var all = [(turns: choices.below(6), moment: choices.one(of: moments))]
        while choices.chance(25) {
            all.append((0, choices.one(of: [.beforeNewJournal, .beforeFirstCommit, .afterFirstCommit])))
        }
        return all
    }

    public var description: String {
        switch action {
        case .ordinary(let step): return "\(step)"
        case .inTurn(let steps): return "in turn: " + steps.map(\.description).joined(separator: " | ")
        case .together(let steps): return "at once: " + steps.map(\.description).joined(separator: " | ")
        case .mode(let mode): return "backend: \(mode)"
        case .complete(let count): return "backend: \(count) more are final"
        case .kill(let kills):
            return "kill " + kills.map { "in \($0.turns) turns, \($0.moment)" }.joined(separator: "; then ")
        case .reboot: return "reboot"
        case .compact: return "a new journal"
        }
    }
}

extension DurableSimulation {
    func take(_ step: DurableStep) throws {
        switch step.action {
        case .ordinary(let one): try act([one])
        case .together(let all): try act(all)
        case .inTurn(let all):
            for one in all {
                try act([one])
                try comeToRest()
            }
        case .mode(let mode):
            backend.mode = mode
            now += 1_100_000_000
        case .complete(let count):
            server.committed(backend.complete(count))
            past.forget(before: server.finalSequence)
        case .kill(let kills): armed += kills
        case .reboot:
            armed = []
            try reboot()
        case .compact: compact()
        }
        try comeToRest()
    }

    private func act(_ steps: [Step]) throws {
        world.attachFailure = steps.contains { $0.attachFails } ? .io : nil
        reference.attachFailure = world.attachFailure
        for step in steps { try act(step) }
    }

    private func act(_ step: Step) throws {
        let peer = peers[step.slot]
        if case .life(let life, let requests) = step.action {
            try happen(life)
            if maySpeak(peer) { speak(peer, requests) }
            return
        }
        guard maySpeak(peer) else { return }
        switch step.action {
        case .life: break
        case .requests(let requests): speak(peer, requests)
        case .pieces(let request, let cuts):
            speak(peer, [])
            if !peer.script.isEmpty { return speak(peer, [request]) }
            let count = append(peer, message(peer, request))
            let places = [0] + cuts + [count]
            if peer.outgoing.count == count { peer.pieces = zip(places.dropFirst(), places).map { $0 - $1 } }
        case .half(let request, let count): half(peer, request, count)
        case .sleep: peer.isAsleep = true
        case .vanish(let request, let count):
            half(peer, request, count)
            if let domain = peer.ring { return rings[domain]!.page.requestReconnection() }
            reopen(peer)
            try compare()
        case .oversized(let length):
            speak(peer, [])
            if !peer.script.isEmpty { return }
            peer.sent.append(Sent(message: nil, bytes: Message.header(1, 1, 0, length)))
            peer.outgoing += Message.header(1, 1, 0, length)
        }
    }

    /// Whether the peer has a connection that works, as far as it knows.
    private func maySpeak(_ peer: Peer) -> Bool {
        guard peer.id != nil, peer.epoch == peer.line.epoch, peer.line.isActive else { return false }
        guard let domain = peer.ring else { return true }
        return rings[domain].map { $0.slot?.isRestarted != true && !$0.page.isReconnectRequested } ?? false
    }

    private func speak(_ peer: Peer, _ requests: [Step.Request]) {
        peer.isAsleep = false
        peer.outgoing += peer.rest
        peer.rest = []
        peer.script += requests
    }

    private func half(_ peer: Peer, _ request: Step.Request, _ count: Int) {
        speak(peer, [])
        if !peer.script.isEmpty { return speak(peer, [request]) }
        let length = append(peer, message(peer, request))
        let kept = length - min(count, length - 1)
        peer.rest = Array(peer.outgoing.suffix(kept))
        peer.outgoing.removeLast(kept)
    }

    private func append(_ peer: Peer, _ message: Message) -> Int {
        peer.sent.append(Sent(message: message, bytes: message.bytes))
        peer.outgoing += message.bytes
        return message.bytes.count
    }

    /// The peer says what it has to say, as far as it knows the transactions of which it is to speak.
    func build(_ peer: Peer) {
        while !peer.script.isEmpty && peer.rest.isEmpty {
            let isStarting = peer.sent.dropFirst(peer.line.executed).contains {
                $0.message?.type == MessageType.transactionStart.rawValue || $0.message == nil
            }
            if isStarting { return }
            _ = append(peer, message(peer, peer.script.removeFirst()))
        }
    }

    private func message(_ peer: Peer, _ request: Step.Request) -> Message {
        lastRequestID &+= 1
        var transaction: UInt32 = 0
        if request.transaction > 0 {
            let open = reference.openTransactions(peer.key)
            transaction = request.transaction <= open.count ? open[request.transaction - 1] : open.last ?? 0
        }
        return Message(
            type: request.type, requestID: lastRequestID, transactionID: transaction, payload: request.payload
        )
    }

    // MARK: Sockets

    func open(_ peer: Peer) {
        peer.line = Line(epoch: peer.line.epoch + 1)
        peer.begin(peer.line.epoch)
        let subject: Subject
        switch peer.subject {
        case .domain(let id): subject = .domain(DomainID(id))
        case .user(let id): subject = .user(id)
        }
        peer.id = server.connect(subject, readOnly: peer.isReadOnly)
        reference.connect(peer.key, peer.subject, readOnly: peer.isReadOnly)
        past.log.append(.connect(peer))
    }

    /// The socket is closed, and another one opened.
    func reopen(_ peer: Peer) {
        if let id = peer.id { server.disconnect(id) }
        reference.disconnect(peer.key)
        past.log.append(.disconnect(peer))
        open(peer)
    }

    // MARK: Domains

    private func happen(_ life: Life) throws {
        let domain = DomainID(life.domain)
        switch life.event {
        case .reconnect:
            if maySpeak(peer(of: life.domain)) || rings[life.domain]?.isActive == false {
                rings[life.domain]?.page.requestReconnection()
            }
            return
        case .deactivate:
            guard let ring = rings[life.domain], ring.isActive, ring.slot == nil else { return }
            server.deactivate(ring.connection)
            reference.deactivate(life.domain)
            past.log.append(.deactivate(ring.peer))
            beginAnew(ring, isActive: false)
            return try compare()
        default: break
        }
        if unnoticed != life.domain { try notice() }
        switch life.event {
        case .create: if world.domains?[domain] == nil { world.create(life.domain) }
        case .replace: world.create(life.domain)
        case .shutdown: world.domains?[domain]?.isShutdown = true
        case .resume: world.domains?[domain]?.isShutdown = false
        case .die: world.domains?[domain]?.isDying = true
        default: world.domains?[domain] = nil
        }
        reference.domains?[life.domain] = world.domains?[domain].map {
            var told = ReferenceDomain(uniqueID: $0.uniqueID)
            told.isShutdown = $0.isShutdown
            told.isDying = $0.isDying
            return told
        }
        past.log.append(.domains(reference.domains))
        unnoticed = life.domain
        if life.isNoticed { try notice() }
    }

    private func notice() throws {
        if unnoticed == nil { return }
        unnoticed = nil
        server.domainsChanged()
        reference.domainsChanged()
        try compare()
    }
}

extension DurableSimulation: RingMachine {
    func attached(_ domain: DomainID, _ connection: ConnectionID) {
        let peer = peer(of: domain.rawValue)
        peer.id = connection
        let ring = Ring(peer, page(of: domain.rawValue), connection)
        rings[domain.rawValue] = ring
        beginAnew(ring, isActive: true)
    }

    func reattached(_ domain: DomainID, hasFailed: Bool) {
        beginAnew(rings[domain.rawValue]!, isActive: !hasFailed)
    }

    func resumed(
        _ domain: DomainID, _ connection: ConnectionID, _ slot: RingSlot?, isActive: Bool
    ) -> Bool {
        let peer = peer(of: domain.rawValue)
        peer.id = connection
        let ring = Ring(peer, page(of: domain.rawValue), connection)
        ring.isActive = isActive
        rings[domain.rawValue] = ring
        guard let slot else { return true }
        let (consumed, produced) = ring.page.positions
        let isHere =
            (consumed == slot.before.consumed || consumed == slot.after.consumed)
            && (produced == slot.before.produced || produced == slot.after.produced)
        if !isHere { return false }
        if slot.isRestarted {
            // What the page cannot tell: whether the guest has seen it.
            if peer.epoch != peer.line.epoch { show(ring) }
        } else {
            ring.page.publish(consumed: slot.after.consumed, produced: slot.after.produced)
        }
        return true
    }

    func detached(_ domain: DomainID) {
        rings[domain.rawValue] = nil
        peer(of: domain.rawValue).id = nil
    }
}
