// The reference's node requests, inside transactions and outside (specification, section A).

import XenStoreTypes

extension ReferenceRequest {
    private var transaction: ReferenceTransaction? {
        get {
            message.transactionID == 0 || isDiscarded ? nil : connection.transactions[message.transactionID]
        }
        nonmutating set {
            // Where there was none, Swift sets none, too.
            if let newValue { connection.transactions[message.transactionID] = newValue }
        }
    }

    /// What the request changes is thrown away.
    private var isDiscarded: Bool { connection.transactions[message.transactionID]?.isDoomed == true }

    /// A change of the live tree that makes it grow is refused while the store takes none.
    private func checkRoom() throws(ErrorName) {
        if store.isFull && transaction == nil { throw .nospc }
    }

    /// What the request sees.
    private var view: ReferenceTree { transaction?.view ?? store.tree }

    /// The node at `path`, if it grants `right`. A missing one is ENOENT only for those whom the nearest
    /// existing ancestor grants the right.
    @discardableResult
    private func find(
        _ path: String, _ right: ReferenceRight, listing: Bool = false
    ) throws(ErrorName) -> ReferenceNode {
        if let node = view[path] {
            guard store.grants(node.permissions, subject, right) else { throw .acces }
            if listing { transaction?.noteAnchor(path) } else { transaction?.noteRead(path) }
            if listing { transaction?.noteList(path) }
            return node
        }
        try findGap(path, right)
        throw .noent
    }

    /// The list of the nearest existing ancestor of the absent `path`, if it grants `right`.
    @discardableResult
    private func findGap(_ path: String, _ right: ReferenceRight) throws(ErrorName) -> [Permission] {
        guard let gap = view.gap(path) else { throw isPrivileged ? .noent : .acces }
        let list = view[gap.ancestor]!.permissions
        guard store.grants(list, subject, right) else { throw .acces }
        transaction?.noteAbsence(path)
        return list
    }

    // MARK: Asking

    func read() throws(ErrorName) { reply(try find(path(oneString()), .read).value) }

    func directory() throws(ErrorName) {
        let list = try childList(path(oneString()))
        if list.count > MessageHeader.payloadMax { throw .toobig }
        reply(list)
    }

    func directoryPart() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count == 2 else { throw .inval }
        guard let offset = number(all[1]) else { throw .inval }
        let path = try path(all[0])
        let list = try childList(path)
        let node = view[path]!
        connection.queue(
            .part(message, list: list, offset: offset, path: path, listing: node.listing, change: node.change)
        )
    }

    private func childList(_ path: String) throws(ErrorName) -> [UInt8] {
        let node = try find(path, .read, listing: true)
        return [UInt8](strings: node.children)
    }

    func getPermissions() throws(ErrorName) {
        let node = try find(path(oneString(), special: true), .read)
        reply(
            [UInt8](
                strings: node.permissions.map {
                    String(UnicodeScalar($0.mode.letter)) + String($0.domain.rawValue)
                }))
    }

    // MARK: Changing

    func write() throws(ErrorName) {
        guard let end = message.payload.firstIndex(of: 0) else { throw .inval }
        let path = try path(Array(message.payload[..<end]))
        let value = Array(message.payload[(end + 1)...])
        let isNew = view[path] == nil
        let list = isNew ? try findGap(path, .write) : try find(path, .write).permissions
        if let limit = store.limit("node-size", subject), value.count > limit { throw .nospc }
        if isNew {
            try create(path, list, value)
        } else {
            try checkRoom()
            change(path) { $0.setValue(path, value) }
        }
        reply("OK")
    }

    func makeDirectory() throws(ErrorName) {
        let path = try path(oneString())
        if view[path] != nil {
            try find(path, .write)
        } else {
            try create(path, findGap(path, .write), [])
        }
        reply("OK")
    }

    /// The node and its missing ancestors, with the nearest ancestor's list; a guest owns what it creates.
    private func create(_ path: String, _ inherited: [Permission], _ value: [UInt8]) throws(ErrorName) {
        var list = inherited
        if case .domain(let id) = subject, id != 0 { list[0] = Permission(list[0].mode, DomainID(id)) }
        var missing = [path]
        while let parent = ReferenceTree.parent(missing[0]), view[parent] == nil {
            missing.insert(parent, at: 0)
        }
        if let limit = store.limit("nodes", subject), ownedNodes() + missing.count > limit { throw .nospc }
        try checkRoom()
        if isDiscarded { return }
        let before = store.tree
        for one in missing {
            let content = one == path ? value : []
            if transaction == nil {
                store.tree.create(one, permissions: list, value: content)
            } else {
                transaction!.view.create(one, permissions: list, value: content)
                transaction!.noteChange(one, announced: one == path)
            }
        }
        if transaction == nil { store.fire(path, before: before, after: store.tree) }
    }

    /// The nodes that the requester is charged for, with what its transaction would add.
    private func ownedNodes() -> Int {
        guard case .domain(let id) = subject else { return 0 }
        let live = store.tree.count(ownedBy: DomainID(id))
        guard let transaction else { return live }
        return live + transaction.view.count(ownedBy: DomainID(id))
            - transaction.base.count(ownedBy: DomainID(id))
    }

    private func change(_ path: String, _ body: (inout ReferenceTree) -> Void) {
        if isDiscarded { return }
        if transaction != nil {
            transaction!.noteChange(path, announced: true)
            body(&transaction!.view)
        } else {
            let before = store.tree
            body(&store.tree)
            store.fire(path, before: before, after: store.tree)
        }
    }

    func remove() throws(ErrorName) {
        let path = try path(oneString())
        if path == "/" { throw .inval }
        guard view[path] != nil else {
            try findGap(path, .write)
            guard view[ReferenceTree.parent(path)!] != nil else { throw .noent }
            return reply("OK")
        }
        try find(path, .write)
        if isDiscarded { return reply("OK") }
        if transaction != nil {
            transaction!.noteRemoval(path)
            transaction!.view.remove(path)
        } else {
            let before = store.tree
            let gone = before.subtree(path)
            store.tree.remove(path)
            store.fireRemoval(gone, top: path, before: before, after: store.tree)
        }
        reply("OK")
    }

    func setPermissions() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count >= 2 else { throw .inval }
        if let limit = store.limit("node-permissions", subject), all.count - 1 > limit { throw .nospc }
        var list: [Permission] = []
        for text in all.dropFirst() {
            guard let mode = text.first.flatMap(AccessMode.init(letter:)),
                let id = number(Array(text.dropFirst())),
                id <= 0xFFFF
            else { throw .inval }
            list.append(Permission(mode, DomainID(UInt16(id))))
        }
        for index in list.indices {
            let id = Int(list[index].domain.rawValue)
            let isAny = index > 0 && id == DomainID.any.rawValue && features & 8 != 0
            list[index].ignored = !isAny && !store.exists(id, for: subject, noting: true)
            if list[0].ignored { throw .noent }
        }
        let path = try path(all[0], special: true)
        let node = try find(path, .own)
        if !isPrivileged && node.permissions[0].domain != list[0].domain { throw .perm }
        try checkRoom()
        change(path) { $0.setPermissions(path, list) }
        reply("OK")
    }
}
