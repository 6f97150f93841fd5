// The reference's domains: what the host tells of them, which are introduced, and what goes when one ends
// (specification, section B). Decisions where the specification leaves room:
//
// - A domain that is dying is no domain any more: nothing can be set or noted for it.
// - A domain that has ended unnoticed ends, as far as the store goes, at the first request that asks the host
//   about it (INTRODUCE, an entry of SET_PERMS, a quota or feature by domain) or at the next look at all of
//   them, and only then is something noted of the next one of its number.
// - RELEASE is an end like any other: a domain that is introduced again afterwards is a new one.
// - What ends loses its watches and ring first, then its nodes go, each topmost one with all below it, then
//   entries that name it are ignored, then it is nobody's target any more; then @releaseDomain fires, if it
//   was introduced.
// - The root cannot go: it falls to the control domain, with the rest of its list as it was.
// - A transaction that would give a node to a domain that has ended since ends in EAGAIN.

import XenStoreTypes

/// What the host tells of a domain.
public struct ReferenceDomain: Equatable {
    public var uniqueID: UInt64
    public var isShutdown = false
    public var isDying = false

    public init(uniqueID: UInt64) { self.uniqueID = uniqueID }
}

/// What the store has noted of a domain.
struct ReferenceNote {
    /// Nil for the control domain.
    var uniqueID: UInt64?
    /// The ring is there, under `ReferenceStore.ringKey`.
    var isIntroduced = false
    /// Its shutdown has been told.
    var isShutdown = false
    var target: UInt16?
    var features = 15
    var quotas: [String: Int] = [:]
}

extension ReferenceStore {
    /// The key of a domain's ring among the connections.
    public static func ringKey(_ domain: UInt16) -> Int { -1 - Int(domain) }

    public func isIntroduced(_ domain: UInt16) -> Bool { notes[domain]?.isIntroduced == true }

    /// Whether there is such a domain; ends one that has ended unnoticed, but for the one that asks.
    /// `noting`: something is about to be noted of it.
    func exists(_ domain: Int, for subject: ReferenceSubject? = nil, noting: Bool) -> Bool {
        guard domain < 0x7FF0 else { return false }
        let id = UInt16(domain)
        if id == 0 { return true }
        guard let domains else { return true }
        if isGone(id) {
            if subject == .domain(id) { return false }
            if isReplaying { return domains[id].map { !$0.isDying } ?? false }
            end(id)
        }
        guard let state = domains[id], !state.isDying else { return false }
        if noting { notes[id, default: ReferenceNote()].uniqueID = state.uniqueID }
        return true
    }

    /// Whether the domain of which something is noted is there no more.
    private func isGone(_ id: UInt16) -> Bool {
        guard let known = notes[id]?.uniqueID else { return false }
        guard let state = domains?[id] else { return true }
        return state.isDying || state.uniqueID != known
    }

    /// Throws `failure` where the host cannot attach the ring.
    func introduce(_ id: UInt16) throws(ErrorName) {
        guard exists(Int(id), noting: true) else { throw .inval }
        let key = ReferenceStore.ringKey(id)
        if isIntroduced(id) {
            let ring = connections[key]!
            ring.reset()
            ring.isBroken = attachFailure != nil
            if let attachFailure { throw attachFailure }
            return
        }
        if let attachFailure { throw attachFailure }
        connect(key, .domain(id), readOnly: false)
        notes[id, default: ReferenceNote()].isIntroduced = true
        notes[id]!.isShutdown = domains?[id]?.isShutdown ?? false
        fireSpecial("@introduceDomain", id)
    }

    /// Something has happened to domains: looks at all that are known, in no order.
    public func domainsChanged() {
        let marks = connections.mapValues(\.expected.count)
        for id in notes.keys.sorted() where id != 0 {
            if isGone(id) { end(id) }
            guard notes[id] != nil, let state = domains?[id] else { continue }
            if state.isShutdown && !notes[id]!.isShutdown {
                notes[id]!.isShutdown = true
                if isIntroduced(id) { fireSpecial("@releaseDomain", id) }
            }
        }
        for (key, connection) in connections { connection.joinEvents(from: marks[key]!) }
    }

    /// Everything of the domain goes.
    func end(_ id: UInt16) {
        let wasIntroduced = isIntroduced(id)
        if wasIntroduced { disconnect(ReferenceStore.ringKey(id)) }
        let marks = connections.mapValues(\.expected.count)
        giveRootAway(of: id)
        removeOwned(by: id)
        for (key, connection) in connections { connection.joinEvents(from: marks[key]!) }
        ignoreEntries(naming: id)
        for other in notes.keys where notes[other]!.target == id { notes[other]!.target = nil }
        notes[id] = nil
        if wasIntroduced { fireSpecial("@releaseDomain", id) }
    }

