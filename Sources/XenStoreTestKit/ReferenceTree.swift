// The reference store's tree: a dictionary by path, nothing clever, nothing shared with the core.
//
// Invariants:
// - every path but `/` and the special nodes has its parent in `nodes`, and stands once in its parent's
//   `children`;
// - `children` are in order of creation: a child that is removed and created again stands last;
// - a stamp is given once: two nodes, or two states of one, with equal stamps are the same.

import XenStoreTypes

/// A node, with the stamps by which a transaction sees what changed.
public struct ReferenceNode: Equatable {
    public var value: [UInt8]
    public var permissions: [Permission]
    public var children: [String] = []
    /// When it was created.
    var birth: Int
    /// When its value or permissions were last set, to whatever value.
    var change: Int
    /// When a child of it was last created or removed.
    var listing: Int
}

/// A whole tree. Copying it is how the reference takes a snapshot.
public struct ReferenceTree {
    public private(set) var nodes: [String: ReferenceNode] = [:]
    private var lastStamp = 0

    init() {
        let root = Permission(.none, .zero)
        nodes["/"] = ReferenceNode(value: [], permissions: [root], birth: 0, change: 0, listing: 0)
        create("/tool", permissions: [root])
        create("/tool/xenstored", permissions: [root])
        addSpecial("@introduceDomain", [root])
        addSpecial("@releaseDomain", [root, Permission(.read, .any)])
    }

    public subscript(path: String) -> ReferenceNode? { nodes[path] }

    /// How many nodes are charged to `domain`: special ones are nobody's.
    func count(ownedBy domain: DomainID) -> Int {
        nodes.count { $0.key.hasPrefix("/") && $0.value.permissions[0].domain == domain }
    }

    /// Adds a node, last among its siblings. Its parent must exist.
    mutating func create(_ path: String, permissions: [Permission], value: [UInt8] = []) {
        let now = stamp()
        nodes[path] = ReferenceNode(
            value: value, permissions: permissions, birth: now, change: now, listing: now)
        guard let parent = ReferenceTree.parent(path) else { return }
        nodes[parent]!.children.append(ReferenceTree.leaf(path))
        nodes[parent]!.listing = now
    }

    mutating func setValue(_ path: String, _ value: [UInt8]) {
        nodes[path]!.value = value
        nodes[path]!.change = stamp()
    }

    mutating func setPermissions(_ path: String, _ permissions: [Permission]) {
        nodes[path]!.permissions = permissions
        nodes[path]!.change = stamp()
    }

    /// Marks every entry that names the domain as ignored. Is no change to anybody.
    mutating func ignoreEntries(naming domain: UInt16) {
        for (path, node) in nodes {
            for index in node.permissions.indices where node.permissions[index].domain.rawValue == domain {
                nodes[path]!.permissions[index].ignored = true
            }
        }
    }

    /// Removes a node and all below it.
    mutating func remove(_ path: String) {
        for gone in subtree(path) { nodes[gone] = nil }
        guard let parent = ReferenceTree.parent(path) else { return }
        nodes[parent]!.children.removeAll { $0 == ReferenceTree.leaf(path) }
        nodes[parent]!.listing = stamp()
    }

    /// Gives a node's children another order. False: they are others.
    mutating func reorder(_ path: String, _ children: [String]) -> Bool {
        guard nodes[path]?.children.sorted() == children.sorted() else { return false }
        nodes[path]!.children = children
        nodes[path]!.listing = stamp()
        return true
    }

    /// The node and everything below it, descendants before their ancestors; empty if there is no such node.
    func subtree(_ path: String) -> [String] {
        guard let node = nodes[path] else { return [] }
        return node.children.flatMap { subtree(ReferenceTree.join(path, $0)) } + [path]
    }

    /// For an absent path: the nearest ancestor that exists, and the first component that does not.
    /// Nil for a special node, which has no ancestors.
    func gap(_ path: String) -> (ancestor: String, missing: String)? {
        var missing = path
        while let above = ReferenceTree.parent(missing) {
            if nodes[above] != nil { return (above, missing) }
            missing = above
        }
        return nil
    }

    /// Nil for the root and for special nodes.
    static func parent(_ path: String) -> String? {
        guard path != "/", let last = path.lastIndex(of: "/") else { return nil }
        let above = path[..<last]
        return above.isEmpty ? "/" : String(above)
    }

    static func leaf(_ path: String) -> String {
        String(path[path.index(after: path.lastIndex(of: "/")!)...])
    }

    static func join(_ path: String, _ name: String) -> String {
        path == "/" ? "/" + name : path + "/" + name
    }

    /// How far `path` lies below `top`: 0 for itself, nil if it does not.
    static func depth(of path: String, below top: String) -> Int? {
        if path == top { return 0 }
        let prefix = top == "/" ? "/" : top + "/"
        guard path.hasPrefix(prefix) else { return nil }
        return path.dropFirst(prefix.count).count { $0 == "/" } + 1
    }

    private mutating func stamp() -> Int {
        lastStamp += 1
        return lastStamp
    }

    private mutating func addSpecial(_ name: String, _ permissions: [Permission]) {
        nodes[name] = ReferenceNode(value: [], permissions: permissions, birth: 0, change: 0, listing: 0)
    }
}
