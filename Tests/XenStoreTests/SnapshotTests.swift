// Does every open snapshot see the tree exactly as it was, and is nothing kept for those that are closed?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

/// A tree that is copied as a whole for each snapshot.
private struct NaiveTree {
    struct Node {
        var value: [UInt8] = []
        var permissions: [Permission]
        /// Paths, in the order of creation.
        var children: [String] = []
    }

    var nodes: [String: Node]

    static func parent(_ path: String) -> String {
        let end = path.lastIndex(of: "/")!
        return end == path.startIndex ? "/" : String(path[..<end])
    }

    mutating func create(_ path: String, _ value: [UInt8], _ permissions: [Permission]) {
        nodes[path] = Node(value: value, permissions: permissions)
        nodes[Self.parent(path)]!.children.append(path)
    }

    mutating func remove(_ path: String) {
        for child in nodes[path]!.children { remove(child) }
        nodes[Self.parent(path)]!.children.removeAll { $0 == path }
        nodes[path] = nil
    }
}

/// A tree beside its naive twin, and the snapshots of both.
private final class Twins {
    let bytes = ByteStore()
    let lists: PermissionLists
    let path: ParsedPath
    let tree: Tree
    var naive: NaiveTree
    var open: [(id: SnapshotID, generation: UInt64, copy: NaiveTree)] = []
    var random: SplitMix64
    /// Every path that there can be: three names, four levels.
    let paths: [String]

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
        let hash = KeyedHash(seed: (seed, 1))
        let control = [Permission(.none, DomainID.zero)]
        lists = PermissionLists(bytes, hash)
        path = ParsedPath(hash)
        tree = Tree(bytes, lists, rootHash: path.rootHash, rootPermissions: control)
        naive = NaiveTree(nodes: ["/": .init(permissions: control)])
        var level = [""]
        var all: [String] = []
        for _ in 0..<4 {
            level = level.flatMap { above in ["a", "b", "long-name"].map { above + "/" + $0 } }
            all += level
        }
        paths = all
    }

    deinit {
        bytes.destroy()
    }

    func find(_ name: String, at generation: UInt64) -> NodeID {
        _ = path.refusal(name)
        return tree.find(path, path.depth, at: generation)
    }

    private func permissionList() -> [Permission] {
        (0...random.below(2)).map { _ in Permission(.read, DomainID(UInt16(random.below(5)))) }
    }

    /// One change of both; the generation is taken already.
    func change() {
        let name = random.one(of: paths)
        let value = random.bytes(random.one(of: [0, 1, 10, 500]))
        if naive.nodes[name] == nil {
            let above = NaiveTree.parent(name)
            if naive.nodes[above] == nil { return }
            let list = permissionList()
            let parent = find(above, at: live)
            _ = path.refusal(name)
            _ = path.withName(path.depth) { name in
                value.withBytes {
                    tree.create(
                        parent: parent, name: name, hash: path.hash(at: path.depth), value: $0,
                        permissions: lists.intern(list))
                }
            }
            return naive.create(name, value, list)
        }
        let node = find(name, at: live)
        switch random.below(5) {
        case 0, 1:
            value.withBytes { tree.setValue(node, $0) }
            naive.nodes[name]!.value = value
        case 2:
            let list = permissionList()
            tree.setPermissions(node, lists.intern(list))
            naive.nodes[name]!.permissions = list
        default:
            tree.forEachFromLeaves(node) { tree.remove($0) }
            naive.remove(name)
        }
    }

    /// What differs between the tree at a generation and a copy of the naive one; nil if nothing does.
    func difference(_ generation: UInt64, _ copy: NaiveTree) -> String? {
        for name in paths + ["/"] {
            let node = find(name, at: generation)
            guard let expected = copy.nodes[name] else {
                if node != 0 { return "\(name) should not be there" }
                continue
            }
            guard node != 0, let state = tree.state(node, at: generation) else {
                return "\(name) should be there"
            }
            if state.value.array != expected.value { return "value of \(name)" }
            if lists.entries(state.permissions) != expected.permissions { return "permissions of \(name)" }
            if children(node, at: generation) != expected.children { return "children of \(name)" }
        }
        return nil
    }

    private func children(_ node: NodeID, at generation: UInt64) -> [String] {
        var found: [String] = []
        var child = tree.nodes[node].firstChild
        while child != 0 {
            if tree.exists(child, at: generation) {
                var text: [UInt8] = []
                tree.appendPath(child, to: &text)
                found.append(String(decoding: text, as: UTF8.self))
            }
            child = tree.nodes[child].next
        }
        return found
    }

    /// The longest list of older versions of one node.
    var versionsMax: Int {
        paths.reduce(0) { most, name in
            var count = 0
            var version = tree.nodes[find(name, at: live) == 0 ? tree.root : find(name, at: live)].older
            while version != 0 {
                count += 1
                version = tree.versions[version].older
            }
            return max(most, count)
        }
    }
}

