// Transcripts: what is said to a XenStore daemon and what must come back, as text that people read.
// The grammar is documented in Tests/Transcripts/files/README.md; this file reads it.

import XenStoreTypes

/// One transcript file.
public struct Transcript: Sendable {
    /// Who says something: `dom0`, `dom3`, `user1000`; then `.b` for a second connection, `.ro` for a
    /// read-only one.
    public struct Party: Hashable, Sendable {
        public var name: String
        public var domain: UInt16?
        public var user: UInt32?
        public var isReadOnly: Bool
    }

    /// What must come back.
    public enum Answer: Hashable, Sendable {
        case error(String)
        /// Exactly these bytes; nil stands for any string without NUL at that place.
        case payload([[UInt8]?])
        /// A transaction id, to be known by this name.
        case transaction(String)
        /// Any reply that is no error; any reply at all.
        case success, anything
        /// No reply yet; the connection is closed by the daemon.
        case pending, closed
        /// The statement is not for this daemon.
        case skipped
    }

    public enum Verb: Hashable, Sendable {
        case request(type: UInt32, transaction: String?, payload: [UInt8])
        case bytes([UInt8])
        /// Waits for a reply that was pending.
        case reply
        /// These events must come next, in any order among themselves.
        case events([[UInt8]])
        case close
        /// Something happens on the host. `isNoticed`: the daemon is told.
        case world(WorldEvent, domain: UInt16, isNoticed: Bool)
    }

    /// What can happen to a domain on the host.
    public enum WorldEvent: String, Hashable, Sendable {
        /// There is a new one of this number, in place of one that there may be.
        case create
        case shutdown, resume
        /// It is being destroyed; it is gone.
        case die, destroy
        /// Its guest resets the ring; its guest writes an index that cannot be.
        case reconnect
        case breakRing = "break"
        /// Its ring cannot be attached, or can again.
        case unattachable, attachable
    }

    public struct Statement: Sendable {
        public var line: Int
        public var text: String
        public var party: Party
        public var verb: Verb
        public var answer: Answer
        /// What other daemons answer, by their names.
        public var elsewhere: [String: Answer]

        /// What the daemon called `peer` must answer; nil is ours.
        public func answer(of peer: String?) -> Answer { peer.flatMap { elsewhere[$0] } ?? answer }
    }

    public var name: String
    public var statements: [Statement]
    /// `needs: guests`: other subjects than dom0, which sockets cannot play.
    public var needsGuests = false
    /// `needs: world`: domains that are introduced and die; a guest speaks by its ring.
    public var needsWorld = false
    /// `domains: 0 1 2`: the only ones that exist. Nil: all.
    public var domains: [UInt16]?
    /// `quota: nodes 5`: limits for guests.
    public var quotas: [(name: String, limit: UInt32)] = []
    /// `skip: ocaml`: daemons that this file is not for.
    public var skipped: Set<String> = []
}

/// A line that cannot be read.
public struct TranscriptMistake: Error, CustomStringConvertible {
    public var description: String
}

extension Transcript {
    /// Reads a whole file. Throws a mistake that names file and line.
    public init(name: String, text: String) throws(TranscriptMistake) {
        self.name = name
        statements = []
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            var reader = TranscriptReader(String(line))
            do throws(TranscriptMistake) {
                guard let first = try reader.word() else { continue }
                if first.hasSuffix(":") {
                    try readHeader(first, &reader)
                } else if first == "world" {
                    statements.append(try reader.worldStatement(line: number))
                } else {
                    statements.append(try reader.statement(first, line: number))
                }
            } catch {
                throw TranscriptMistake(description: "\(name):\(number): \(error): \(line)")
            }
        }
    }

    private mutating func readHeader(_ key: String, _ reader: inout TranscriptReader)
        throws(TranscriptMistake)
    {
        var words: [String] = []
        while let word = try reader.word() { words.append(word) }
        switch key {
        case "needs:" where words == ["guests"]: needsGuests = true
        case "needs:" where words == ["world"]:
            needsGuests = true
            needsWorld = true
        case "domains:": domains = words.compactMap { UInt16($0) }
        case "skip:": skipped.formUnion(words)
        case "quota:":
            guard words.count == 2, let limit = UInt32(words[1]) else {
                throw TranscriptMistake(description: "quota: NAME LIMIT")
            }
            quotas.append((words[0], limit))
        default: throw TranscriptMistake(description: "unknown header")
        }
    }

    public static let verbs: [String: MessageType] = [
        "control": .control, "directory": .directory, "read": .read, "get_perms": .getPermissions,
        "watch": .watch,
        "unwatch": .unwatch, "transaction_start": .transactionStart, "transaction_end": .transactionEnd,
        "introduce": .introduce, "release": .release, "get_domain_path": .getDomainPath, "write": .write,
        "mkdir": .makeDirectory, "rm": .remove, "set_perms": .setPermissions, "watch_event": .watchEvent,
        "error": .error, "is_domain_introduced": .isDomainIntroduced, "resume": .resume,
        "set_target": .setTarget,
        "restrict": .restrict, "reset_watches": .resetWatches, "directory_part": .directoryPart,
        "get_feature": .getFeature, "set_feature": .setFeature, "get_quota": .getQuota,
        "set_quota": .setQuota,
    ]
}

