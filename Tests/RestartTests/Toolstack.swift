// The life of domains: made, introduced, shut down, released, destroyed and made again under the same ids, by
// a toolstack that speaks over the ring of domain 0, while the daemon is up and while it is down.
//
// Whatever the toolstack asks is carried out once, so each of its requests has one right reply.

import XenStoreHost
import XenStoreTestKit
import XenStoreTypes

/// A place for one domain after another.
final class Slot {
    enum State { case gone, coming, running, shutDown, leaving, dying }

    let id: UInt16
    var state = State.gone
    /// Counts the domains that were here.
    var generation = 0
    var guest: Speaker?
    var features: UInt32 = 15
    /// It has shut down: who releases and introduces it again finds it so, and nothing is told of it.
    var isDown = false
    /// Its end has to be told, and was not yet.
    var owesRelease = false
    /// How often its ends and shutdowns may be told.
    var releases = 0
    /// The domain that this one may do everything to, and which of that id it was.
    var target: (id: UInt16, generation: Int)?
    /// It has seen that the node of secrets is closed to it.
    var hasLooked = false
    /// It may read the node of secrets: the toolstack has said so of this very domain.
    var knowsSecret = false
    /// What it is granted is on its way to the daemon.
    var grants = 0
    /// Something was on its way when an earlier domain ended: the daemon may have taken it for this one's.
    var isUncertain = false

    init(_ id: UInt16) { self.id = id }

    var isIntroduced: Bool { state == .running || state == .shutDown }
}

/// Domain 0's kernel, and all domains beside it.
final class Toolstack {
    static let valueMax = 3000
    /// The nodes that are there beside everybody's own parts: domain 0's, for nobody else.
    static let common = [
        "/local", "/local/domain", "/torture", "/torture/kept", "/torture/owned", "/torture/secret",
    ]

    private let host: TortureHost
    private(set) var speaker: Speaker
    private(set) var slots: [Slot]
    /// By id, what SET_PERMS said of the secret last.
    private(set) var secrets: [UInt16: [String]] = [:]
    /// Absolute paths that guests may watch.
    var foreign: [String] = []
    private(set) var births = 0

    init(_ host: TortureHost, domains: Int) throws {
        self.host = host
        slots = (1...UInt16(domains)).map(Slot.init)
        speaker = Speaker("domain 0", root: "/torture/t", isHome: false, permissions: ["n0"])
        try begin()
    }

    /// The host is another one.
    func reboot() throws {
        slots = slots.map { Slot($0.id) }
        secrets = [:]
        speaker = Speaker("domain 0", root: "/torture/t", isHome: false, permissions: ["n0"])
        try begin()
    }

    private func begin() throws {
        speaker.end = RingEnd(try SimulatedGuest(host.host, 0, exists: true))
        speaker.onEvent["released"] = { [unowned self] in try released($0) }
        speaker.onEvent["introduced"] = { _ in }
        speaker.ask(.watch, ["@releaseDomain", "released", "1"], expecting: "OK|")
        speaker.ask(.watch, ["@introduceDomain", "introduced", "1"], expecting: "OK|")
        for path in Self.common + ["/torture/t"] { speaker.ask(.makeDirectory, [path], expecting: "OK|") }
    }

    private func released(_ path: String) throws {
        // The watch itself, when it is set and after a restart.
        if path == "@releaseDomain" { return }
        guard let id = path.split(separator: "/").last.flatMap({ UInt16($0) }), Int(id) <= slots.count,
            id > 0
        else { throw Broken("an event of no domain: \(path)") }
        let slot = slots[Int(id) - 1]
        if slot.releases == 0 { throw Broken("\(path), and nothing has happened to the domain") }
        slot.releases -= 1
        slot.owesRelease = false
    }

    /// Whether nothing is under way.
    var isSettled: Bool {
        speaker.isQuiet && slots.allSatisfy { !$0.owesRelease && $0.state != .coming && $0.state != .leaving }
    }

    // MARK: Life

