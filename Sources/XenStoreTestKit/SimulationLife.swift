// What happens to domains in a simulation: on the host, and by the toolstack.

import XenStore
import XenStoreTypes

/// What the host does to one domain.
public struct Life: Sendable, CustomStringConvertible {
    public enum Event: Sendable {
        /// There is one, if there was none.
        case create
        /// Another one of the same number, whether there was one or not.
        case replace
        case shutdown, resume, die
        /// There is none any more.
        case destroy
        /// The guest asks for a new beginning on its ring.
        case reconnect
        /// The guest writes an index that cannot be.
        case deactivate
    }

    public var event: Event
    public var domain: UInt16
    /// Whether the store is told at once. If not, it finds out when it asks next.
    public var isNoticed: Bool

    public var description: String { "\(isNoticed ? "" : "quietly ")\(event) \(domain)" }
}

extension Life {
    /// Something for one of the domains 1 to `guests`.
    init<C: Choices>(from choices: inout C, guests: Int) {
        event = choices.one(of: [
            .create, .create, .create, .create, .replace, .replace, .shutdown, .resume, .die, .destroy,
            .destroy, .reconnect,
            .deactivate,
        ])
        domain = UInt16(1 + choices.below(guests))
        isNoticed = choices.chance(70)
    }
}

extension Step.Request {
    /// What a toolstack does for a new domain.
    static func birth(of domain: UInt16) -> [Step.Request] {
        let home = "/local/domain/\(domain)"
        let all: [(MessageType, [String])] = [
            (.introduce, ["\(domain)", "77", "9"]), (.makeDirectory, [home]),
            (.setPermissions, [home, "n\(domain)"]),
        ]
        return all.map {
            Step.Request(type: $0.0.rawValue, transaction: 0, payload: [UInt8](strings: $0.1))
        }
    }

    /// The arguments of the requests about domains.
    static func domainPayload<C: Choices>(
        of type: MessageType, _ choices: inout C, _ guests: Int
    ) -> [UInt8] {
        let domain = number(&choices, guests)
        switch type {
        case .introduce:
            let port = choices.one(of: ["9", "9", "9", "9", "0", "x"])
            return [UInt8](strings: [domain, "77", port])
        case .setTarget: return [UInt8](strings: [domain, number(&choices, guests)])
        case .setFeature:
            return [UInt8](strings: [domain, choices.one(of: ["0", "3", "7", "11", "15", "16", "x"])])
        default: return [UInt8](strings: [domain])
        }
    }

    /// The number of a domain that may exist; now and then of one that cannot.
    static func number<C: Choices>(_ choices: inout C, _ guests: Int) -> String {
        if choices.chance(6) { return choices.one(of: ["0", "0", "x", "32752", "32757", "65536", ""]) }
        return String(1 + choices.below(guests + 1))
    }
}

extension Simulation {
    /// Lets something happen to a domain, on the host and to the store and the reference.
    func happen(_ life: Life) {
        let id = life.domain
        let domain = DomainID(id)
        switch life.event {
        case .reconnect:
            return reconnect(id)
        case .deactivate:
            guard let ring = world.rings[domain] else { return }
            server.deactivate(ring)
            reference.deactivate(id)
            return renew(id)
        default: break
        }
        // Of two that end unnoticed the reference cannot know which is looked at first.
        if unnoticed != id { notice() }
        switch life.event {
        case .create: if world.domains?[domain] == nil { create(id) }
        case .replace: create(id)
        case .shutdown: world.domains?[domain]?.isShutdown = true
        case .resume: world.domains?[domain]?.isShutdown = false
        case .die: world.domains?[domain]?.isDying = true
        default: world.domains?[domain] = nil
        }
        reference.domains?[id] = world.domains?[domain].map {
            var told = ReferenceDomain(uniqueID: $0.uniqueID)
            told.isShutdown = $0.isShutdown
            told.isDying = $0.isDying
            return told
        }
        unnoticed = id
        if life.isNoticed { notice() }
    }

    private func create(_ id: UInt16) {
        births += 1
        world.create(id)
    }

    private func notice() {
        if unnoticed == nil { return }
        unnoticed = nil
        server.domainsChanged()
        reference.domainsChanged()
    }

    /// The guest resets its ring, in the middle of whatever it was at.
    func reconnect(_ id: UInt16) {
        guard let ring = world.rings[DomainID(id)] else { return }
        server.reconnect(ring)
        reference.reconnect(id)
        renew(id)
    }

    /// The guest's side of a ring that has a new beginning.
    private func renew(_ id: UInt16) {
        for index in slots.indices where slots[index].ring == id {
            slots[index].client = world.rings[DomainID(id)].map { Client(server, connection: $0) }
            slots[index].rest = nil
        }
    }

    /// Follows what the requests of a step did to rings.
    func followRings() {
        for index in slots.indices {
            guard let id = slots[index].ring else { continue }
            let beginning = world.rings[DomainID(id)] == nil ? 0 : world.beginnings[DomainID(id)] ?? 0
            if slots[index].beginning == beginning { continue }
            slots[index].beginning = beginning
            renew(id)
        }
    }
}
