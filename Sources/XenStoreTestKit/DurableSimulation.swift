// A server with a store backend, sessions in a journal and rings on shared pages, led through steps beside
// the reference store, and killed at any moment: what a new server makes of what was kept must be what the
// reference makes of it.
//
// The order within a turn is the host's: inputs; rings' replies are placed; sessions are journalled; the
// batch is offered; what is final is published. A kill falls between any two of these. What has been told by
// then and does not depend on a lost batch must stand; all else must be as if it had never happened, and is
// carried out when the rings give it again.
//
// Invariants after every server call:
// - what is queued on every connection is what the reference expects, in order;
// after every turn:
// - the sessions that the journal's frames make are those that the server has;
// - `server.checkInvariants()` finds nothing;
// - a peer has received the beginning of what was queued for it, each byte once.

import XenStore
import XenStoreRing
import XenStoreTypes

/// One run. Time passes only where a step says so.
public final class DurableSimulation {
    /// What a peer has sent: a whole message, or (nil) a header with a length that no message has.
    struct Sent {
        var message: Message?
        var bytes: [UInt8]
    }

    /// A connection as the server has it, since its last beginning.
    struct Line {
        /// How many beginnings there were.
        var epoch = 0
        /// How many of the sent messages are carried out, and how many bytes of the next one are there.
        var executed = 0
        var fed = 0
        /// All that was ever queued, and the bytes that are left of each unsent message.
        var stream: [Message] = []
        var queued: [Int] = []
        var isFirstBegun = false
        var isActive = true
    }

    /// How much a socket's peer has been told.
    final class Delivery {
        var messages = 0
        var replies = 0
    }

    /// Somebody who speaks, and what he knows.
    final class Peer {
        let key: Int
        let subject: ReferenceSubject
        let isReadOnly: Bool
        let ring: UInt16?
        var id: ConnectionID?
        var line = Line()
        /// The beginning that the peer knows of.
        var epoch = 0
        var script: [Step.Request] = []
        var sent: [Sent] = []
        var outgoing: [UInt8] = []
        /// Bytes that go over in the next turns, one number a turn; then all.
        var pieces: [Int] = []
        /// The rest of a half-sent message.
        var rest: [UInt8] = []
        var received: [UInt8] = []
        var taken = 0
        var isAsleep = false
        var delivery = Delivery()

        init(_ key: Int, _ subject: ReferenceSubject, isReadOnly: Bool = false, ring: UInt16? = nil) {
            self.key = key
            self.subject = subject
            self.isReadOnly = isReadOnly
            self.ring = ring
        }

        /// A new beginning, on the peer's side.
        func begin(_ epoch: Int) {
            self.epoch = epoch
            script = []
            sent = []
            outgoing = []
            pieces = []
            rest = []
            received = []
            taken = 0
            isAsleep = false
            delivery = Delivery()
        }
    }

    /// An attached ring.
    final class Ring {
        let peer: Peer
        let page: RingPage
        let connection: ConnectionID
        var slot: RingSlot?
        var stagedTurn = 0
        var isActive = true
        var isTouched = false

        init(_ peer: Peer, _ page: RingPage, _ connection: ConnectionID) {
            self.peer = peer
            self.page = page
            self.connection = connection
        }
    }

    /// The moment of a turn at which the daemon is killed.
    public enum Moment: CaseIterable, Sendable {
        case beforeInputs, afterInputs, afterFreeRecords, beforeCommit, afterCommit, amidPublication
        case beforeNewJournal, beforeFirstCommit, afterFirstCommit
    }

    struct Killed: Error {}

    public let world = TestWorld(domains: [0])
    /// Gets a line for whatever happens, to see what a failing run does.
    let trace: ((String) -> Void)?
    public internal(set) var reference = ReferenceStore()
    public internal(set) var server: Server
    public internal(set) var backend = TestBackend()
    let configuration: ServerConfiguration
    let firstQuotas: [String: Int]
    let kept: [String]
    var peers: [Peer]
    var rings: [UInt16: Ring] = [:]
    private var pages: [UInt64: UnsafeMutableRawPointer] = [:]
    var journal: [JournalFrame] = []
    /// What all frames of the journal make.
    var image = SessionImage()
    var boot = "boot 1"
    var matcher = OutputMatcher()
    var random: SplitMix64
    /// Kills that are to come: in so many turns, at this moment.
    var armed: [(turns: Int, moment: Moment)] = []
    var turn = 1
    var now: UInt64 = 1_000_000_000
    var hasMoved = false
    var past = Past()
    /// The number of the batch with which this daemon has begun.
    var firstSequence: UInt64 = 0
    var unnoticed: UInt16?
    var lastRequestID: UInt32 = 0
    /// How often the daemon was killed, and the host started anew; requests that were carried out a second
    /// time, because what the first time did was lost; batches that were lost.
    public internal(set) var kills = 0
    public internal(set) var reboots = 0
    public internal(set) var repeated = 0
    public internal(set) var lostBatches = 0