@Suite struct SnapshotTests {
    @Test(arguments: seeds) func seeExactlyWhatWas(seed: UInt64) throws {
        let twins = Twins(seed: seed)
        let tree = twins.tree
        for step in 0..<1500 {
            switch twins.random.below(10) {
            case 0 where twins.open.count < 6:
                twins.open.append((tree.takeSnapshot(), tree.generation, twins.naive))
            case 1 where !twins.open.isEmpty:
                let gone = twins.open.remove(at: twins.random.below(twins.open.count))
                tree.release(gone.id)
            default:
                // A transaction changes several at once.
                tree.generation += 1
                for _ in 0...twins.random.below(4) { twins.change() }
            }
            if step % 4 != 0 { continue }
            try check(twins, seed, step)
        }
        while !twins.open.isEmpty {
            tree.release(twins.open.remove(at: twins.random.below(twins.open.count)).id)
            try check(twins, seed, 1500)
        }
        #expect(tree.versions.count == 0, "seed \(seed)")
        #expect(tree.keptBytes == 0, "seed \(seed)")
        #expect(tree.snapshots.count == 0, "seed \(seed)")
        #expect(tree.nodes.count == tree.liveCount, "seed \(seed)")
        #expect(tree.index.count == tree.liveCount, "seed \(seed)")
        tree.generation += 1
        tree.forEachFromLeaves(tree.root) { if $0 != tree.root { tree.remove($0) } }
        #expect(tree.nodes.count == 1 && twins.lists.count == 1, "seed \(seed)")
        #expect(twins.bytes.used == 8, "seed \(seed): the root's list alone")
    }

    private func check(_ twins: Twins, _ seed: UInt64, _ step: Int) throws {
        let now = twins.difference(live, twins.naive)
        try demand(now == nil, seed, step, "now: \(now ?? "")")
        for snapshot in twins.open {
            let difference = twins.difference(snapshot.generation, snapshot.copy)
            try demand(difference == nil, seed, step, "at \(snapshot.generation): \(difference ?? "")")
        }
        let count = twins.tree.liveCount
        try demand(count == twins.naive.nodes.count, seed, step, "\(count) living nodes")
        try demand(twins.versionsMax <= twins.open.count, seed, step, "more versions than snapshots")
        let isNothingKept = twins.tree.versions.count == 0
        try demand((twins.tree.keptBytes == 0) == isNothingKept, seed, step, "\(twins.tree.keptBytes) kept")
        try demand(!twins.open.isEmpty || isNothingKept, seed, step, "kept for nobody")
    }

    /// Snapshots of one generation are one; and a change that nobody could have seen keeps nothing.
    @Test func costNothingUntilSomethingChanges() {
        let twins = Twins(seed: 1)
        let tree = twins.tree
        let ids = [tree.takeSnapshot(), tree.takeSnapshot()]
        #expect(ids[0] == ids[1] && tree.snapshots.count == 1 && tree.keptBytes == 0)
        let list = twins.lists.intern([Permission(.none, DomainID.zero)])
        tree.generation += 1
        tree.setValue(tree.root, Bytes("one"))
        let kept = tree.keptBytes
        #expect(kept > 0 && tree.versions.count == 1)
        tree.generation += 1
        tree.setValue(tree.root, Bytes("two"))
        tree.setPermissions(tree.root, list)
        #expect(tree.keptBytes == kept && tree.versions.count == 1)
        tree.release(ids[0])
        #expect(tree.versions.count == 1)
        tree.release(ids[1])
        #expect(tree.versions.count == 0 && tree.keptBytes == 0)
    }
}
