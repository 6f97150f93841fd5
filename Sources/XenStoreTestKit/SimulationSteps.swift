// What a simulation does, step by step. A step says everything by itself (which of the open transactions,
// which path), so that any of them can be left out of a failing run and the rest still means something.

import XenStoreTypes

/// One step of a simulation.
public struct Step: Sendable, CustomStringConvertible {
    public enum Action: Sendable {
        /// Whole requests, handed over in one go. `transaction` picks one of the connection's open ones, or
        /// none.
        case requests([Request])
        /// A request cut into pieces at these places, with other connections' turns between them left out.
        case pieces(Request, cuts: [Int])
        /// The first so many bytes of a request; the rest comes when the connection speaks next, unless it
        /// has a new beginning by then.
        case half(Request, after: Int)
        /// The connection's output is not read until it speaks next.
        case sleep
        /// The peer vanishes with this much of a request sent, and comes back. A ring is reset by its guest.
        case vanish(Request, after: Int)
        /// A header that says more than 4096 bytes: the server must close, or deactivate the ring.
        case oversized(UInt32)
        /// Something happens to a domain, and then the slot makes these requests.
        case life(Life, then: [Request])
    }

    public struct Request: Sendable {
        /// As `transaction`: the one that was started last.
        static let latest = Int.max

        public var type: UInt32
        /// Which of the connection's open transactions, from 1; 0: none; too large: the last.
        public var transaction: Int
        public var payload: [UInt8]
    }

    public var slot: Int
    public var action: Action
    /// The host cannot attach rings during this step.
    public var attachFails = false

    public var description: String {
        func text(_ request: Request) -> String {
            let name = MessageType(rawValue: request.type).map { "\($0)" } ?? "type \(request.type)"
            let which = request.transaction == Request.latest ? "latest" : "\(request.transaction)"
            let tx = request.transaction == 0 ? "" : "[tx choice \(which)]"
            return "\(name)\(tx) \"\(Message.printable(request.payload))\""
        }
        let failing = attachFails ? " (no ring can be attached)" : ""
        switch action {
        case .requests(let all): return "slot \(slot)\(failing): " + all.map(text).joined(separator: "; ")
        case .pieces(let one, let cuts): return "slot \(slot): \(text(one)) cut at \(cuts)"
        case .half(let one, let count): return "slot \(slot): \(count) bytes of \(text(one))"
        case .sleep: return "slot \(slot): sleeps"
        case .life(let life, let all):
            return "\(life)\(failing), slot \(slot): " + all.map(text).joined(separator: "; ")
        case .vanish(let one, let count): return "slot \(slot): vanishes after \(count) bytes of \(text(one))"
        case .oversized(let length): return "slot \(slot): a header with length \(length)"
        }
    }
}

extension Step {
    /// A step out of `choices`, for one of `slots` connections, about the domains 1 to `guests`.
    public init<C: Choices>(from choices: inout C, slots: Int, guests: Int = Simulation.guests) {
        slot = choices.below(slots)
        let kind = choices.below(100)
        switch kind {
        case ..<54: action = .requests([Request(from: &choices, guests: guests)])
        case ..<64:
            action = .requests((0...choices.below(4)).map { _ in Request(from: &choices, guests: guests) })
        case ..<75: action = .requests(Request.transaction(from: &choices))
        case ..<87: self = Step(lifeFrom: &choices, guests: guests)
        case ..<91: action = .half(Request(from: &choices, guests: guests), after: choices.below(40))
        case ..<93: action = .sleep
        case ..<97: action = Step.cut(Request(from: &choices), &choices)
        case ..<99: action = .vanish(Request(from: &choices), after: choices.below(40))
        default: action = .oversized(choices.chance(50) ? 4097 : UInt32.max - UInt32(choices.below(1000)))
        }
        attachFails = attachFails || choices.chance(3)
    }

    /// A step in which something happens to one of the domains 1 to `guests`, and the toolstack does what it
    /// does then.
    public init<C: Choices>(lifeFrom choices: inout C, guests: Int) {
        let life = Life(from: &choices, guests: guests)
        var requests: [Request] = []
        switch life.event {
        case .create, .replace: if choices.chance(80) { requests = Request.birth(of: life.domain) }
        default: if choices.chance(20) { requests = [Request(from: &choices, guests: guests)] }
        }
        slot = 0
        action = .life(life, then: requests)
        attachFails = choices.chance(5)
    }

