// Batches: what changed goes to the backend, and what shows it waits for that (Commits.swift).

import XenStoreTypes

extension Server {
    /// A batch that the backend refused is offered again after so long, in nanoseconds.
    static let retryPause: UInt64 = 1_000_000_000

    // MARK: Recording changes

    /// Adds to the batch what the node of the path's first `level` components is now.
    @inline(__always) func record(_ node: NodeID, _ path: ParsedPath, _ level: Int) {
        if commits.isRecording { path.withPrefix(level) { recordNode(node, $0) } }
    }

    private func recordNode(_ node: NodeID, _ path: Bytes) {
        let list = tree.nodes[node].permissions
        commits.put(
            path, generation: tree.generation, value: tree.value(node),
            permissionCount: permissions.count(list)
        ) { permissions.entry(list, $0) }
    }

    /// Adds to the batch that the path names nothing any more.
    @inline(__always) func recordRemoval(_ path: ParsedPath) {
        if !commits.isRecording { return }
        path.withText { commits.remove($0, generation: tree.generation) }
        commits.hasRemoved = true
    }

    /// Adds to the batch that the domain has ended: what older records' permissions say of it counts no
    /// more (XSA-322).
    func recordEnd(of domain: DomainID) {
        if !commits.isRecording { return }
        var key = Line("\u{1}ended/")
        key.add(UInt32(domain.rawValue))
        key.bytes.withBytes { commits.note($0, .empty, generation: tree.generation) }
    }

    // MARK: Committing

    /// Ends a turn: what has changed is offered to the backend. To be called before what is to be sent is
    /// looked at.
    public func commit() {
        guard let backend = commits.backend, tree.generation > commits.offered else { return }
        if let retryAt = commits.retryAt, now < retryAt {
            if isPromiseGivenUp { setFinal(tree.generation) }
            return
        }
        if commits.hasRemoved {
            // A store need not keep that something was removed; but the number of it has been shown.
            commits.note(Bytes(Self.generationNote), .empty, generation: tree.generation)
        }
        let outcome = commits.batch.withBytes { records in
            records.withSpan { backend.commit(commits.sequence + 1, $0) }
        }
        if case .failed(let code) = outcome {
            refusedByBackend(code)
            commits.haveNoRoom()
        } else {
            commits.reckonRoom(without: commits.batch.count)
            if commits.retryAt != nil { takenAgain() }
            commits.sequence += 1
            commits.hasRemoved = false
            commits.offered = tree.generation
            commits.batch.removeAll(keepingCapacity: commits.batch.capacity <= 1 << 20)
            if outcome == .final {
                commits.onTheWay.removeAll()
                setFinal(commits.offered)
            } else {
                commits.onTheWay.append(
                    .init(sequence: commits.sequence, generation: commits.offered))
            }
        }
    }

    /// The store takes nothing, and the configuration says to go on all the same.
    var isPromiseGivenUp: Bool { commits.retryAt != nil && configuration.continuesInMemory }

    /// The number of the batch that `commit` is about to offer; nil: nothing has changed.
    public var nextSequence: UInt64? {
        commits.backend != nil && tree.generation > commits.offered ? commits.sequence + 1 : nil
    }

    /// The number of the newest batch that the backend took; and of the newest that is final.
    public var lastSequence: UInt64 { commits.sequence }
    public var finalSequence: UInt64 {
        commits.onTheWay.first.map { $0.sequence - 1 } ?? commits.sequence
    }

    /// The backend has every batch up to this number for good.
    public func committed(_ sequence: UInt64) {
        var generation: UInt64?
        while let first = commits.onTheWay.first, first.sequence <= sequence {
            generation = first.generation
            commits.onTheWay.removeFirst()
        }
        if let generation { setFinal(generation) }
        if commits.retryAt == nil { commits.askRoom() }
    }

    /// Whatever waited for changes up to this generation goes on.
    private func setFinal(_ generation: UInt64) {
        if generation <= commits.final { return }
        commits.final = generation
        if commits.waiting.isEmpty { return }
        var left = 0
        for position in commits.waiting.indices {
            let id = commits.waiting[position]
            guard let connection = connections[Int(id)] else { continue }
            if connection.lift(upTo: generation) {
                connection.unreadSince = now
                list(connection)
            }
            if connection.hasBarriers {
                commits.waiting[left] = id
                left += 1
            }
        }
        commits.waiting.removeLast(commits.waiting.count - left)
    }

    private func refusedByBackend(_ code: Int32) {
        commits.failure = code
        if commits.retryAt == nil {
            var line = Line("the store cannot take a change: errno ")
            line.add(Int(code))
            line.add(
                configuration.continuesInMemory
                    ? "; it goes on in memory, and a restart would lose what follows"
                    : "; requests that would make it grow get ENOSPC until it can")
            log(.error, line)
        }
        commits.retryAt = now + Self.retryPause
        if configuration.continuesInMemory {
            commits.shrink(hash)
            setFinal(tree.generation)
        }
    }

    private func takenAgain() {
        commits.retryAt = nil
        commits.failure = 0
        log(.notice, Line("the store takes changes again, and has all of them"))
    }

    // MARK: Room

    /// Throws ENOSPC if the backend has no room for what the request would add: records of so many `nodes`
    /// that have `bytes` of values and permissions between them.
    @inline(__always) func checkRoom(nodes: Int, bytes: Int) throws(ErrorName) {
        if commits.room == .max { return }
        let needed = nodes * (StoreRecord.headSize + 8 + path.text.count) + bytes
        if hasRoom(for: needed) { return }
        refuseForRoom()
        throw .nospc
    }

