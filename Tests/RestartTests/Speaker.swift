// Somebody who speaks to the daemon: a guest over its ring, or a client over a socket. It asks at random,
// many requests ahead, and checks every reply against its model. What it watches it reads again at every
// event.
//
// Invariants:
// - `asked` are the requests without a reply, in order; the bytes in `unsent` are the end of their bytes.
// - Paths of requests are written out the same way each time: relative ones where the root is its home.

import XenStoreTestKit
import XenStoreTypes

final class Speaker {
    struct Request {
        var asked: Model.Asked?
        var type: MessageType
        var id: UInt32
        /// For a request that is none of the model's. Throws if the reply is wrong.
        var check: ((Message) throws -> Void)?
    }

    /// What is known of a watched node by reading it at each event.
    struct Watched {
        var path: String
        /// The path in requests and events.
        var text: String
        var seen: Answer?
        var isReading = false
        /// Events since the last kill.
        var events = 0
    }

    let name: String
    /// The absolute path of its part of the tree.
    let root: String
    /// Relative paths begin there.
    let isHome: Bool
    /// The host was started anew since, and its part of the tree is to be made again.
    var wasForgotten = false
    var end: (any End)?
    var model: Model
    private(set) var asked: [Request] = []
    private(set) var watched: [String: Watched] = [:]
    /// Events of watches that are nobody's here; by token.
    var onEvent: [String: (String) throws -> Void] = [:]
    /// Absolute paths of other speakers' nodes that are worth a watch.
    var foreign: [String] = []
    private var unsent: [UInt8] = []
    private var received: [UInt8] = []
    private var number = 0
    private var numberAtKill = 0
    private var tokens = 0
    /// Transactions that were asked for, and not ended; and the id of the next one, if that is known.
    private var open: [UInt32] = []
    private var nextOpen: UInt32? = 1
    /// Until when it reads nothing.
    var deafUntil: UInt64 = 0
    /// Until when it sends nothing.
    var muteUntil: UInt64 = 0
    private(set) var replies = 0
    private var lately: [String] = []

    init(_ name: String, root: String, isHome: Bool, permissions: [String]) {
        self.name = name
        self.root = root
        self.isHome = isHome
        model = Model(rootPermissions: permissions)
    }

    var isIdle: Bool { asked.isEmpty && unsent.isEmpty }

    /// Whether all that was sent is answered, and no half message is on its way.
    var isQuiet: Bool { isIdle && received.isEmpty }

    private func place(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        if isHome && !path.isEmpty { return path }
        return path.isEmpty ? root : root + "/" + path
    }

    // MARK: Asking

    func ask(_ operation: Operation, transaction: UInt32 = 0) {
        let asked = Model.Asked(operation: operation, transaction: transaction, number: number)
        send(operation.type, operation.payload(place), transaction, asked, nil)
    }

    func ask(_ type: MessageType, _ strings: [String], _ check: @escaping (Message) throws -> Void) {
        send(type, [UInt8](strings: strings), 0, nil, check)
    }

    /// The same where only one answer will do.
    func ask(_ type: MessageType, _ strings: [String], expecting answer: String) {
        ask(type, strings) { reply in
            let found = reply.errorName ?? Message.printable(reply.payload)
            if found != answer { throw Broken("\(type) \(strings): found \(found), expected \(answer)") }
        }
    }

    private func send(
        _ type: MessageType, _ payload: [UInt8], _ transaction: UInt32, _ asked: Model.Asked?,
        _ check: ((Message) throws -> Void)?
    ) {
        let id = UInt32(truncatingIfNeeded: number) &* 0x9E37_79B1 | 1
        self.asked.append(Request(asked: asked, type: type, id: id, check: check))
        let message = Message(type, requestID: id, transaction: transaction, payload)
        unsent += message.bytes
        number += 1
        note("#\(number - 1) asks \(message)")
    }

