// Taking the tree over from the backend (design, "Backends").
//
// Records come in any order, the later of two of one key counts. A node whose parent has not come yet gets a
// *stand-in* above it, which has the permissions of what stands above that; most get their own record later.
// Nothing is trusted: a record that no tree can hold is counted, told, and left out.

import XenStoreTypes

/// What is known while the tree is being recovered.
final class Recovery {
    /// Nodes that have had no record of their own yet.
    var standIns: Set<NodeID> = []
    /// Domain ids, and the generation up to which what names them speaks of one that has ended.
    var ended: [UInt16: UInt64] = [:]
    var boot: [UInt8] = []
    var newest: UInt64 = 1
    var records = 0
    var damaged = 0
}

extension Server {
    /// Keys of notes.
    private static let bootNote: StaticString = "\u{1}boot"
    private static let endedNote: StaticString = "\u{1}ended/"
    /// Its generation is one that was reached, whatever became of the nodes.
    static let generationNote: StaticString = "\u{1}generation"

    /// Takes packed records (`StoreRecord`) that the backend has. False: what follows the last one that was
    /// taken is no record.
    public func recover(_ records: UnsafeRawBufferPointer) -> Bool {
        if recovery == nil {
            // What a new store begins with is not what this one has.
            recovery = Recovery()
            path.load(canonical: Bytes("/tool"))
            removeLive(tree.find(path, 1, at: live))
        }
        guard let recovery else { return false }
        return StoreRecord.forEach(in: records) { record in
            recovery.records += 1
            if !recover(record, recovery) { recovery.damaged += 1 }
        }
    }

    private func recover(_ record: StoreRecord, _ recovery: Recovery) -> Bool {
        let key = Bytes(record.key)
        recovery.newest = max(recovery.newest, min(record.generation, Self.generationMax))
        if record.isNote { return recoverNote(record, key, recovery) }
        do throws(ErrorName) {
            if key[0] != 0x2F && key[0] != 0x40 { throw .inval }
            try path.parse(key, home: .zero, allowSpecial: true)
        } catch {
            return false
        }
        tree.generation = min(record.generation, Self.generationMax)
        let found = tree.nearest(path, at: live)
        if record.kind == .remove {
            if found.level == path.depth && path.depth > 0 && !path.isSpecial { removeLive(found.node) }
            return true
        }
        guard record.permissionCount > 0, record.value.count <= MessageHeader.payloadMax,
            let list = list(of: record)
        else { return false }
        if found.level < path.depth {
            if path.isSpecial { return false }
            recoverNode(record, below: found, list, recovery)
        } else {
            recovery.standIns.remove(found.node)
            set(found.node, path, permissions: permissions.intern(list))
            if !path.isSpecial { set(found.node, path, value: Bytes(record.value)) }
        }
        return true
    }

    private func list(of record: StoreRecord) -> [Permission]? {
        var list: [Permission] = []
        for position in 0..<record.permissionCount {
            guard var entry = record.permission(position) else { return nil }
            // It never ends, so no store of ours says so.
            if isEverlasting(entry.domain) { entry.ignored = false }
            list.append(entry)
        }
        return list
    }

    private func recoverNode(
        _ record: StoreRecord, below found: (node: NodeID, level: Int), _ list: [Permission],
        _ recovery: Recovery
    ) {
        var node = found.node
        for level in found.level + 1...path.depth {
            let isLast = level == path.depth
            let above = tree.nodes[node].permissions
            if !isLast { permissions.retain(above) }
            let own = isLast ? permissions.intern(list) : above
            node = path.withName(level) {
                create(
                    parent: node, $0, path.hash(at: level), isLast ? Bytes(record.value) : .empty, own)
            }
            if !isLast { recovery.standIns.insert(node) }
        }
    }

    private func recoverNote(_ record: StoreRecord, _ key: Bytes, _ recovery: Recovery) -> Bool {
        if key.equals(Self.bootNote) {
            recovery.boot = record.kind == .put ? Bytes(record.value).array : []
            return true
        }
        let prefix = Bytes(Self.endedNote)
        // Others are a later release's.
        guard key.count > prefix.count, key.slice(0, prefix.count) == prefix else { return true }
        guard let number = key.dropFirst(prefix.count).decimal.flatMap({ UInt16(exactly: $0) }) else {
            return false
        }
        recovery.ended[number] = record.kind == .put ? record.generation : nil
        return true
    }

    // MARK: Once all has come

    /// Ends the recovery: `sequence` is the number of the newest batch that the backend has, `boot` tells
    /// this boot of the host from others. After another boot the tree is empty, but for what stands at and
    /// below the absolute paths `keep`, which then belongs to the control domain.
    ///
    /// Answers whether it is the same boot, so that domains may still be there.
    public func finishRecovery(sequence: UInt64, boot: Span<UInt8>, keep: [[UInt8]]) -> Bool {
        let recovery = recovery ?? Recovery()
        self.recovery = nil
        tree.generation = recovery.newest + 1
        commits.sequence = sequence
        commits.offered = tree.generation
        commits.final = tree.generation
        commits.askRoom()
        commits.isRecording = true
        tree.generation += 1
        if recovery.damaged > 0 {
            var line = Line("the store has records that no tree can hold, and that are left out: ")
            line.add(recovery.damaged)
            log(.error, line)
        }
        ignore(recovery.ended)
        recordStandIns(recovery.standIns)
        renewLists()
        let isSame = boot.withBytes { boot in recovery.boot.withBytes { $0 == boot } }
        if !isSame || recovery.records == 0 {
            beginBoot(keep, recovery)
            boot.withBytes { commits.note(Bytes(Self.bootNote), $0, generation: tree.generation) }
        }
        return isSame
    }

