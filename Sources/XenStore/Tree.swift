// The tree of nodes as everybody sees it, and as open transactions saw it.
//
// Invariants (checked by `checkInvariants`):
// - Every node but the root and the special nodes has a parent, and is in its list of children exactly once.
// - Every node is in the index exactly once, under its path's hash.
// - A live node's parent is alive. A dead node has a version, or a child that has one.
// - A version is newer than the one behind it, and older than its node; some open snapshot sees it.
// - Snapshots stand in the order of their generations.

import XenStoreTypes

/// "Now" where a generation is asked for: the live tree.
let live = UInt64.max

final class Tree {
    let nodes = Arena<Node>()
    let versions = Arena<Version>()
    let snapshots = Arena<Snapshot>()
    let index = HashIndex()
    let bytes: ByteStore
    let permissions: PermissionLists
    let root: NodeID

    /// Number of the last committed change.
    @exclusivity(unchecked) var generation: UInt64 = 1
    @exclusivity(unchecked) var newestSnapshot: SnapshotID = 0
    @exclusivity(unchecked) var oldestSnapshot: SnapshotID = 0
    /// Nodes that exist now, special ones too.
    @exclusivity(unchecked) var liveCount = 0
    /// Bytes of versions and dead nodes, kept for open transactions only.
    @exclusivity(unchecked) var keptBytes = 0

    /// A tree with nothing but a root with this permission list.
    init(_ bytes: ByteStore, _ permissions: PermissionLists, rootHash: UInt64, rootPermissions: [Permission])
    {
        self.bytes = bytes
        self.permissions = permissions
        let node = Node(
            hash: rootHash, generation: 1, parent: 0, name: 0, nameCount: 0, value: 0, valueCount: 0,
            permissions: permissions.intern(rootPermissions))
        root = nodes.insert(node)
        index.insert(rootHash, root)
        liveCount = 1
    }

    deinit {
        nodes.destroy()
        versions.destroy()
        snapshots.destroy()
        index.destroy()
    }

    // MARK: Looking up

    /// What the node was at a generation; nil if it did not exist then.
    @inline(__always) func state(_ id: NodeID, at snapshot: UInt64) -> NodeState? {
        if nodes[id].modified <= snapshot {
            if nodes[id].isDead { return nil }
            return NodeState(value: value(id), permissions: nodes[id].permissions)
        }
        return olderState(id, at: snapshot)
    }

    private func olderState(_ id: NodeID, at snapshot: UInt64) -> NodeState? {
        var version = nodes[id].older
        while version != 0 {
            if versions[version].modified <= snapshot {
                let value = bytes.bytes(versions[version].value, Int(versions[version].valueCount))
                return NodeState(value: value, permissions: versions[version].permissions)
            }
            version = versions[version].older
        }
        return nil
    }

    @inline(__always) func exists(_ id: NodeID, at snapshot: UInt64) -> Bool {
        if nodes[id].modified <= snapshot { return !nodes[id].isDead }
        return olderState(id, at: snapshot) != nil
    }

    @inline(__always) func value(_ id: NodeID) -> Bytes {
        bytes.bytes(nodes[id].value, Int(nodes[id].valueCount))
    }

    @inline(__always) func name(_ id: NodeID) -> Bytes { bytes.bytes(nodes[id].name, nodes[id].nameCount) }

    /// The node that the first `level` components of the path name at a generation, or 0.
    @inline(__always) func find(_ path: ParsedPath, _ level: Int, at snapshot: UInt64) -> NodeID {
        let hash = path.hash(at: level)
        return index.first(hash) { id in
            nodes[id].hash == hash && exists(id, at: snapshot) && isNamed(id, path, level)
        }
    }

    /// Whether the node's names, from its own up to the root's, are those of the path's first `level`
    /// components.
    @inline(__always) func isNamed(_ id: NodeID, _ path: ParsedPath, _ level: Int) -> Bool {
        path.withPrefix(level) { prefix in
            var node = id
            // What is left of the path: in front of a name stands the slash behind the one above.
            var rest = prefix
            while node != 0 && node != root {
                let name = self.name(node)
                let begin = rest.count - name.count
                if begin < 0 || rest.dropFirst(begin) != name { return false }
                node = nodes[node].parent
                if node == 0 { return begin == 0 && path.isSpecial }
                if begin == 0 || rest[begin - 1] != 0x2F { return false }
                rest = rest.slice(0, max(begin - 1, 1))
            }
            return node == root && rest.count == 1 && rest[0] == 0x2F
        }
    }

    /// The node that the path names and all of the path's depth; or, where it names none, the nearest
    /// ancestor that exists and its depth. For an absent special node: (0, 0).
    @inline(__always) func nearest(_ path: ParsedPath, at snapshot: UInt64) -> (node: NodeID, level: Int) {
        var level = path.depth
        while level > 0 {
            let node = find(path, level, at: snapshot)
            if node != 0 { return (node, level) }
            level -= 1
        }
        return (path.isSpecial ? 0 : root, 0)
    }