    public static let hostPeers = 5
    public static let guests = 4
    public static let peerCount = hostPeers + guests

    /// `seed` decides the quotas, not the steps.
    public init(seed: UInt64, trace: ((String) -> Void)? = nil) throws {
        self.trace = trace
        random = SplitMix64(seed: seed)
        world.canIntroduce = true
        reference.hasHypervisor = true
        reference.domains = [0: ReferenceDomain(uniqueID: 0)]
        var configuration = ServerConfiguration()
        configuration.hashSeed = (random.next(), random.next())
        configuration.unreadMax = .max / 2
        Simulation.chooseQuotas(&random, &configuration, reference)
        self.configuration = configuration
        firstQuotas = reference.quotas
        kept = random.one(of: [[], ["/b"], ["/local/domain/2", "/a/a"]])
        server = Server(configuration, world: world, backend: backend)
        peers = [
            Peer(0, .domain(0)), Peer(1, .domain(0)), Peer(2, .domain(0), isReadOnly: true),
            Peer(3, .user(1000)),
        ]
        for domain in 0...UInt16(Self.guests) {
            peers.append(Peer(ReferenceStore.ringKey(domain), .domain(domain), ring: domain))
        }
        world.machine = self
        _ = server.recover([], sequence: 0, boot: boot)
        try begin()
        try prepare()
    }

    deinit { for page in pages.values { page.deallocate() } }

    /// The first domains, their homes and the two trees in which everybody may meddle.
    private func prepare() throws {
        func ask(_ type: MessageType, _ strings: [String]) throws {
            let request = Step.Request(
                type: type.rawValue, transaction: 0, payload: [UInt8](strings: strings))
            try take(DurableStep(.ordinary(Step(slot: 0, action: .requests([request])))))
        }
        try ask(.introduce, ["0", "1", "2"])
        for domain in 1...3 {
            let life = Life(event: .create, domain: UInt16(domain), isNoticed: true)
            try take(
                DurableStep(
                    .ordinary(
                        Step(slot: 0, action: .life(life, then: Step.Request.birth(of: UInt16(domain)))))))
        }
        for (path, list) in [
            ("/local/domain/0", ["n0"]), ("/local/domain/2", ["n2", "r1"]), ("/a", ["b0"]),
            ("/b", ["r1", "b2"]),
        ] {
            try ask(.makeDirectory, [path])
            try ask(.setPermissions, [path] + list)
        }
    }

    /// Runs steps until one disagrees; then all comes to rest, and the trees are compared.
    public func run(_ steps: [DurableStep]) throws {
        for (number, step) in steps.enumerated() {
            do {
                trace?("step \(number): \(step)")
                try take(step)
            } catch var found as Disagreement {
                found.step = number
                found.description += "\nin: \(step)"
                throw found
            }
        }
        try finish()
    }

    /// The shared page of a domain, which lasts as long as the domain.
    func page(of domain: UInt16) -> RingPage {
        let unique = world.domains?[DomainID(domain)]?.uniqueID ?? 0
        if let page = pages[unique] { return RingPage(page) }
        let page = UnsafeMutableRawPointer.allocate(byteCount: RingPage.byteCount, alignment: 8)
        page.initializeMemory(as: UInt8.self, repeating: 0, count: RingPage.byteCount)
        pages[unique] = page
        return RingPage(page)
    }

    func peer(of domain: UInt16) -> Peer { peers[4 + Int(domain)] }

    func disagreement(_ text: String) -> Disagreement { Disagreement(step: -1, description: text) }

    /// A kill that is due at this moment comes.
    func mayBeKilled(_ moment: Moment) throws {
        guard let first = armed.first, first.turns <= 0, first.moment == moment else { return }
        armed.removeFirst()
        trace?("killed \(moment)")
        throw Killed()
    }
}
