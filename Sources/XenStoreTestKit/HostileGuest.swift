// A guest that does all that a guest can do to a daemon in the core's reach: cuts its bytes anywhere, floods,
// reads nothing for long, breaks and resets its ring, and is introduced and released with half a message
// under way in either direction. Beside it a toolstack and a neighbour, who must be served as if it were not
// there.
//
// Invariants after every act (`check` looks):
// - the neighbour and the toolstack get the right answers at once; one whose change is held up by the guest's
//   reservation, within 20 ms;
// - what the guest keeps the server from freeing stays within its memory quota and one message's room;
// - `server.checkInvariants()` finds nothing.

import XenStore
import XenStoreTypes

/// One hostile guest, domain 1, and those beside it.
public final class HostileGuest {
    public let server: Server
    public let world = TestWorld(domains: [0])
    let toolstack: Client
    private var neighbour: Client
    private var guest: Client
    /// Requests that the guest is about to send, as far as it has not.
    private var stream: [UInt8] = []
    /// What the server has not wanted yet.
    private var unsaid: [UInt8] = []
    private var round = 0
    /// Floods that its ring has survived.
    public private(set) var floods = 0
    private var now: UInt64 = 0
    /// The least memory quota under which the guest is held.
    static let memory: UInt32 = 100_000
    /// What the server may keep for one connection past its quota: unsent replies up to the mark at which it
    /// stops, and the largest message in either direction.
    static let room = 65536 + 4 * 4112

    public init(hashSeed: (UInt64, UInt64) = (5, 6)) {
        world.canIntroduce = true
        var configuration = ServerConfiguration()
        configuration.hashSeed = hashSeed
        configuration.quotas[.memory] = Self.memory
        server = Server(configuration, world: world)
        toolstack = Client(server, domain: 0)
        for number in 1...2 {
            world.create(UInt16(number))
            _ = toolstack.request(.introduce, ["\(number)", "7", "9"])
            _ = toolstack.request(.makeDirectory, ["/local/domain/\(number)"])
            _ = toolstack.request(.setPermissions, ["/local/domain/\(number)", "n\(number)"])
        }
        for (path, list) in [("/shared", ["b0"]), ("/", ["r0"])] {
            _ = toolstack.request(.makeDirectory, [path])
            _ = toolstack.request(.setPermissions, [path] + list)
        }
        let large = Array("/shared/large\0".utf8) + [UInt8](repeating: 0x76, count: 4000)
        _ = toolstack.request(Message(.write, requestID: 1, large))
        neighbour = Client(server, connection: world.rings[DomainID(2)]!)
        guest = Client(server, connection: world.rings[DomainID(1)]!)
        _ = neighbour.request(.watch, ["/local/domain/2", "w"])
        _ = neighbour.takeEvents()
    }

    private var ring: ConnectionID? { world.rings[DomainID(1)] }

    /// Does one thing, and says what.
    public func act<C: Choices>(_ choices: inout C) -> String {
        guard ring != nil else {
            introduce()
            return "is introduced"
        }
        if guest.mustClose && choices.chance(50) {
            server.reconnect(ring!)
            renew()
            return "resets its broken ring"
        }
        switch choices.below(100) {
        case ..<45: return send(1 + choices.below(60), &choices)
        case ..<55: return flood(&choices)
        case ..<70:
            let count = choices.one(of: [1, 7, 16, 100, 1000, 100_000])
            guest.fetch(count)
            say()
            return "reads \(count) bytes"
        case ..<75:
            server.reconnect(ring!)
            renew()
            return "resets its ring"
        case ..<80:
            server.deactivate(ring!)
            renew()
            return "breaks its ring"
        case ..<84:
            say(Message.header(2, 1, 0, choices.chance(50) ? 4097 : .max))
            return "says more than 4096 bytes"
        case ..<89:
            introduce()
            return "is introduced again"
        case ..<93:
            _ = toolstack.request(.release, ["1"])
            return "is released"
        case ..<95:
            world.create(1)
            server.domainsChanged()
            return "dies and is another"
        default:
            now += UInt64(choices.one(of: [1, 5, 30, 25_000])) * 1_000_000
            server.advance(to: now)
            return "lets time pass"
        }
    }

    private func introduce() {
        _ = toolstack.request(.introduce, ["1", "7", "9"])
        _ = toolstack.request(.makeDirectory, ["/local/domain/1"])
        _ = toolstack.request(.setPermissions, ["/local/domain/1", "n1"])
        renew()
    }

    /// The guest's side after a reset: it begins anew, or goes on where it was, in the middle of a message or
    /// not.
    private func renew() {
        if let ring { guest = Client(server, connection: ring) }
        if round % 4 == 0 && unsaid.count < 1_000_000 { return }
        unsaid = []
        stream = []
    }