/// Reads one line.
struct TranscriptReader {
    /// One argument: its bytes, and whether it stood without quotes (then it may be a keyword).
    struct Item {
        var bytes: [UInt8]
        var keyword: String?
    }

    private var rest: [UInt8]

    init(_ line: String) { rest = Array(line.utf8) }

    /// The next word without quotes, or nil at the end or before a comment.
    mutating func word() throws(TranscriptMistake) -> String? {
        guard let item = try item() else { return nil }
        guard let word = item.keyword else { throw TranscriptMistake(description: "a word was expected") }
        return word
    }

    mutating func statement(_ first: String, line: Int) throws(TranscriptMistake) -> Transcript.Statement {
        let text = first + String(decoding: rest, as: UTF8.self)
        let (party, transaction) = try TranscriptReader.party(first)
        guard let verb = try word() else { throw TranscriptMistake(description: "what does it say?") }
        var items: [Item] = []
        var answers: [String] = []
        var elsewhere: [String: Transcript.Answer] = [:]
        var answer: Transcript.Answer?
        while let item = try item() {
            if item.keyword == "->" {
                answer = try self.answer(verb)
            } else if item.keyword == "|" {
                guard let peer = try word(), peer.hasSuffix(":") else {
                    throw TranscriptMistake(description: "| NAME: ANSWER")
                }
                answers.append(peer)
                elsewhere[String(peer.dropLast())] = try self.answer(verb)
            } else {
                items.append(item)
            }
        }
        let isCheck = ["event", "events", "close", "no"].contains(verb)
        guard isCheck || answer != nil else { throw TranscriptMistake(description: "no answer") }
        return Transcript.Statement(
            line: line, text: text, party: party,
            verb: try TranscriptReader.verb(verb, transaction, items), answer: answer ?? .success,
            elsewhere: elsewhere)
    }

    /// `world [quietly] EVENT DOMAIN`.
    mutating func worldStatement(line: Int) throws(TranscriptMistake) -> Transcript.Statement {
        let text = "world" + String(decoding: rest, as: UTF8.self)
        var words: [String] = []
        while let word = try word() { words.append(word) }
        let isNoticed = words.first != "quietly"
        if !isNoticed { words.removeFirst() }
        guard words.count == 2, let event = Transcript.WorldEvent(rawValue: words[0]),
            let domain = UInt16(words[1])
        else { throw TranscriptMistake(description: "world [quietly] EVENT DOMAIN") }
        return Transcript.Statement(
            line: line, text: text, party: Transcript.Party(name: "world", isReadOnly: false),
            verb: .world(event, domain: domain, isNoticed: isNoticed), answer: .success, elsewhere: [:])
    }

    /// `dom3.b[t1]`: who, and in which transaction.
    private static func party(_ word: String) throws(TranscriptMistake) -> (Transcript.Party, String?) {
        var name = word
        var transaction: String?
        if let open = word.firstIndex(of: "["), word.hasSuffix("]") {
            transaction = String(word[word.index(after: open)...].dropLast())
            name = String(word[..<open])
        }
        let parts = name.split(separator: ".")
        var party = Transcript.Party(name: name, isReadOnly: parts.dropFirst().contains("ro"))
        if parts[0].hasPrefix("dom"), let id = UInt16(parts[0].dropFirst(3)) {
            party.domain = id
        } else if parts[0].hasPrefix("user"), let id = UInt32(parts[0].dropFirst(4)) {
            party.user = id
        } else {
            throw TranscriptMistake(description: "who is \(name)?")
        }
        return (party, transaction)
    }

