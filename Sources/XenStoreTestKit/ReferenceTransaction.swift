// The reference's transactions: a copy of the whole tree, and notes of what was looked at
// (specification, section C). Decisions where the specification leaves room:
//
// - "Changed" means: by a request that was not part of this transaction and took effect since it began.
//   A write of an equal value is a change; a change undone is a change of the child list, but an absence that
//   is there again at the commit was not changed.
// - A request that was refused has still looked at what it looked at; but one that got EACCES saw nothing.
// - Creating a node changes its parent's child list, not the parent.
// - DIRECTORY reads the child list and the permissions, not the value: these may change, if they are equal
//   again at the commit the permissions have not changed.
// - MKDIR of an existing node reads it.
// - A transaction without a change of its own never conflicts.

import XenStoreTypes

struct ReferenceTransaction {
    /// A path that was absent, or that the transaction created: what must still hold for it at the commit.
    struct Absence: Hashable {
        var ancestor: String
        var missing: String
    }

    var base: ReferenceTree
    var view: ReferenceTree
    /// Nodes of the snapshot that were read or written.
    var touched: Set<String> = []
    /// Nodes of the snapshot whose child list was read.
    var listed: Set<String> = []
    /// Nodes of the snapshot that must be there still, with equal permissions.
    var anchors: Set<String> = []
    var absences: Set<Absence> = []
    /// Nodes of the snapshot that were removed, tops in the order of removal.
    var removedTops: [String] = []
    var removed: Set<String> = []
    /// Created or changed nodes that are still there, in the order of their first change.
    var changes: [String] = []
    /// Those of `changes` that get an event: all but implicitly created parents.
    var announced: Set<String> = []
    /// Whether any change request was carried out.
    var hasWritten = false
    /// It is from before a restart: its requests see the live tree and change nothing, and its commit ends in
    /// EAGAIN.
    var isDoomed = false

    init(snapshot: ReferenceTree) {
        base = snapshot
        view = snapshot
    }

    /// Whether `path` is the node of the snapshot, not one that the transaction made itself.
    private func isOfSnapshot(_ path: String) -> Bool {
        guard let old = base[path], let now = view[path] else { return false }
        return old.birth == now.birth
    }

    mutating func noteRead(_ path: String) {
        if isOfSnapshot(path) { touched.insert(path) }
    }

    mutating func noteList(_ path: String) {
        if isOfSnapshot(path) { listed.insert(path) }
    }

    /// Only whether it is there and what its permissions are was looked at.
    mutating func noteAnchor(_ path: String) {
        if isOfSnapshot(path) { anchors.insert(path) }
    }

    /// `path` is absent in the view: it never was there, or the transaction itself has removed it.
    mutating func noteAbsence(_ path: String) {
        guard let gap = view.gap(path), isOfSnapshot(gap.ancestor) else { return }
        anchors.insert(gap.ancestor)
        if base[gap.missing] != nil { return }
        absences.insert(Absence(ancestor: gap.ancestor, missing: gap.missing))
    }

    mutating func noteChange(_ path: String, announced isAnnounced: Bool) {
        hasWritten = true
        if !changes.contains(path) { changes.append(path) }
        if isAnnounced { announced.insert(path) }
    }

    /// To be called before the view loses `path`.
    mutating func noteRemoval(_ path: String) {
        hasWritten = true
        let gone = view.subtree(path)
        if isOfSnapshot(path) { removedTops.append(path) }
        for one in gone where isOfSnapshot(one) { removed.insert(one) }
        changes.removeAll { gone.contains($0) }
        announced.subtract(gone)
    }

    /// Whether what it saw still is so in the live tree.
    func conflicts(with live: ReferenceTree) -> Bool {
        guard hasWritten else { return false }
        for path in touched.union(removed) where !isUnchanged(path, live) { return true }
        for path in listed.union(removed) where live[path]?.listing != base[path]?.listing { return true }
        for absence in absences where live[absence.missing] != nil { return true }
        for path in anchors.union(absences.map(\.ancestor)) {
            guard let now = live[path], let old = base[path], now.birth == old.birth,
                now.permissions == old.permissions
            else { return true }
        }
        return false
    }

    /// Whether the owner of a node that it would make or change has ended.
    var givesToTheDead: Bool { changes.contains { view[$0]!.permissions[0].ignored } }

    private func isUnchanged(_ path: String, _ live: ReferenceTree) -> Bool {
        guard let now = live[path], let old = base[path] else { return false }
        return now.change == old.change && now.birth == old.birth
    }
}
