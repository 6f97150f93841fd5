// A question to an access policy, made up by a test, as the plugin interface has it. Unsafe code.
//
// What is lent to the policy is overwritten and freed as soon as it returns: a policy that has kept any of it
// answers differently from one that has not, or dies.

import CXenStorePlugin
import XenStoreTypes

/// One question, as a value.
public struct TriedQuestion {
    public var operation: UInt32
    /// The operation of the request that it is part of.
    public var request: UInt32
    public var now: UInt64 = 1
    public var isDryRun = false
    public var isInTransaction = false
    public var nodeExists = false
    public var subject = xenstore_subject()
    public var groups: [UInt32] = []
    /// Empty: the operation has none.
    public var path: [UInt8] = []
    public var before: [xenstore_permission] = []
    public var after: [xenstore_permission] = []
    public var value: [UInt8] = []
    public var arguments: [[UInt8]] = []
    public var object = UInt16(XENSTORE_NO_DOMAIN)
    public var secondObject = UInt16(XENSTORE_NO_DOMAIN)

    public init(_ operation: Int, domain: UInt16 = 7) {
        self.operation = UInt32(operation)
        request = UInt32(operation)
        subject.domain = domain
        subject.target = UInt16(XENSTORE_NO_DOMAIN)
        subject.connection = 1
        if domain == 0 { subject.flags = UInt32(XENSTORE_SUBJECT_PRIVILEGED) }
    }

    /// Lends it as C has it.
    public func lend<R>(_ body: (UnsafePointer<xenstore_question>) -> R) -> R {
        var room = LentRoom()
        defer { room.spoil() }
        var question = xenstore_question()
        question.size = UInt32(MemoryLayout<xenstore_question>.size)
        if isDryRun { question.flags |= UInt32(XENSTORE_DRY_RUN) }
        if isInTransaction { question.flags |= UInt32(XENSTORE_IN_TRANSACTION) }
        if nodeExists { question.flags |= UInt32(XENSTORE_NODE_EXISTS) }
        question.operation = operation
        question.request = request
        question.now = now
        question.subject = subject
        question.groups = room.copy(groups)
        question.group_count = groups.count
        question.path = xenstore_bytes(start: room.copy(path), count: path.count)
        var ends = path.indices.dropFirst().filter { path[$0] == 0x2F }.map { UInt16($0) }
        if path.count > 1 { ends.append(UInt16(path.count)) }
        question.component_ends = room.copy(ends)
        question.component_count = ends.count
        question.before = room.copy(before)
        question.before_count = before.count
        question.after = room.copy(after)
        question.after_count = after.count
        question.value = xenstore_bytes(start: room.copy(value), count: value.count)
        question.arguments = room.copy(
            arguments.map { xenstore_bytes(start: room.copy($0), count: $0.count) })
        question.argument_count = arguments.count
        question.object = object
        question.second_object = secondObject
        return room.copy([question]).map(body)!
    }
}

/// Copies that are lent, until they are spoilt.
private struct LentRoom {
    private var pieces: [UnsafeMutableRawBufferPointer] = []

    /// Nil for nothing.
    mutating func copy<Element>(_ elements: [Element]) -> UnsafePointer<Element>? {
        if elements.isEmpty { return nil }
        let size = elements.count * MemoryLayout<Element>.stride
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        pieces.append(piece)
        elements.withUnsafeBytes { piece.copyMemory(from: $0) }
        return UnsafePointer(piece.baseAddress!.assumingMemoryBound(to: Element.self))
    }

    mutating func spoil() {
        for piece in pieces {
            piece.initializeMemory(as: UInt8.self, repeating: 0xDD)
            piece.deallocate()
        }
        pieces = []
    }
}

extension TriedQuestion: CustomStringConvertible {
    public var description: String {
        let who =
            subject.flags & UInt32(XENSTORE_SUBJECT_SOCKET) != 0
            ? "uid \(subject.uid)" : "domain \(subject.domain)"
        let text = String(decoding: path.prefix(80), as: UTF8.self) + (path.count > 80 ? "..." : "")
        return "operation \(operation) by \(who)\(path.isEmpty ? "" : " on \(text)")"
    }
}

/// Questions without end, those that are asked in practice and those that a hostile guest would bring about.
/// The same seed makes the same ones.
public struct PolicySeries {
    private var random: SplitMix64
    private let operations: [UInt32]
    private var now: UInt64 = 1

    /// `operations`: the set that questions are about; it must not be empty.
    public init(seed: UInt64, _ operations: UInt64) {
        random = SplitMix64(seed: seed)
        self.operations = (0..<64).filter { operations >> $0 & 1 != 0 }.map { UInt32($0) }
    }