    private func giveRootAway(of id: UInt16) {
        var list = tree["/"]!.permissions
        guard list[0].domain.rawValue == id else { return }
        list[0].domain = .zero
        let before = tree
        tree.setPermissions("/", list)
        fire("/", before: before, after: tree)
    }

    private func removeOwned(by id: UInt16) {
        let owned = tree.nodes.filter {
            $0.key.hasPrefix("/") && $0.value.permissions[0].domain.rawValue == id
        }
        for top in owned.keys.sorted(by: { $0.count < $1.count }) where tree[top] != nil {
            let before = tree
            tree.remove(top)
            fireRemoval(before.subtree(top), top: top, before: before, after: tree)
        }
    }

    private func ignoreEntries(naming id: UInt16) {
        tree.ignoreEntries(naming: id)
        for connection in connections.values {
            for number in connection.transactions.keys {
                connection.transactions[number]!.base.ignoreEntries(naming: id)
                connection.transactions[number]!.view.ignoreEntries(naming: id)
            }
        }
    }

    /// The guest has reset its ring.
    public func reconnect(_ id: UInt16) {
        connections[ReferenceStore.ringKey(id)]?.reset()
        connections[ReferenceStore.ringKey(id)]?.isBroken = false
    }

    /// The guest has broken its ring.
    public func deactivate(_ id: UInt16) {
        connections[ReferenceStore.ringKey(id)]?.reset()
        connections[ReferenceStore.ringKey(id)]?.isBroken = true
    }

    /// Tells those who watch a special node or the domain below it.
    private func fireSpecial(_ node: String, _ id: UInt16) {
        let named = "\(node)/\(id)"
        for connection in connections.values where grants(tree[node]!.permissions, connection.subject, .read)
        {
            var events: [[UInt8]] = []
            for watch in connection.watches where watch.path == node || watch.path == named {
                let isNamed = watch.path == named || watch.depth.map { $0 > 0 } == true
                events.append(Array((isNamed ? named : node).utf8) + [0] + watch.token + [0])
            }
            connection.queue(events: events, coalescing: false)
        }
    }
}

extension ReferenceRequest {
    private func domain(_ bytes: [UInt8]) throws(ErrorName) -> UInt16 {
        guard let id = number(bytes), id <= 0xFFFF else { throw .inval }
        return UInt16(id)
    }

    func introduce() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count >= 3 else { throw .inval }
        let id = try domain(all[0])
        guard number(all[1]) != nil, let port = number(all[2]), port != 0, port <= UInt32.max else {
            throw .inval
        }
        guard store.hasHypervisor else { throw .inval }
        try store.introduce(id)
        reply("OK")
    }

    /// The introduced domain that the request names.
    private func introduced() throws(ErrorName) -> UInt16 {
        let id = try domain(oneString())
        guard store.hasHypervisor, id != 0 else { throw .inval }
        guard store.isIntroduced(id) else { throw .noent }
        return id
    }

    func release() throws(ErrorName) {
        store.end(try introduced())
        reply("OK")
    }

    func resume() throws(ErrorName) {
        store.notes[try introduced()]!.isShutdown = false
        reply("OK")
    }

    func setTarget() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count == 2 else { throw .inval }
        let id = try domain(all[0])
        let target = try domain(all[1])
        guard store.hasHypervisor else { throw .inval }
        for one in [id, target] where one != 0 && !store.isIntroduced(one) { throw .noent }
        store.notes[id, default: ReferenceNote()].target = target
        reply("OK")
    }

    func isDomainIntroduced() throws(ErrorName) {
        let id = try domain(oneString())
        reply(id == 0 || id == DomainID.me.rawValue || store.isIntroduced(id) ? "T" : "F")
    }

    func getFeature() throws(ErrorName) {
        if message.payload.isEmpty { return reply("15") }
        let id = try domain(oneString())
        guard store.exists(Int(id), noting: false) else { throw .noent }
        reply(String(store.notes[id]?.features ?? 15))
    }

    func setFeature() throws(ErrorName) {
        let all = try strings(message.payload)
        guard all.count == 2, let value = number(all[1]), value <= UInt32.max else { throw .inval }
        let id = try domain(all[0])
        guard store.exists(Int(id), noting: true) else { throw .noent }
        if id == 0 || store.isIntroduced(id) { throw .busy }
        if value > 15 { throw .inval }
        store.notes[id, default: ReferenceNote()].features = value
        reply("OK")
    }

    func domainPath() throws(ErrorName) { reply("/local/domain/\(try domain(oneString()))") }

    /// The protocol features of the requester.
    var features: Int {
        guard case .domain(let id) = subject else { return 15 }
        return store.notes[id]?.features ?? 15
    }
}