    /// Something happens to one of the domains.
    func liveOn(_ random: inout SplitMix64) throws {
        let slot = random.one(of: slots)
        switch slot.state {
        case .gone: try create(slot, &random)
        case .dying:
            speaker.note("---- domain \(slot.id) is forgotten")
            try host.host.forget(DomainID(slot.id))
            slot.state = .gone
        case .running, .shutDown:
            // Most live on for a while.
            if !random.chance(25) { return }
            switch random.below(6) {
            case 0: try destroy(slot)
            case 1:
                try destroy(slot)
                try host.host.forget(DomainID(slot.id))
                slot.state = .gone
            case 2:
                try destroy(slot)
                try create(slot, &random)
            case 3 where slot.state == .running:
                try shutDown(slot, isCrash: random.chance(50))
            case 4: release(slot, thenAgain: random.chance(50), &random)
            default: try renew(slot, &random)
            }
        case .coming, .leaving: break
        }
    }

    func shutDown(_ slot: Slot, isCrash: Bool) throws {
        speaker.note("---- domain \(slot.id) shuts down")
        if slot.state == .running { slot.state = .shutDown }
        slot.isDown = true
        slot.releases += 1
        slot.owesRelease = true
        let domain = DomainID(slot.id)
        try isCrash ? host.host.crash(domain) : host.host.shutDown(domain)
    }

    /// Another domain in the place of this one, if there was one; the daemon is not told.
    func renew(_ slot: Slot, _ random: inout SplitMix64) throws {
        if slot.isIntroduced { end(slot) }
        try create(slot, &random)
    }

    private func destroy(_ slot: Slot) throws {
        end(slot)
        slot.state = .dying
        try host.host.destroy(DomainID(slot.id))
    }

    /// What was the domain's is its no more.
    private func end(_ slot: Slot) {
        speaker.note("---- domain \(slot.id) ends")
        slot.guest = nil
        slot.generation += 1
        slot.releases += 1
        slot.owesRelease = true
        slot.target = nil
        slot.knowsSecret = false
        slot.isUncertain = slot.grants > 0
    }

    private func create(_ slot: Slot, _ random: inout SplitMix64) throws {
        births += 1
        slot.isDown = false
        speaker.note("---- domain \(slot.id) is made")
        try host.host.create(DomainID(slot.id))
        introduce(slot, &random)
    }

    func release(_ slot: Slot, thenAgain: Bool, _ random: inout SplitMix64) {
        end(slot)
        slot.state = .leaving
        speaker.ask(.release, ["\(slot.id)"]) { [unowned slot] reply in
            if reply.errorName != nil { throw Broken("RELEASE \(slot.id): \(reply)") }
            if slot.state == .leaving { slot.state = .dying }
        }
        if thenAgain { introduce(slot, &random) }
    }

    private func introduce(_ slot: Slot, _ random: inout SplitMix64) {
        slot.state = .coming
        slot.features = random.one(of: [15, 7])
        let id = "\(slot.id)"
        let home = "/local/domain/\(id)"
        speaker.ask(.setFeature, [id, "\(slot.features)"], expecting: "OK|")
        speaker.ask(.introduce, [id, "1", "7"], expecting: "OK|")
        speaker.ask(.introduce, [id, "1", "7"], expecting: "OK|")
        speaker.ask(.isDomainIntroduced, [id], expecting: "T|")
        for (path, permissions) in [
            (home, "n\(id)"), ("/torture/owned/\(id)", "n\(id)"), ("/torture/secret/\(id)", nil),
        ] {
            speaker.ask(.makeDirectory, [path], expecting: "OK|")
            if let permissions { speaker.ask(.setPermissions, [path, permissions], expecting: "OK|") }
        }
        if secrets[slot.id] == nil { secrets[slot.id] = ["n0"] }
        let generation = slot.generation
        speaker.ask(.setQuota, [id, "node-size", "\(Self.valueMax)"]) { [unowned self, unowned slot] reply in
            if reply.errorName != nil { throw Broken("SET_QUOTA \(id): \(reply)") }
            if slot.generation == generation { try run(slot) }
        }
    }