    public mutating func next() -> TriedQuestion {
        now += UInt64(random.chance(2) ? random.below(5_000_000_000) : random.below(2_000_000))
        var question = TriedQuestion(Int(random.one(of: operations)), domain: domain())
        question.now = now
        setRequest(&question)
        setSubject(&question)
        question.isInTransaction = random.chance(20)
        let hasPath = Self.hasPath(question.operation)
        if hasPath { question.path = path(question.subject.domain) }
        question.nodeExists = hasPath && question.operation != UInt32(XENSTORE_OP_CREATE) && random.chance(70)
        if question.nodeExists { question.before = permissions() }
        switch Int(question.operation) {
        case XENSTORE_OP_SET_PERMS, XENSTORE_OP_CREATE: question.after = permissions()
        case XENSTORE_OP_WRITE: question.value = bytes(random.chance(5) ? 4000 : 20)
        default: break
        }
        if !hasPath { setArguments(&question) }
        return question
    }

    static func hasPath(_ operation: UInt32) -> Bool {
        switch Int(operation) {
        case XENSTORE_OP_DIRECTORY...XENSTORE_OP_UNWATCH, XENSTORE_OP_WRITE...XENSTORE_OP_SET_PERMS,
            XENSTORE_OP_DIRECTORY_PART, XENSTORE_OP_CREATE...XENSTORE_OP_LIST_CHILD:
            true
        default: false
        }
    }

    private mutating func setRequest(_ question: inout TriedQuestion) {
        switch Int(question.operation) {
        case XENSTORE_OP_CREATE:
            question.request = UInt32(random.chance(50) ? XENSTORE_OP_WRITE : XENSTORE_OP_MKDIR)
        case XENSTORE_OP_REMOVE_NODE: question.request = UInt32(XENSTORE_OP_RM)
        case XENSTORE_OP_LIST_CHILD: question.request = UInt32(XENSTORE_OP_DIRECTORY)
        default: break
        }
    }

    private mutating func setSubject(_ question: inout TriedQuestion) {
        question.subject.connection = UInt64(random.below(50))
        if random.chance(5) { question.subject.target = domain() }
        if !random.chance(15) { return }
        question.subject.flags |= UInt32(XENSTORE_SUBJECT_SOCKET)
        if random.chance(30) { question.subject.flags |= UInt32(XENSTORE_SUBJECT_READ_ONLY) }
        (question.subject.uid, question.subject.gid) = (UInt32(random.below(3000)), UInt32(random.below(300)))
        question.subject.pid = Int32(1 + random.below(30000))
        if question.subject.domain != 0 { question.subject.domain = UInt16(XENSTORE_NO_DOMAIN) }
        question.groups = (0..<random.below(20)).map { _ in UInt32(random.below(300)) }
    }

    private mutating func setArguments(_ question: inout TriedQuestion) {
        question.arguments = (0..<random.below(5)).map { _ in bytes(30) }
        if random.chance(2) { question.arguments = (0..<16).map { _ in bytes(200) } }
        if random.chance(50) { question.object = domain() }
        if Int(question.operation) == XENSTORE_OP_SET_TARGET { question.secondObject = domain() }
    }

    private mutating func domain() -> UInt16 {
        random.chance(10) ? 0 : UInt16(random.chance(5) ? random.below(0x7FF0) : 1 + random.below(9))
    }

    private mutating func permissions() -> [xenstore_permission] {
        (0...(random.chance(3) ? 60 : random.below(3))).map { _ in
            xenstore_permission(
                domain: domain(), mode: UInt8(random.below(4)), flags: UInt8(random.chance(5) ? 1 : 0))
        }
    }

    private mutating func bytes(_ most: Int) -> [UInt8] {
        (0..<random.below(most + 1)).map { _ in UInt8(random.below(256)) }
    }

    /// An absolute path as the daemon lets it through.
    private mutating func path(_ own: UInt16) -> [UInt8] {
        if random.chance(3) { return Array((random.chance(50) ? "@releaseDomain" : "@introduceDomain").utf8) }
        if random.chance(2) { return [0x2F] }
        if random.chance(1) { return [0x2F] + (0..<3000).map { _ in character() } }
        let names = [
            "a", "data", "control", "device", "vif", "vbd", "0", "1", "7", "state", "backend", "name",
        ]
        var path = ""
        if random.chance(70) {
            let domain = random.chance(60) ? Int(own) : random.below(10)
            path = "/local/domain/\(domain)"
        }
        let depth = random.chance(1) ? 600 : random.below(6)
        for _ in 0..<depth { path += "/" + random.one(of: names) }
        var bytes = Array(path.utf8)
        if bytes.isEmpty || random.chance(20) {
            bytes += [0x2F] + (0...random.below(12)).map { _ in character() }
        }
        return bytes
    }

    private mutating func character() -> UInt8 {
        random.one(of: Array("abcxyzABCXYZ0123456789-_@".utf8))
    }
}