    /// One more request, whatever it is.
    func askAnything(_ random: inout SplitMix64) {
        var transaction: UInt32 = 0
        if !open.isEmpty && random.chance(50) { transaction = random.one(of: open) }
        let path = Self.path(&random)
        switch random.below(100) {
        case 0..<30:
            let size = random.chance(15) ? 4000 - path.utf8.count - root.utf8.count : 40
            let value =
                Array("\(number) ".utf8) + (0..<random.below(size)).map { UInt8(truncatingIfNeeded: $0) }
            ask(.write(path, value), transaction: transaction)
        case 30..<40: ask(.read(path), transaction: transaction)
        case 40..<46: ask(.makeDirectory(path), transaction: transaction)
        case 46..<52: ask(.remove(path), transaction: transaction)
        case 52..<60:
            ask(.directory(random.chance(60) ? "wide" : path), transaction: transaction)
        case 60..<64: ask(.getPermissions(path), transaction: transaction)
        case 64..<68:
            let first = model.live[""]?.permissions.first ?? "n0"
            let list = [first, "r\(random.below(9))", "b\(random.below(9))"]
            ask(.setPermissions(path, Array(list.prefix(1 + random.below(3)))), transaction: transaction)
        case 68..<76: askToWatch(&random)
        case 76..<82: askToUnwatch(&random)
        case 82..<99: askForTransaction(&random)
        default:
            if random.chance(20) {
                open = []
                ask(.resetWatches)
            }
        }
    }

    private func askForTransaction(_ random: inout SplitMix64) {
        if let id = open.first, open.count > 2 || random.chance(50) {
            open.removeFirst()
            askToEnd(id, commit: random.chance(85))
        } else if let next = nextOpen, open.count < 3 {
            open.append(next)
            nextOpen = next + 1
            ask(.start)
        } else if open.isEmpty && asked.isEmpty {
            ask(.start)
        }
    }

    /// After two EAGAINs in a row a transaction would be one that sees more than its snapshot (specification,
    /// section C). So another one is given up in between.
    private func askToEnd(_ id: UInt32, commit: Bool) {
        ask(.end(commit), transaction: id)
        guard commit, let next = nextOpen else { return }
        nextOpen = next + 1
        ask(.start)
        ask(.end(false), transaction: next)
    }

    private func askToWatch(_ random: inout SplitMix64) {
        // The same again, to see whether it is carried out twice.
        if let again = watched.randomElement(using: &random), random.chance(30) || watched.count > 12 {
            return ask(.watch(again.value.path, token: again.key))
        }
        var path = Self.path(&random)
        if !foreign.isEmpty && random.chance(50) { path = random.one(of: foreign) }
        tokens += 1
        let token = "t\(tokens)"
        watched[token] = Watched(path: path, text: place(path))
        ask(.watch(path, token: token))
    }

    private func askToUnwatch(_ random: inout SplitMix64) {
        guard let one = watched.randomElement(using: &random), watched.count > 3 else { return }
        ask(.unwatch(one.value.path, token: one.key))
        if random.chance(50) { ask(.unwatch(one.value.path, token: one.key)) }
    }

    private static func path(_ random: inout SplitMix64) -> String {
        if random.chance(25) {
            return "wide/child-\(random.below(60))-" + String(repeating: "x", count: 45)
        }
        return (0...random.below(3)).map { _ in random.one(of: ["a", "b", "c", "d-e"]) }
            .joined(separator: "/")
    }

    // MARK: Turns

    /// Moves what can be moved now, `limit` bytes at most towards the daemon.
    func step(limit: Int) throws {
        guard let end else { return }
        let now = instant()
        if now >= deafUntil { received += try end.pull() }
        while let message = Message.take(from: &received) { try take(message) }
        if now < muteUntil || unsent.isEmpty { return }
        let count = try end.push(unsent.prefix(limit))
        unsent.removeFirst(count)
        // Readings that are asked for by now are on their way: the next event needs another one.
        if count > 0 { for token in watched.keys { watched[token]?.isReading = false } }
    }

