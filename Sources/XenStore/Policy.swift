// What an access policy is shown, and what it may say (design, "Policies in the order of checks").
//
// This is the core's side. The host adapts modules to it, the stub domain links them; a question's fields are
// those of the plugin interface.

import XenStoreTypes

/// What can be asked about: the wire's requests by their numbers, and what requests bring about.
public enum PolicyOperation {
    /// A node that WRITE or MKDIR brings about.
    public static var create: UInt32 { 32 }
    /// A node that RM removes.
    public static var removeNode: UInt32 { 33 }
    /// A change of which a watch would tell.
    public static var event: UInt32 { 34 }
    /// A child in the answer of DIRECTORY.
    public static var listChild: UInt32 { 35 }
}

/// A set of operations: operation n is bit n.
public typealias PolicyOperations = UInt64

/// Who asks.
public struct PolicySubject: Equatable, Sendable {
    /// That it speaks for; nil: a socket's peer that speaks for itself only.
    public var domain: DomainID?
    /// The domain that it may act for.
    public var target: DomainID?
    public var isPrivileged = false
    public var isSocket = false
    public var isReadOnly = false
    /// Who the socket's peer was when it connected.
    public var peer = SocketPeer()
    /// Tells connections apart.
    public var connection: UInt32 = 0

    public init() {}
}

/// The process at the other end of a socket.
public struct SocketPeer: Equatable, Sendable {
    public var user: UInt32
    public var group: UInt32
    public var process: Int32
    /// Its other groups.
    public var groups: [UInt32]

    public init(user: UInt32 = 0, group: UInt32 = 0, process: Int32 = 0, groups: [UInt32] = []) {
        self.user = user
        self.group = group
        self.process = process
        self.groups = groups
    }
}

/// One question. Everything in it is lent for the call.
public struct PolicyQuestion {
    public var operation: UInt32
    /// The operation of the request that it is part of.
    public var request: UInt32
    public var isDryRun = false
    public var isInTransaction = false
    /// There is a node at the path, as the subject's transaction sees it.
    public var nodeExists = false
    /// Nanoseconds; the same for all questions of a request.
    public var now: UInt64
    public var subject: PolicySubject
    /// Absolute; none: the operation has no path.
    public var path = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Where each component ends, in bytes from the path's start.
    public var componentEnds = UnsafeBufferPointer<UInt16>(start: nil, count: 0)
    /// Permission lists, 4 bytes an entry: u16 domain id, u8 mode, u8 flags (1: ignored); none: not known.
    public var before = UnsafeRawBufferPointer(start: nil, count: 0)
    public var after = UnsafeRawBufferPointer(start: nil, count: 0)
    public var value = UnsafeRawBufferPointer(start: nil, count: 0)
    public var arguments: [UnsafeRawBufferPointer] = []
    public var object: DomainID?
    public var secondObject: DomainID?
    /// A person asks why: `Policy.reason` is to be set.
    public var wantsReason = false

    public init(operation: UInt32, request: UInt32, now: UInt64, subject: PolicySubject) {
        self.operation = operation
        self.request = request
        self.now = now
        self.subject = subject
    }

    /// It is about a guest's request, and not about an event or a child in a list.
    public var mayBePostponed: Bool {
        !subject.isSocket && !subject.isPrivileged && operation != PolicyOperation.event
            && operation != PolicyOperation.listChild
    }
}

public enum PolicyVerdict: Equatable, Sendable {
    case abstain
    case grant
    /// EACCES, EPERM, ENOSPC, EBUSY or ENOENT.
    case deny(ErrorName)
    /// A guest's request is to be asked about again after so many milliseconds.
    case postpone(UInt32)

    /// What one policy and the next say together: any deny wins, the first of them; then the longest wish to
    /// wait; then any grant.
    public func together(with next: PolicyVerdict) -> PolicyVerdict {
        switch (self, next) {
        case (.deny, _), (_, .abstain), (.postpone, .grant), (.grant, .grant): self
        case (.postpone(let one), .postpone(let other)): .postpone(max(one, other))
        default: next
        }
    }
}

/// How an operation went.
public struct PolicyOutcome {
    /// Nil: it was done.
    public var error: ErrorName?
    /// Of all policies together.
    public var verdict: PolicyVerdict
    /// Which of them gave it; nil: none did.
    public var decider: Policy?
}

/// Decides who may do what. The host subclasses it.
///
/// No method may call back into the server. Same questions, same answers.
open class Policy {
    public init() {}

    /// Operations that `decide` is asked about; that `observe` is told of; of which the value is shown. They
    /// never change.
    open var decides: PolicyOperations { 0 }
    open var observes: PolicyOperations { 0 }
    open var values: PolicyOperations { 0 }

    open func decide(_ question: PolicyQuestion) -> PolicyVerdict { .abstain }

    /// Why the last decision was as it was, one line, if the question wanted to know.
    open var reason: [UInt8] { [] }

    open func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {}

    /// The domain is gone; its number may come back as another's.
    open func ended(_ domain: DomainID) {}

    /// For texts.
    open var name: [UInt8] { [] }
}

/// The policies in their order.
///
/// Invariant: `decides`, `observes` and `values` are what any of them wants, so that an operation that nobody
/// wants to see costs one test of a bit.
final class Policies {
    @exclusivity(unchecked) private(set) var all: [Policy] = []
    @exclusivity(unchecked) private(set) var decides: PolicyOperations = 0
    @exclusivity(unchecked) private(set) var observes: PolicyOperations = 0
    @exclusivity(unchecked) private(set) var values: PolicyOperations = 0
    /// How often they have been replaced.
    private(set) var reloads: UInt64 = 0

    // What the request at hand got.
    @exclusivity(unchecked) var verdict = PolicyVerdict.abstain
    @exclusivity(unchecked) var decider: Policy?
    // Who gave the verdict on the last question; -1: nobody.
    @exclusivity(unchecked) private var last = -1
    var lastDecider: Policy? { last < 0 ? nil : all[last] }
    /// Milliseconds that it is to wait; 0: it is not.
    @exclusivity(unchecked) var delay: UInt32 = 0

    // Scratch for questions.
    @exclusivity(unchecked) var ends: [UInt16] = []

    func replace(_ policies: [Policy]) {
        all = policies
        decides = 0
        observes = 0
        values = 0
        for policy in policies {
            decides |= policy.decides
            observes |= policy.observes
            values |= policy.values
        }
        reloads += 1
    }

    @inline(__always) func isAsked(_ operation: UInt32) -> Bool {
        decides != 0 && operation < 64 && decides >> UInt64(operation) & 1 != 0
    }

    @inline(__always) func isTold(_ operation: UInt32) -> Bool {
        observes != 0 && operation < 64 && observes >> UInt64(operation) & 1 != 0
    }

    /// What all of them say together. All that want to see the operation are asked, whatever the others say.
    ///
    /// Only a guest's request can be put off; elsewhere the wish is an abstention.
    func ask(_ question: PolicyQuestion) -> PolicyVerdict {
        var together = PolicyVerdict.abstain
        last = -1
        for index in all.indices where all[index].decides >> UInt64(question.operation) & 1 != 0 {
            var verdict = all[index].decide(question)
            if verdict == .abstain { continue }
            if case .postpone = verdict, !question.mayBePostponed { verdict = .abstain }
            let both = together.together(with: verdict)
            if both != together { last = index }
            together = both
        }
        return together
    }
}