    private func hasRoom(for bytes: Int) -> Bool {
        bytes == 0 || commits.batch.count + bytes <= commits.room || configuration.continuesInMemory
    }

    /// The same for what a transaction would add, which is nothing where it only removes.
    func checkRoom(for transaction: TransactionID) throws(ErrorName) {
        if commits.room == .max || hasRoom(for: transactions.growthMax(transaction)) { return }
        var needed = 0
        var entry = transactions.table[transaction].firstEntry
        while entry != 0 {
            if transactions.entries[entry].isWritten {
                scratch.removeAll(keepingCapacity: true)
                transactions.appendPath(entry, to: &scratch)
                scratch.withBytes { path.load(canonical: $0) }
                // What has been removed again, or with a node above it, is not found.
                let found = transactions.nearest(transaction, path)
                if found.level == path.depth { needed += recordSize(transaction, found.place) }
            }
            entry = transactions.entries[entry].next
        }
        path.clear()
        try checkRoom(nodes: 0, bytes: needed)
    }

    /// Bytes of the record of the node at hand, as a view has it, at most.
    private func recordSize(_ view: TransactionID, _ place: Place) -> Int {
        let state = transactions.state(view, place)
        return StoreRecord.headSize + 8 + path.text.count + state.value.count
            + 4 * permissions.count(state.permissions)
    }

    private func refuseForRoom() {
        if let last = commits.refusalLogged, now < last + 5_000_000_000 { return }
        commits.refusalLogged = now
        var line = Line("the store is full: a request was refused, path ")
        path.withText { line.add($0.slice(0, min($0.count, 200))) }
        log(.error, line)
    }

    // MARK: What replies show

    /// Makes what is queued from `start` on wait until a generation is final.
    @inline(__always) func bar(_ connection: Connection, from start: Int, _ generation: UInt64) {
        if generation <= commits.final { return }
        if !connection.hasBarriers { commits.waiting.append(connection.id) }
        connection.bar(from: start, generation)
    }

    /// Remembers that the request at hand shows what was found at a place: a node, or, with `absence`, that
    /// there is nothing below it; with `list`, its children.
    @inline(__always) func show(_ view: TransactionID, _ node: NodeID, list: Bool) {
        if commits.final == .max || node == 0 { return }
        var generation = tree.nodes[node].modified
        if list { generation = max(generation, tree.nodes[node].childrenChanged) }
        if view != 0 { generation = min(generation, transactions.table[view].generation) }
        shown = max(shown, generation)
    }

    /// The generation that the reply to the request at hand shows.
    @inline(__always) var shownByReply: UInt64 {
        tree.generation != requestGeneration ? tree.generation : shown
    }

    /// Whether the ring's slot may be published: all that it shows is final, and so is what the record of it
    /// depends on. What has been queued since the slot was recorded does not count.
    public func isFinal(_ id: ConnectionID) -> Bool { self[id].slotGeneration <= commits.final }

    /// What CONTROL says of the store.
    func addStoreReport(to line: inout Line) {
        guard let backend = commits.backend else { return }
        line.add("store: batch ")
        line.add(Int(commits.sequence))
        line.add(", on their way ")
        line.add(commits.onTheWay.count)
        line.add(", room ")
        if commits.room == .max { line.add("unlimited") } else { line.add(commits.room) }
        if commits.retryAt != nil {
            line.add(", FAILING: errno ")
            line.add(Int(commits.failure))
        }
        line.add("\n")
        backend.report.withBytes { line.add($0) }
    }
}

extension Commits {
    /// Forgets records that a later one of the same key makes needless, once the batch has grown large: so
    /// that it stays in proportion to the tree while a backend takes nothing.
    func shrink(_ hash: KeyedHash) {
        if batch.count < shrinkAt { return }
        let newest = HashIndex()
        defer { newest.destroy() }
        // Record numbers of the newest record of each key; records are found again by their offsets.
        var offsets: [UInt32] = []
        batch.withUnsafeBytes { all in
            var at = 0
            while at < all.count,
                let record = StoreRecord(UnsafeRawBufferPointer(rebasing: all[at...]))
            {
                let key = Bytes(record.key)
                let number = UInt32(offsets.count + 1)
                let code = hash(3, key)
                let known = newest.first(code) { other in
                    let offset = Int(offsets[Int(other) - 1])
                    let earlier = StoreRecord(UnsafeRawBufferPointer(rebasing: all[offset...]))
                    return earlier.map { Bytes($0.key) == key } ?? false
                }
                if known != 0 {
                    newest.remove(code, known)
                    // One that counts no more.
                    offsets[Int(known) - 1] |= 1
                }
                newest.insert(code, number)
                offsets.append(UInt32(at))
                at += record.bytes.count
            }
        }
        var kept: [UInt8] = []
        batch.withUnsafeBytes { all in
            for offset in offsets where offset & 1 == 0 {
                if let record = StoreRecord(UnsafeRawBufferPointer(rebasing: all[Int(offset)...])) {
                    kept.append(contentsOf: record.bytes)
                }
            }
        }
        batch = kept
        shrinkAt = max(Self.shrinkFirst, 2 * batch.count)
    }

    static let shrinkFirst = 16 << 20
}
