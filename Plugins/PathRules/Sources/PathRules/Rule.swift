// A rule as a value, before a table is made of many.

import XenStorePlugin

/// What a rule says of an operation, if it is the first one that matches.
public enum RuleEffect: Equatable, Sendable {
    case deny(PolicyError)
    case grant
    /// Nothing: the node's own permissions decide, unless another policy does.
    case abstain
}

/// Whom a rule is about.
public enum RuleSubject: Hashable, Sendable {
    case anybody
    /// A domain on its ring that is not privileged.
    case guest
    /// Who may do what the control domain may: itself, and root on a socket.
    case control
    /// A socket's peer that is not privileged.
    case user
    /// Who owns the node that is there, or acts for the domain that does.
    case owner
    /// The domains from the first id to the last.
    case domains(UInt16, UInt16)
    case uid(UInt32)
    /// Of any of the groups that the socket's peer belongs to.
    case gid(UInt32)
}

/// One place in a pattern.
public enum PatternPart: Hashable, Sendable {
    case name([UInt8])
    /// `*`: one name, whichever.
    case any
    /// `{domid}`: the caller's own domain id, in decimal digits.
    case own
    /// `**`: any number of names, none included. Never twice in a row.
    case rest
}

/// Which paths a rule is about, or which of CONTROL's commands.
public struct PathPattern: Hashable, Sendable {
    /// What a pattern's first name is a name of.
    public enum Root: UInt8, Sendable {
        /// A node below `/`.
        case node
        /// `@introduceDomain` or one of its like, which have no slash before them.
        case special
        /// A command of CONTROL: the pattern is its name and nothing else.
        case command
    }

    public var root: Root
    /// The names, outermost first; none: the root.
    public var parts: [PatternPart]

    public init(_ root: Root, _ parts: [PatternPart]) {
        self.root = root
        self.parts = parts
    }

    /// Of nodes.
    public init(_ parts: [PatternPart]) { self.init(.node, parts) }
}

public struct Rule: Sendable {
    public var subjects: [RuleSubject]
    public var operations: PolicyOperations
    /// Nil: every path, every command of CONTROL, and operations that have neither.
    public var patterns: [PathPattern]?
    public var effect: RuleEffect
    /// What it would deny or grant is logged, and the rules behind it decide.
    public var isPermissive: Bool
    /// For texts: its name, if it has one, and `FILE:LINE`.
    public var title: PlainText

    public init(
        _ effect: RuleEffect, subjects: [RuleSubject], operations: PolicyOperations,
        patterns: [PathPattern]? = nil, isPermissive: Bool = false, title: PlainText = ""
    ) {
        self.effect = effect
        self.subjects = subjects
        self.operations = operations
        self.patterns = patterns
        self.isPermissive = isPermissive
        self.title = title
    }
}

/// Who asks, as rules see it.
public struct Asker {
    /// Nil: a socket's peer that speaks for itself only.
    public var domain: UInt16?
    public var isControl = false
    public var isSocket = false
    /// It owns the node that is there, or acts for the domain that does.
    public var isOwner = false
    public var uid: UInt32 = 0
    public var gid: UInt32 = 0
    /// Its other groups.
    public var groups = UnsafeBufferPointer<UInt32>(start: nil, count: 0)

    public init(domain: UInt16?) { self.domain = domain }
}

/// The rules together are more than a table can be made of.
public struct RuleExcess: Error {
    /// The first rule that is too many, from 0.
    public var rule: Int
}
