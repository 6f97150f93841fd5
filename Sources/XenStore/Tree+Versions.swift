// Snapshots, and the older versions of nodes that they need (the rules are at the head of Node.swift).

extension Tree {
    /// What a version and a dead node are counted with, besides the version's value and the node's name.
    static var versionCost: Int { MemoryLayout<Version>.stride }
    static var deadCost: Int { MemoryLayout<Node>.stride + 32 }

    /// A snapshot of the tree as it is now. Costs nothing until something changes.
    func takeSnapshot() -> SnapshotID {
        let newest = newestSnapshot
        if newest != 0 && snapshots[newest].generation == generation {
            snapshots[newest].users += 1
            return newest
        }
        let id = snapshots.insert(Snapshot(generation: generation, users: 1, older: newest))
        if newest == 0 { oldestSnapshot = id } else { snapshots[newest].newer = id }
        newestSnapshot = id
        return id
    }

    /// One user of the snapshot less. The last one frees what only it could see.
    func release(_ id: SnapshotID) {
        snapshots[id].users -= 1
        if snapshots[id].users > 0 { return }
        let older = snapshots[id].older
        let newer = snapshots[id].newer
        if older == 0 { oldestSnapshot = newer } else { snapshots[older].newer = newer }
        if newer == 0 { newestSnapshot = older } else { snapshots[newer].older = older }
        var version = snapshots[id].firstKept
        while version != 0 {
            let next = versions[version].nextKept
            if older != 0 && versions[version].modified <= snapshots[older].generation {
                keep(version, for: older)
            } else {
                free(version)
            }
            version = next
        }
        snapshots.remove(id)
    }

    /// Called before a node changes: keeps what it is now, if an open snapshot sees that. If so, the node's
    /// value and its reference to the permission list now belong to the version, and true is answered.
    func keep(_ id: NodeID) -> Bool {
        let newest = newestSnapshot
        if newest == 0 || snapshots[newest].generation < nodes[id].modified { return false }
        let older = nodes[id].older
        let version = versions.insert(
            Version(
                modified: nodes[id].modified, node: id, older: older, newer: 0, value: nodes[id].value,
                permissions: nodes[id].permissions, valueCount: nodes[id].valueCount))
        if older != 0 { versions[older].newer = version }
        nodes[id].older = version
        keep(version, for: newest)
        keptBytes += Self.versionCost + Int(nodes[id].valueCount)
        return true
    }

    private func keep(_ version: VersionID, for snapshot: SnapshotID) {
        let last = snapshots[snapshot].lastKept
        versions[version].nextKept = 0
        if last == 0 { snapshots[snapshot].firstKept = version } else { versions[last].nextKept = version }
        snapshots[snapshot].lastKept = version
    }

    private func free(_ id: VersionID) {
        let version = versions[id]
        keptBytes -= Self.versionCost + Int(version.valueCount)
        if version.newer != 0 {
            versions[version.newer].older = version.older
        } else {
            nodes[version.node].older = version.older
        }
        if version.older != 0 { versions[version.older].newer = version.newer }
        bytes.remove(version.value, Int(version.valueCount))
        permissions.release(version.permissions)
        versions.remove(id)
        reap(version.node)
    }

    /// Frees a dead node that nobody sees any more, and then those above it which it was the last to need.
    func reap(_ id: NodeID) {
        var node = id
        while node != 0 && nodes[node].isDead && nodes[node].older == 0 && nodes[node].firstChild == 0 {
            let parent = nodes[node].parent
            keptBytes -= Self.deadCost + nodes[node].nameCount
            unlink(node)
            index.remove(nodes[node].hash, node)
            bytes.remove(nodes[node].name, nodes[node].nameCount)
            nodes.remove(node)
            node = parent
        }
    }

    private func unlink(_ id: NodeID) {
        let parent = nodes[id].parent
        if parent == 0 { return }
        let next = nodes[id].next
        let previous = nodes[id].previous
        if previous == 0 { nodes[parent].firstChild = next } else { nodes[previous].next = next }
        if next == 0 { nodes[parent].lastChild = previous } else { nodes[next].previous = previous }
    }
}