    /// The domain is introduced, and its guest begins to speak.
    private func run(_ slot: Slot) throws {
        slot.state = slot.isDown ? .shutDown : .running
        let guest = Speaker(
            "domain \(slot.id)", root: "/local/domain/\(slot.id)", isHome: true,
            permissions: ["n\(slot.id)"])
        guest.model.valueMax = Self.valueMax
        guest.foreign = foreign
        guest.end = RingEnd(try SimulatedGuest(host.host, slot.id, exists: true))
        slot.guest = guest
        // What was granted to an earlier domain of this id is not granted to this one.
        // Nothing is granted before the answer: the two would come over different rings, in any order.
        slot.hasLooked = slot.isUncertain
        if slot.isUncertain { return }
        guest.ask(.read, ["/torture/secret/\(slot.id)"]) { [unowned slot] reply in
            if reply.errorName != "EACCES" { throw Broken("domain \(slot.id) reads an earlier one's secret") }
            slot.hasLooked = true
        }
    }

    /// Lets a domain read its secret, or makes it another's target.
    func grant(_ random: inout SplitMix64) {
        let slot = random.one(of: slots)
        guard slot.state == .running, slot.hasLooked else { return }
        let generation = slot.generation
        if random.chance(50) {
            let list = ["n0", "r\(slot.id)"]
            secrets[slot.id] = list
            slot.grants += 1
            speaker.ask(.setPermissions, ["/torture/secret/\(slot.id)"] + list) { [unowned slot] reply in
                slot.grants -= 1
                if reply.errorName != nil { throw Broken("SET_PERMS: \(reply)") }
                if slot.generation == generation { slot.knowsSecret = true }
            }
            return
        }
        let other = random.one(of: slots)
        guard other !== slot, other.state == .running, other.target == nil else { return }
        let otherGeneration = other.generation
        slot.grants += 1
        other.grants += 1
        speaker.ask(.setTarget, ["\(slot.id)", "\(other.id)"]) { [unowned slot, unowned other] reply in
            slot.grants -= 1
            other.grants -= 1
            // One of them may have ended since.
            if slot.generation != generation { return }
            if other.generation != otherGeneration {
                // If it came in time it took the place of an earlier target, and went with the domain.
                if reply.errorName == nil { slot.target = nil }
                return
            }
            if reply.errorName != nil { throw Broken("SET_TARGET: \(reply)") }
            slot.target = (other.id, otherGeneration)
        }
    }

    /// Has each guest try what it was granted.
    func tryGrants() {
        for slot in slots where slot.state == .running {
            let secret = slot.knowsSecret ? "" : "EACCES"
            if slot.isUncertain { continue }
            slot.guest?.ask(.read, ["/torture/secret/\(slot.id)"], expecting: secret)
            for other in slots where other !== slot && other.isIntroduced && !other.isUncertain {
                let isTarget = slot.target.map { $0 == (other.id, other.generation) } ?? false
                slot.guest?.ask(
                    .read, ["/torture/owned/\(other.id)"], expecting: isTarget ? "" : "EACCES")
            }
        }
    }

    // MARK: What must be

    /// The nodes that the toolstack and the guests have.
    func expectedNodes() -> Model.Nodes {
        let control = Model.Node(value: [], permissions: ["n0"])
        var nodes: Model.Nodes = [:]
        for path in ["/", "/tool", "/tool/xenstored", "/torture/t"] + Self.common { nodes[path] = control }
        for (id, permissions) in secrets {
            nodes["/torture/secret/\(id)"] = Model.Node(value: [], permissions: permissions)
        }
        for slot in slots {
            guard slot.isIntroduced, let guest = slot.guest else { continue }
            nodes["/torture/owned/\(slot.id)"] = Model.Node(value: [], permissions: ["n\(slot.id)"])
            nodes.merge(guest.absoluteNodes) { $1 }
        }
        return nodes
    }
}

extension Speaker {
    /// Its part of the tree by absolute paths.
    var absoluteNodes: Model.Nodes {
        var nodes: Model.Nodes = [:]
        for (path, node) in model.live { nodes[path.isEmpty ? root : root + "/" + path] = node }
        return nodes
    }
}