    private func send<C: Choices>(_ count: Int, _ choices: inout C) -> String {
        while stream.count < count {
            let request = Step.Request(from: &choices)
            var bytes = Message(
                type: request.type, requestID: 1, transactionID: UInt32(choices.below(3)),
                payload: request.payload
            ).bytes
            // A wrong length puts everything behind it out of step.
            if choices.chance(2) { bytes[12] = UInt8(choices.below(256)) }
            stream += bytes
        }
        say(Array(stream.prefix(count)))
        stream.removeFirst(count)
        return "sends \(count) bytes"
    }

    private func flood<C: Choices>(_ choices: inout C) -> String {
        let token = String(repeating: "t", count: choices.one(of: [1, 1000, 3000]))
        let one: Message
        switch choices.below(6) {
        case 4: one = Message(.read, [UInt8](strings: ["/shared/large"]))
        case 0: one = Message(.watch, [UInt8](strings: ["/shared", token]))
        case 1: one = Message(.transactionStart, [0])
        case 2: one = Message(.write, Array("/shared/\(choices.below(20))\0\(token)".utf8))
        case 3: one = Message(.write, Array("/shared\0x".utf8))
        default: one = Message(.directory, [UInt8](strings: ["/"]))
        }
        // Mostly in step with what it has sent so far.
        if choices.chance(80) {
            say(stream)
            stream = []
        }
        for _ in 0..<200 { say(one.bytes) }
        floods += guest.mustClose ? 0 : 1
        return "floods with \(one)"
    }

    /// Puts bytes behind those that the server has not wanted yet, and hands over what it wants: no more at
    /// once than a ring has room for.
    private func say(_ bytes: [UInt8] = []) {
        unsaid += bytes
        while !unsaid.isEmpty, !guest.mustClose, server.wantsInput(guest.id) {
            let piece = Array(unsaid.prefix(1024))
            unsaid.removeFirst(piece.count)
            server.receive(guest.id, piece.span)
        }
    }

    // MARK: The others

    /// Throws what somebody else did not get, or what it costs too much.
    public func check() throws {
        round += 1
        let value = "\(round)"
        try expect(neighbour.put("state", value), "OK", "the neighbour's write")
        try expect(neighbour.get("state"), value, "the neighbour's read")
        let events = neighbour.takeEvents().map { $0.strings[0] }
        try expect(events.joined(separator: " "), "/local/domain/2/state", "the neighbour's events")
        try expect(toolstack.put("/shared/toolstack", value), "OK", "the toolstack's write")
        try expect(toolstack.get("/local/domain/2/state"), value, "the toolstack's read")
        try expect(toolstack.get("/shared/toolstack"), value, "the toolstack's second read")
        try checkCost()
    }

    private func expect(_ found: Message?, _ expected: String, _ what: String) throws {
        var found = found
        if found == nil && server.nextDeadline != nil {
            // Held up by a reservation.
            now = max(now, server.nextDeadline!)
            server.advance(to: now)
            found = (what.contains("neighbour") ? neighbour : toolstack).reply()
        }
        guard let found else { throw Disagreement(step: round, description: "\(what): no reply") }
        let text = String(decoding: found.payload.filter { $0 != 0 }, as: UTF8.self)
        try expect(text, expected, what)
    }

    private func expect(_ found: String, _ expected: String, _ what: String) throws {
        if found == expected { return }
        throw Disagreement(step: round, description: "\(what): \(found) instead of \(expected)")
    }

    private func checkCost() throws {
        if let ring {
            let unsent = server.outputCount(ring)
            guard unsent <= Int(Self.memory) + Self.room else {
                throw Disagreement(step: round, description: "\(unsent) bytes unsent")
            }
            if let used = used(), used > Int(Self.memory) + Self.room {
                throw Disagreement(step: round, description: "\(used) bytes used")
            }
        }
        let violations = server.checkInvariants()
        guard violations == 0 else {
            let lines = world.lines.filter { $0.level == .error }.map(\.text).suffix(5)
            throw Disagreement(step: round, description: "\(violations) invariants do not hold: \(lines)")
        }
        world.lines = []
    }

    /// What CONTROL says that the guest uses.
    private func used() -> Int? {
        let report = toolstack.request(.control, ["quota", "1"])?.strings.first ?? ""
        let line = report.split(separator: "\n").first { $0.hasPrefix("memory") }
        return line.flatMap { $0.split(separator: ":").last?.split(separator: " ").first }.flatMap { Int($0) }
    }
}

extension Client {
    fileprivate func put(_ path: String, _ value: String) -> Message? {
        request(Message(.write, requestID: 7, Array("\(path)\0\(value)".utf8)))
    }

    fileprivate func get(_ path: String) -> Message? { request(.read, [path]) }
}