    private static func cut<C: Choices>(_ request: Request, _ choices: inout C) -> Action {
        let size = MessageHeader.size + request.payload.count
        let cuts = (0...choices.below(3)).map { _ in choices.below(size + 1) }
        return .pieces(request, cuts: cuts.sorted())
    }
}

extension Step.Request {
    /// A request about a few paths, so that requests meet often; now and then a malformed one.
    public init<C: Choices>(from choices: inout C, guests: Int = Simulation.guests) {
        let type = Step.Request.type(&choices)
        self.type = type.rawValue
        transaction = choices.chance(45) ? 1 + choices.below(3) : 0
        payload = Step.Request.payload(of: type, &choices, guests)
        if type == .transactionStart && choices.chance(90) { transaction = 0 }
        if type == .transactionEnd && choices.chance(95) { transaction = max(transaction, 1) }
        if choices.chance(3) { spoil(&choices) }
    }

    /// A transaction with several changes close to each other; it is left open now and then.
    static func transaction<C: Choices>(from choices: inout C) -> [Step.Request] {
        var all = [Step.Request(type: MessageType.transactionStart.rawValue, transaction: 0, payload: [0])]
        let top = choices.one(of: ["/a", "/b", "/local/domain/2", "x"])
        // Half of them remove and make what is likely to be there.
        let isShallow = choices.chance(50)
        for _ in 0...choices.below(7) {
            let type = choices.one(of: [
                MessageType.write, .write, .write, .makeDirectory, .remove, .remove, .setPermissions,
                .directory,
                .read,
                .directory, .read,
            ])
            var path = top
            for _ in 0..<(isShallow ? 1 : choices.below(4)) {
                path = ReferenceTree.join(path, choices.one(of: ["a", "b"]))
            }
            var payload = Array(path.utf8) + [0]
            if type == .write { payload += value(&choices) }
            if type == .setPermissions {
                payload += [UInt8](strings: [choices.one(of: ["b0", "b1", "b2", "n0", "r2"])])
            }
            all.append(Step.Request(type: type.rawValue, transaction: latest, payload: payload))
        }
        if choices.chance(60) {
            all.append(
                Step.Request(
                    type: MessageType.transactionEnd.rawValue, transaction: latest, payload: [0x54, 0]))
        }
        return all
    }

    private static func type<C: Choices>(_ choices: inout C) -> MessageType {
        let weights: [(MessageType, Int)] = [
            (.write, 22), (.read, 8), (.directory, 8), (.makeDirectory, 8), (.remove, 9),
            (.setPermissions, 9),
            (.getPermissions, 4), (.directoryPart, 4), (.watch, 8), (.unwatch, 3), (.transactionStart, 10),
            (.transactionEnd, 12), (.resetWatches, 1), (.getDomainPath, 1), (.getFeature, 1), (.getQuota, 1),
            (.setQuota, 1), (.introduce, 3), (.release, 2), (.resume, 1), (.setTarget, 2),
            (.isDomainIntroduced, 1), (.setFeature, 1), (.restrict, 1),
        ]
        var place = choices.below(weights.map(\.1).reduce(0, +))
        for (type, weight) in weights {
            if place < weight { return type }
            place -= weight
        }
        return .read
    }

    private static func payload<C: Choices>(
        of type: MessageType, _ choices: inout C, _ guests: Int
    ) -> [UInt8] {
        switch type {
        case .write: return path(&choices) + [0] + value(&choices)
        case .watch: return watch(&choices)
        case .unwatch: return path(&choices, special: 5) + [0] + [UInt8](strings: [token(&choices)])
        case .directoryPart:
            return path(&choices) + [0]
                + [UInt8](strings: [choices.one(of: ["0", "0", "2", "3", "50", "x"])])
        case .setPermissions: return permissions(&choices, guests)
        case .getPermissions: return path(&choices, special: 15) + [0]
        case .transactionStart, .resetWatches: return [0]
        case .transactionEnd: return Array((choices.chance(80) ? "T" : "F").utf8) + [0]
        case .getDomainPath: return [UInt8](strings: [choices.one(of: ["0", "3", "x", "-1"])])
        case .getFeature: return choices.chance(50) ? [] : domainPayload(of: type, &choices, guests)
        case .getQuota: return [UInt8](strings: quotaArguments(&choices))
        case .setQuota:
            return [UInt8](
                strings: quotaArguments(&choices) + [choices.one(of: ["0", "4", "9", "30", "", "-2"])])
        case .introduce, .release, .resume, .setTarget, .isDomainIntroduced, .setFeature:
            return domainPayload(of: type, &choices, guests)
        default: return path(&choices) + [0]
        }
    }

