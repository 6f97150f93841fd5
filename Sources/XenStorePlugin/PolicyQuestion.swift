// What a policy is shown of an operation. Unsafe code: a view of struct xenstore_question.

import CXenStorePlugin
import XenStoreTypes

/// An operation that somebody asks for. Lent for the call: neither it nor the bytes in it may be kept.
public struct PolicyQuestion {
    private let question: UnsafePointer<xenstore_question>
    private let answer: UnsafeMutablePointer<xenstore_answer>?
    public let operation: PolicyOperation

    /// Nil for an operation that this side does not know.
    init?(
        _ question: UnsafePointer<xenstore_question>, _ answer: UnsafeMutablePointer<xenstore_answer>?
    ) {
        guard let operation = PolicyOperation(rawValue: question.pointee.operation) else { return nil }
        self.question = question
        self.answer = answer
        self.operation = operation
    }

    // MARK: Who

    /// The domain that the asking connection speaks for.
    public var domain: UInt16 { question.pointee.subject.domain }
    /// The same; nil: a socket's peer that speaks for itself only.
    public var speaksFor: UInt16? { Self.domain(question.pointee.subject.domain) }
    /// The domain that it may act for, if there is one.
    public var target: UInt16? { Self.domain(question.pointee.subject.target) }
    public var isPrivileged: Bool { has(subject: XENSTORE_SUBJECT_PRIVILEGED) }
    public var isReadOnly: Bool { has(subject: XENSTORE_SUBJECT_READ_ONLY) }
    /// Who was at the other end of the socket when it connected; nil on a ring.
    public var peer: (uid: UInt32, gid: UInt32, pid: Int32)? {
        guard has(subject: XENSTORE_SUBJECT_SOCKET) else { return nil }
        let subject = question.pointee.subject
        return (subject.uid, subject.gid, subject.pid)
    }
    /// The other groups of the socket's peer when it connected. Lent for the call.
    public var groups: UnsafeBufferPointer<UInt32> {
        UnsafeBufferPointer(start: question.pointee.groups, count: question.pointee.group_count)
    }
    /// Tells connections apart.
    public var connection: UInt64 { question.pointee.subject.connection }

    // MARK: What

    /// The operation of the request that it is part of; nil if this side does not know it.
    public var request: PolicyOperation? { PolicyOperation(rawValue: question.pointee.request) }
    /// Nanoseconds; the same for all questions of a request.
    public var now: UInt64 { question.pointee.now }
    /// Nothing will happen: no tokens are taken, nothing is noted.
    public var isDryRun: Bool { has(UInt32(XENSTORE_DRY_RUN)) }
    public var isInTransaction: Bool { has(UInt32(XENSTORE_IN_TRANSACTION)) }
    /// There is a node at the path, as the asking transaction sees it.
    public var nodeExists: Bool { has(UInt32(XENSTORE_NODE_EXISTS)) }
    /// Absolute; empty where the operation has none.
    public var path: UnsafeRawBufferPointer { Self.bytes(question.pointee.path) }
    /// The names in the path, outermost first; none of the root's.
    public var componentCount: Int { question.pointee.component_count }
    public func component(_ position: Int) -> UnsafeRawBufferPointer {
        precondition(position >= 0 && position < componentCount)
        return Self.bytes(xenstore_component(question, position))
    }
    /// The domain that owns the node; nil if there is no node, or the owner is gone: a domain that has its
    /// number now owns nothing by that.
    public var owner: UInt16? {
        guard question.pointee.before_count > 0, question.pointee.before[0].flags & 1 == 0 else { return nil }
        return question.pointee.before[0].domain
    }
    /// The node's permissions, the owner's first; empty if there is no node.
    public var permissionsBefore: [Permission] {
        Self.permissions(question.pointee.before, question.pointee.before_count)
    }
    /// The permissions that it would get, the owner's first; empty if it gets none.
    public var permissionsAfter: [Permission] {
        Self.permissions(question.pointee.after, question.pointee.after_count)
    }
    /// Empty unless the policy's interest names the operation in `values`.
    public var value: UnsafeRawBufferPointer { Self.bytes(question.pointee.value) }
    public var argumentCount: Int { question.pointee.argument_count }
    public func argument(_ position: Int) -> UnsafeRawBufferPointer {
        precondition(position >= 0 && position < argumentCount)
        return Self.bytes(question.pointee.arguments[position])
    }
    /// The domain that the request is about, if there is one.
    public var object: UInt16? { Self.domain(question.pointee.object) }
    /// SET_TARGET: the target to be.
    public var secondObject: UInt16? { Self.domain(question.pointee.second_object) }

    /// Says which rule decided, with its file and line, where a person asks; else costs nothing.
    public func because(_ reason: @autoclosure () -> String) { because(PlainText(reason())) }

    /// The same, for modules that a kernel links too.
    public func because(_ reason: @autoclosure () -> PlainText) {
        guard let answer, let place = answer.pointee.reason, answer.pointee.room > 0 else { return }
        let bytes = reason().bytes
        let count = min(bytes.count, answer.pointee.room - 1)
        for index in 0..<count { place[index] = CChar(bitPattern: bytes[index]) }
        place[count] = 0
    }

    // MARK: Reading

    private func has(_ flag: UInt32) -> Bool { question.pointee.flags & flag != 0 }
    private func has(subject flag: UInt32) -> Bool { question.pointee.subject.flags & flag != 0 }

    private static func domain(_ number: UInt16) -> UInt16? {
        UInt32(number) == XENSTORE_NO_DOMAIN ? nil : number
    }

    private static func bytes(_ bytes: xenstore_bytes) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes.start, count: bytes.count)
    }

    private static func permissions(
        _ list: UnsafePointer<xenstore_permission>?, _ count: Int
    ) -> [Permission] {
        UnsafeBufferPointer(start: list, count: count).map { entry in
            Permission(
                AccessMode(rawValue: entry.mode & 3) ?? .none, DomainID(entry.domain),
                ignored: entry.flags & 1 != 0)
        }
    }
}