    /// No store has come so far; what says so is damaged.
    private static let generationMax: UInt64 = 1 << 60

    /// Lists of children may stand in another order now: whoever has read half of one has to see that, by a
    /// number that no daemon before this one has shown.
    private func renewLists() {
        commits.note(Bytes(Self.generationNote), .empty, generation: tree.generation)
        tree.forEachFromLeaves(tree.root) { tree.nodes[$0].childrenChanged = tree.generation }
    }

    private func recordStandIns(_ standIns: Set<NodeID>) {
        if standIns.isEmpty { return }
        var line = Line("nodes without a record, that others stand below: ")
        line.add(standIns.count)
        log(.warning, line)
        for node in standIns where !tree.nodes[node].isDead { recordWithPath(node) }
    }

    private func recordWithPath(_ node: NodeID) {
        scratch.removeAll(keepingCapacity: true)
        tree.appendPath(node, to: &scratch)
        scratch.withBytes { eventPath.load(canonical: $0) }
        record(node, eventPath, eventPath.depth)
    }

    /// What names a domain that has ended since names nobody.
    private func ignore(_ ended: [UInt16: UInt64]) {
        if ended.isEmpty { return }
        func mark(_ node: NodeID) {
            var list = permissions.entries(tree.nodes[node].permissions)
            var isNew = false
            for position in list.indices where !list[position].ignored {
                guard let generation = ended[list[position].domain.rawValue] else { continue }
                if tree.nodes[node].modified > generation { continue }
                list[position].ignored = true
                isNew = true
            }
            if !isNew { return }
            let modified = tree.nodes[node].modified
            loadEventPath(node)
            commits.isRecording = false
            set(node, eventPath, permissions: permissions.intern(list))
            commits.isRecording = true
            tree.nodes[node].modified = modified
        }
        tree.forEachFromLeaves(tree.root, mark)
        mark(introduceNode)
        mark(releaseNode)
    }

    /// The tree of a host that has just started.
    private func beginBoot(_ keep: [[UInt8]], _ recovery: Recovery) {
        if recovery.records > 0 {
            let count = tree.liveCount
            removeAll(except: keep)
            var line = Line("the host has been started anew: nodes left out ")
            line.add(count - tree.liveCount)
            line.add(", kept ")
            line.add(tree.liveCount)
            log(.notice, line)
        }
        for number in recovery.ended.keys.sorted() {
            var key = Line(Self.endedNote)
            key.add(UInt32(number))
            key.bytes.withBytes { commits.remove($0, generation: tree.generation) }
        }
        let control = permissions.intern([Permission(.none, configuration.privilegedDomain)])
        path.load(canonical: Bytes("/tool/xenstored"))
        let found = tree.nearest(path, at: live)
        var node = found.node
        for level in found.level + 1..<path.depth + 1 {
            permissions.retain(control)
            node = path.withName(level) { create(parent: node, $0, path.hash(at: level), .empty, control) }
        }
        for node in [tree.root, tree.find(path, 1, at: live), tree.find(path, 2, at: live)] {
            recordWithPath(node)
        }
        setSpecial(introduceNode, [Permission(.none, configuration.privilegedDomain)])
        setSpecial(
            releaseNode, [Permission(.none, configuration.privilegedDomain), Permission(.read, .any)])
        permissions.release(control)
    }

    private func setSpecial(_ node: NodeID, _ list: [Permission]) {
        loadEventPath(node)
        set(node, eventPath, permissions: permissions.intern(list))
    }

    private func removeAll(except keep: [[UInt8]]) {
        var tops: Set<NodeID> = []
        var above: Set<NodeID> = [tree.root]
        for text in keep {
            text.withBytes { path.load(canonical: $0) }
            let top = tree.find(path, path.depth, at: live)
            if top == 0 { continue }
            tops.insert(top)
            var node = tree.nodes[top].parent
            while node != 0 {
                above.insert(node)
                node = tree.nodes[node].parent
            }
        }
        var doomed: [NodeID] = []
        for node in above where !tops.contains(node) {
            var child = tree.nextLiving(tree.nodes[node].firstChild)
            while child != 0 {
                if !above.contains(child) && !tops.contains(child) { doomed.append(child) }
                child = tree.nextLiving(tree.nodes[child].next)
            }
        }
        for node in doomed.sorted() where !tree.nodes[node].isDead { removeLive(node) }
        for node in above where !tops.contains(node) { empty(node) }
        tree.forEachFromLeaves(tree.root) { giveToControl($0) }
    }

    /// A node that stays only because others stand below it.
    private func empty(_ node: NodeID) {
        loadEventPath(node)
        let list = permissions.intern([Permission(.none, configuration.privilegedDomain)])
        set(node, eventPath, permissions: list)
        set(node, eventPath, value: .empty)
    }

    /// A node that outlives its domains: they have ended with the host.
    private func giveToControl(_ node: NodeID) {
        var list = permissions.entries(tree.nodes[node].permissions)
        let control = configuration.privilegedDomain
        if list[0].domain != control && list[0].domain != configuration.domain { list[0].domain = control }
        list[0].ignored = false
        for position in list.indices.dropFirst() where !isEverlasting(list[position].domain) {
            if list[position].domain != .any { list[position].ignored = true }
        }
        loadEventPath(node)
        set(node, eventPath, permissions: permissions.intern(list))
    }
}