    /// The child that component `level` of the path names at a generation, if `parent` is the node of the
    /// components above; or 0.
    func child(of parent: NodeID, _ path: ParsedPath, _ level: Int, at snapshot: UInt64) -> NodeID {
        path.withName(level) { child(of: parent, named: $0, hash: path.hash(at: level), at: snapshot) }
    }

    /// The child of this name, whose path has this hash, at a generation; or 0.
    func child(of parent: NodeID, named name: Bytes, hash: UInt64, at snapshot: UInt64) -> NodeID {
        index.first(hash) { id in
            nodes[id].hash == hash && nodes[id].parent == parent && exists(id, at: snapshot)
                && self.name(id) == name
        }
    }

    /// Appends the node's absolute path: `/` for the root, the bare name for a special node.
    func appendPath(_ id: NodeID, to text: inout [UInt8]) {
        if id == root {
            text.append(0x2F)
            return
        }
        // Names are met from the leaf up: make room for them all first.
        var count = 0
        var node = id
        while node != 0 && node != root {
            count += nodes[node].nameCount + (nodes[node].parent == 0 ? 0 : 1)
            node = nodes[node].parent
        }
        var end = text.count + count
        text.append(contentsOf: repeatElement(0x2F, count: count))
        node = id
        while node != 0 && node != root {
            let name = self.name(node)
            end -= name.count
            for position in 0..<name.count { text[end + position] = name[position] }
            end -= 1
            node = nodes[node].parent
        }
    }

    // MARK: Changing. The caller has taken a new generation.

    /// Creates a node as the last child of `parent` (0: a special node). Takes over one reference to
    /// `permissions`.
    func create(
        parent: NodeID, name: Bytes, hash: UInt64, value: Bytes, permissions list: PermissionsID
    ) -> NodeID {
        let node = Node(
            hash: hash, generation: generation, parent: parent, name: bytes.insert(name),
            nameCount: name.count, value: bytes.insert(value), valueCount: value.count, permissions: list)
        let id = nodes.insert(node)
        index.insert(hash, id)
        liveCount += 1
        if parent == 0 { return id }
        let last = nodes[parent].lastChild
        nodes[id].previous = last
        if last == 0 { nodes[parent].firstChild = id } else { nodes[last].next = id }
        nodes[parent].lastChild = id
        nodes[parent].childrenChanged = generation
        return id
    }

    func setValue(_ id: NodeID, _ value: Bytes) {
        if keep(id) {
            permissions.retain(nodes[id].permissions)
            nodes[id].value = bytes.insert(value)
        } else {
            nodes[id].value = bytes.replace(nodes[id].value, Int(nodes[id].valueCount), with: value)
        }
        nodes[id].valueCount = UInt16(value.count)
        nodes[id].modified = generation
    }

    /// Takes over one reference to `list`.
    func setPermissions(_ id: NodeID, _ list: PermissionsID) {
        if keep(id) {
            nodes[id].value = bytes.insert(value(id))
        } else {
            permissions.release(nodes[id].permissions)
        }
        nodes[id].permissions = list
        nodes[id].modified = generation
    }

    /// Removes one node, which has no living children any more.
    func remove(_ id: NodeID) {
        if !keep(id) {
            bytes.remove(nodes[id].value, Int(nodes[id].valueCount))
            permissions.release(nodes[id].permissions)
        }
        let parent = nodes[id].parent
        nodes[id].value = 0
        nodes[id].valueCount = 0
        nodes[id].permissions = 0
        nodes[id].modified = generation
        nodes[id].die()
        liveCount -= 1
        if parent != 0 { nodes[parent].childrenChanged = generation }
        keptBytes += Self.deadCost + nodes[id].nameCount
        reap(id)
    }

    /// Calls `body` for every living node below `top`, children before their parents and in the order of
    /// creation, and last for `top`. `body` may remove the node.
    func forEachFromLeaves(_ top: NodeID, _ body: (NodeID) -> Void) {
        var node = firstLeaf(top)
        while true {
            // Whatever is needed to go on is read before the node may be gone.
            let parent = nodes[node].parent
            let next = nextLiving(nodes[node].next)
            body(node)
            if node == top { return }
            node = next != 0 ? firstLeaf(next) : parent
        }
    }

    private func firstLeaf(_ top: NodeID) -> NodeID {
        var node = top
        while true {
            let child = nextLiving(nodes[node].firstChild)
            if child == 0 { return node }
            node = child
        }
    }

    /// The first living node from `id` on among its siblings, or 0.
    @inline(__always) func nextLiving(_ id: NodeID) -> NodeID {
        var node = id
        while node != 0 && nodes[node].isDead { node = nodes[node].next }
        return node
    }
}