    private static func verb(_ word: String, _ transaction: String?, _ items: [Item])
        throws(TranscriptMistake)
        -> Transcript.Verb
    {
        let isRaw = items.first?.keyword == "raw"
        let arguments = items.dropFirst(isRaw ? 1 : 0).map(\.bytes)
        switch word {
        case "bytes": return .bytes(items.flatMap(\.bytes))
        case "reply": return .reply
        case "close": return .close
        case "event", "events":
            let parts = items.split { $0.keyword == ";" }
            return .events(parts.map { $0.flatMap { $0.bytes + [0] } })
        default: break
        }
        var type = Transcript.verbs[word]?.rawValue
        if word.hasPrefix("type:") { type = UInt32(word.dropFirst(5)) }
        guard let type else { throw TranscriptMistake(description: "unknown request \(word)") }
        var payload: [UInt8] = []
        for (index, argument) in arguments.enumerated() {
            payload += argument
            let isValue = type == MessageType.write.rawValue && index == 1
            if !isRaw && !isValue { payload.append(0) }
        }
        return .request(type: type, transaction: transaction, payload: payload)
    }

    /// What stands after `->` or `| NAME:`, up to the next `|` or the end.
    private mutating func answer(_ verb: String) throws(TranscriptMistake) -> Transcript.Answer {
        var items: [Item] = []
        while true {
            let before = rest
            guard let item = try item() else { break }
            if item.keyword == "|" {
                rest = before
                break
            }
            items.append(item)
        }
        let words: [String: Transcript.Answer] = [
            "nothing": .payload([]), "success": .success, "anything": .anything, "pending": .pending,
            "closed": .closed, "skip": .skipped,
        ]
        if items.count == 1, let keyword = items[0].keyword {
            if let known = words[keyword] { return known }
            if ErrorName.allCases.contains(where: { "\($0.name)" == keyword }) { return .error(keyword) }
            if keyword.hasPrefix("["), keyword.hasSuffix("]") {
                return .transaction(String(keyword.dropFirst().dropLast()))
            }
        }
        guard !items.isEmpty else { throw TranscriptMistake(description: "no answer") }
        let isMarked = items[0].keyword == "raw"
        if isMarked { items.removeFirst() }
        let isRaw = isMarked || verb == "read"
        return .payload(items.map { $0.keyword == "*" ? nil : $0.bytes + (isRaw ? [] : [0]) })
    }

    // MARK: Items

    /// A word or a chain of quoted strings: `"a"*4000+"b"`, `u32:17`. Nil at the end or at a comment.
    private mutating func item() throws(TranscriptMistake) -> Item? {
        rest = Array(rest.drop { $0 == 0x20 || $0 == 0x09 })
        guard let first = rest.first, first != 0x23 else { return nil }
        if first != 0x22 {
            let word = Array(rest.prefix { $0 != 0x20 && $0 != 0x09 })
            rest.removeFirst(word.count)
            let text = String(decoding: word, as: UTF8.self)
            if text.hasPrefix("u32:"), let number = UInt32(text.dropFirst(4)) {
                return Item(bytes: withUnsafeBytes(of: number) { [UInt8]($0) }, keyword: nil)
            }
            return Item(bytes: word, keyword: text)
        }
        var bytes: [UInt8] = []
        repeat {
            var part = try quoted()
            if rest.first == 0x2A {
                let digits = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
                guard let times = Int(String(decoding: digits, as: UTF8.self)) else {
                    throw TranscriptMistake(description: "how often?")
                }
                rest.removeFirst(digits.count + 1)
                part = Array(repeatElement(part, count: times).joined())
            }
            bytes += part
            guard rest.first == 0x2B else { break }
            rest.removeFirst()
        } while true
        return Item(bytes: bytes, keyword: nil)
    }

    /// A string in quotes; `\0 \n \\ \" \xHH` stand for the bytes they usually do.
    private mutating func quoted() throws(TranscriptMistake) -> [UInt8] {
        guard rest.first == 0x22 else { throw TranscriptMistake(description: "a quote was expected") }
        var bytes: [UInt8] = []
        var index = 1
        while index < rest.count, rest[index] != 0x22 {
            if rest[index] == 0x5C, index + 1 < rest.count {
                index += 1
                switch rest[index] {
                case 0x30: bytes.append(0)
                case 0x6E: bytes.append(0x0A)
                case 0x78:
                    let digits = String(decoding: rest[(index + 1)...].prefix(2), as: UTF8.self)
                    guard let byte = UInt8(digits, radix: 16) else {
                        throw TranscriptMistake(description: "\\x needs two hexadecimal digits")
                    }
                    bytes.append(byte)
                    index += 2
                default: bytes.append(rest[index])
                }
            } else {
                bytes.append(rest[index])
            }
            index += 1
        }
        guard index < rest.count else { throw TranscriptMistake(description: "a quote is not closed") }
        rest.removeFirst(index + 1)
        return bytes
    }
}