    private func take(_ message: Message) throws {
        note("        gets \(message) id \(message.requestID)")
        if message.isEvent { return try takeEvent(message) }
        guard let request = asked.first else { throw broken("a reply to nothing: \(message)") }
        guard message.requestID == request.id,
            message.type == request.type.rawValue || message.errorName != nil
        else { throw broken("a reply to another request than \(request.type) id \(request.id): \(message)") }
        asked.removeFirst()
        replies += 1
        guard let it = request.asked else {
            do { try request.check?(message) } catch { throw broken("\(error)") }
            return
        }
        guard let answer = Answer(message, to: it.operation), model.take(answer, to: it) else {
            let right = model.outcomes(of: it).map { "\($0.answer)" }
            throw broken(
                "#\(it.number) \(it.operation.type) in transaction \(it.transaction): found \(message), "
                    + "which is \(Answer(message, to: it.operation).map { "\($0)" } ?? "none"), "
                    + "expected one of \(right)")
        }
        if case .start = it.operation, case .number(let id) = answer {
            if it.number < numberAtKill { model.isUncertain(id) }
            if nextOpen == nil {
                nextOpen = id + 1
                open.append(id)
            }
        }
    }

    private func takeEvent(_ message: Message) throws {
        guard message.requestID == 0, message.strings.count == 2 else { throw broken("an event: \(message)") }
        let (path, token) = (message.strings[0], message.strings[1])
        if let body = onEvent[token] {
            do { try body(path) } catch { throw broken("\(error)") }
            return
        }
        guard let it = watched[token], path == it.text || path.hasPrefix(it.text + "/") else {
            throw broken("an event of no watch: \(message)")
        }
        watched[token]?.events += 1
        if it.isReading { return }
        watched[token]?.isReading = true
        let operation = Operation.read(it.path)
        ask(.read, [it.text]) { [unowned self] reply in
            watched[token]?.seen = Answer(reply, to: operation)
        }
    }

    // MARK: Deaths

    /// The daemon has died, or is about to be told to.
    func daemonDied() {
        numberAtKill = number
        note("---- the daemon has died before #\(number)")
        model.daemonDied(before: number)
        for token in watched.keys { watched[token]?.events = 0 }
    }

    /// The connection is gone, with all that is on its way. Answers which requests may have been carried out.
    /// `next`: as in `Model`.
    func disconnect(next: UInt32?) -> [Model.Asked] {
        defer {
            end = nil
            asked = []
            unsent = []
            received = []
            open = []
            nextOpen = next
            watched = [:]
        }
        note("        is disconnected")
        return asked.compactMap(\.asked)
    }

    /// Throws unless each watch that stands has been told of the newest value. `others` answers for foreign
    /// nodes.
    func checkWatches(_ others: (String) -> Answer) throws {
        for watch in model.watches {
            guard let it = watched[watch.token] else { continue }
            let real: Answer =
                watch.path.hasPrefix("/")
                ? others(watch.path) : model.live[watch.path].map { .bytes($0.value) } ?? .failed("ENOENT")
            if it.seen != real {
                throw broken(
                    "a change has gone unseen: \(it.text), token \(watch.token): last read "
                        + "\(it.seen.map { "\($0)" } ?? "never"), now \(real)")
            }
        }
    }

    /// How often each standing watch has fired since the last kill, by token.
    var firings: [String: Int] {
        var all: [String: Int] = [:]
        for watch in model.watches { all[watch.token] = watched[watch.token]?.events }
        return all
    }

    // MARK: Telling

    func note(_ line: @autoclosure () -> String) {
        lately.append(line())
        if lately.count > 40000 { lately.removeFirst(20000) }
    }

    /// All that it remembers of what it did.
    var trace: String { name + "\n" + lately.joined(separator: "\n") + "\n" }

    func broken(_ text: String) -> Broken {
        let last = lately.suffix(30).joined(separator: "\n    ")
        return Broken("\(name): \(text)\n  what it did last:\n    \(last)")
    }
}
