// Labels as values, before a table is made of them.

import XenStorePlugin

/// What may be done to a node, or with it. The words are those of type enforcement for XenStore under FLASK.
public enum LabelClass: UInt8, CaseIterable, Sendable {
    /// A node with this label comes to be.
    case create
    /// A node comes to be below one with this label.
    case bind
    /// A node gets this label though the one above it has another.
    case transition
    case delete
    case read
    case write
    /// Its permissions change.
    case chmod
    /// A node leaves this label, or gets it, because it is given to another owner.
    case relabel

    public var name: StaticString {
        switch self {
        case .create: "create"
        case .bind: "bind"
        case .transition: "transition"
        case .delete: "delete"
        case .read: "read"
        case .write: "write"
        case .chmod: "chmod"
        case .relabel: "relabel"
        }
    }
}

/// The number of a label, from 0: what has none.
public typealias Label = UInt8

/// Whom a line of `domains` is about.
public enum Member: Hashable, Sendable {
    case any
    /// Who may do what the control domain may.
    case dom0
    /// A domain on its ring that is not privileged.
    case guest
    /// A socket's peer that is not privileged.
    case user
    /// The domains from the first id to the last.
    case domains(UInt16, UInt16)
}

/// A line of `domains`: who has this label, unless a line before it gives another.
public struct DomainLabel: Sendable {
    public var label: Label
    public var members: [Member]
    public var line: Int

    public init(_ label: Label, _ members: [Member], line: Int) {
        self.label = label
        self.members = members
        self.line = line
    }
}

/// A line of `nodes`: what a node and all below it have for a label.
public struct NodeLabel: Sendable {
    public var label: Label
    /// The names, outermost first; an empty one stands for any. The first one of `@introduceDomain` and its
    /// like begins with an @, and is the only one.
    public var names: [[UInt8]]
    /// Only nodes whose owner has one of these labels; nil: all.
    public var owners: [Label]?
    public var line: Int

    public init(_ label: Label, _ names: [[UInt8]], owners: [Label]?, line: Int) {
        self.label = label
        self.names = names
        self.owners = owners
        self.line = line
    }
}

/// A line of `allow`.
public struct Allowance: Sendable {
    /// Nil: all.
    public var subjects: [Label]?
    public var objects: [Label]?
    public var classes: [LabelClass]
    public var line: Int

    public init(subjects: [Label]?, objects: [Label]?, classes: [LabelClass], line: Int) {
        self.subjects = subjects
        self.objects = objects
        self.classes = classes
        self.line = line
    }
}

/// All that a file of labels says.
public struct LabelRules: Sendable {
    public var file: PlainText
    /// By their numbers; the first is that of whatever gets no other.
    public var labels: [PlainText] = ["unlabeled"]
    public var domains: [DomainLabel] = []
    public var nodes: [NodeLabel] = []
    public var allowances: [Allowance] = []
    public var isPermissive = false

    public init(file: PlainText) { self.file = file }
}