    private static func quotaArguments<C: Choices>(_ choices: inout C) -> [String] {
        let name = choices.one(of: [
            "nodes", "watches", "transactions", "node-size", "permissions", "nonsense",
        ])
        return choices.chance(40) ? [choices.one(of: ["1", "2", "x"]), name] : [name]
    }

    private static func path<C: Choices>(_ choices: inout C, special: Int = 1) -> [UInt8] {
        if choices.chance(special) {
            return Array(
                choices.one(of: [
                    "@introduceDomain", "@releaseDomain", "@releaseDomain", "@introduceDomain/2",
                    "@releaseDomain/1", "@releaseDomain/3", "@other",
                ]).utf8)
        }
        if choices.chance(2) {
            return Array(
                choices.one(of: ["", "/a//b", "/a/", "a b", "/\u{e9}", "//", "/local/domain/"]).utf8)
        }
        var text = choices.one(of: [
            "/a", "/a", "/a", "/b", "/b", "/local/domain/1", "/local/domain/2", "x", "y", "/", "/tool",
            "/new",
        ])
        for _ in 0..<choices.one(of: [0, 0, 1, 1, 1, 2, 2, 3]) {
            text = ReferenceTree.join(text, choices.one(of: ["a", "b", "c"]))
        }
        return Array(text.utf8)
    }

    private static func value<C: Choices>(_ choices: inout C) -> [UInt8] {
        switch choices.below(20) {
        case 0: return []
        case 1: return [0, 255, 0]
        case 2: return [UInt8](repeating: 0x76, count: choices.below(3000))
        case 3...5: return [UInt8](repeating: 0x77, count: choices.below(12))
        default: return Array("\(choices.below(4))".utf8)
        }
    }

    private static func token<C: Choices>(_ choices: inout C) -> String {
        if choices.chance(1) { return String(repeating: "t", count: 4060) }
        return choices.one(of: ["t", "u", ""])
    }

    private static func watch<C: Choices>(_ choices: inout C) -> [UInt8] {
        var payload = path(&choices, special: 15) + [0] + [UInt8](strings: [token(&choices)])
        if choices.chance(30) { payload += [UInt8](strings: [choices.one(of: ["0", "1", "2", "x"])]) }
        return payload
    }

    private static func permissions<C: Choices>(_ choices: inout C, _ guests: Int) -> [UInt8] {
        var texts: [String] = []
        for _ in 0...choices.one(of: [0, 0, 1, 1, 2, 5]) {
            let mode = choices.one(of: ["n", "r", "w", "b", "b", "r"])
            let fixed = choices.one(of: ["0", "1", "1", "2", "2", "3", "32757", ""])
            texts.append(mode + (fixed.isEmpty ? number(&choices, guests) : fixed))
        }
        if choices.chance(3) { texts.append(choices.one(of: ["", "b", "x1", "r99999", "r1 "])) }
        return path(&choices, special: 3) + [0] + [UInt8](strings: texts)
    }

    /// Makes the request malformed in one of the ways that clients have.
    private mutating func spoil<C: Choices>(_ choices: inout C) {
        switch choices.below(6) {
        case 0: payload = []
        case 1: if payload.last == 0 { payload.removeLast() }
        case 2: payload += Array("extra".utf8)
        case 3: payload += [0]
        case 4: type = choices.one(of: [15, 16, 20, 27, 99, 65535, UInt32.max])
        default: payload += [UInt8](repeating: 0x61, count: max(0, 4096 - payload.count))
        }
    }
}
