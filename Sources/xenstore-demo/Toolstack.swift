// The toolstack: makes and ends domains, and tells the daemon and the drivers so through the tree.

import XenStoreClient
import XenStoreHost
import XenStoreTypes

/// What `xl` is to a Xen host, for a simulated one.
struct Toolstack {
    let client: XenStoreClient
    let host: SimulatedHost

    /// How long drivers may take to let go of a device.
    static let patience = Duration.seconds(5)

    /// Makes a domain with a disk and a network card, and introduces it. Its home and its devices appear in
    /// one transaction, so that no driver sees half of them.
    func create(_ domain: DomainID, name: String) async throws {
        try host.create(domain)
        let home = try await client.domainPath(domain)
        try await client.withTransaction { transaction in
            // The guest reads its home; what it owns is for it to write, and goes with it.
            try await transaction.makeDirectory(
                home, [Permission(.none, .zero), Permission(.read, domain)])
            try await transaction.write("\(home)/name", name)
            try await transaction.write("\(home)/domid", "\(domain.rawValue)")
            try await transaction.write("\(home)/memory/target", "524288")
            for kind in Device.Kind.allCases {
                try await transaction.add(Device(kind: kind, domain: domain))
            }
        }
        Speaker.toolstack.say("domain \(domain.rawValue) has a home, a vbd and a vif; INTRODUCE")
        try await client.introduce(domain, gfn: 1, port: 1)
    }

    /// Unplugs a device as the drivers wish it: the backend's state says Closing, they let go of each other,
    /// and both ends are removed. Throws if that takes them longer than `patience`.
    func unplug(_ device: Device) async throws {
        Speaker.toolstack.say("\(device.kind.rawValue) of domain \(device.domain.rawValue): Closing (5)")
        try await client.withTransaction { transaction in
            try await transaction.write("\(device.backend)/online", "0")
            try await transaction.write("\(device.backend)/state", "\(XenbusState.closing.rawValue)")
        }
        try await within(Self.patience) { [client] in try await client.waitForEnd(of: device) }
        try await client.withTransaction { transaction in
            try await transaction.remove(device.frontend)
            try await transaction.remove(device.backend)
        }
        Speaker.toolstack.say("\(device.kind.rawValue) of domain \(device.domain.rawValue): removed")
    }

    /// Kills a domain: the hypervisor first, then, once the daemon has dropped it and the backends have let
    /// go, what is left of its nodes. Throws if that takes them longer than `patience`.
    func destroy(_ domain: DomainID) async throws {
        let home = try await client.domainPath(domain)
        // Before the domain dies, so that its end cannot be missed.
        let released = try await client.watch("@releaseDomain", depth: 1)
        Speaker.toolstack.say("domain \(domain.rawValue) is destroyed")
        try host.destroy(domain)
        try await within(Self.patience) { [client] in
            for try await _ in released {
                if try await !client.isIntroduced(domain) { break }
            }
            for kind in Device.Kind.allCases {
                try await client.waitForEnd(of: Device(kind: kind, domain: domain))
            }
        }
        try await client.withTransaction { transaction in
            for kind in Device.Kind.allCases {
                try await transaction.remove("/local/domain/0/backend/\(kind.rawValue)/\(domain.rawValue)")
            }
            try await transaction.remove(home)
        }
        try host.forget(domain)
        Speaker.toolstack.say("domain \(domain.rawValue) is forgotten, and its nodes are removed")
    }
}

extension XenStoreClient {
    /// Returns when the backend has closed the device, or never had it.
    fileprivate func waitForEnd(of device: Device) async throws {
        for try await _ in try await watch("\(device.backend)/state") {
            let state = try await xenbusState(device.backend)
            if state == nil || state == .closed { return }
        }
    }
}

extension XenStoreTransaction {
    /// Writes both ends of a device: each driver's own, which the other may read.
    fileprivate func add(_ device: Device) async throws {
        let (front, back, guest) = (device.frontend, device.backend, device.domain)
        let initialising = "\(XenbusState.initialising.rawValue)"
        try await makeDirectory(front, [Permission(.none, guest), Permission(.read, .zero)])
        try await write("\(front)/backend", back)
        try await write("\(front)/backend-id", "0")
        try await write("\(front)/state", initialising)
        try await makeDirectory(back, [Permission(.none, .zero), Permission(.read, guest)])
        try await write("\(back)/frontend", front)
        try await write("\(back)/frontend-id", "\(guest.rawValue)")
        try await write("\(back)/online", "1")
        try await write("\(back)/state", initialising)
    }
}

extension NodeAccess {
    /// Creates a node with these permissions, which nodes that are created below it inherit.
    fileprivate func makeDirectory(_ path: String, _ permissions: [Permission]) async throws {
        try await makeDirectory(path)
        try await setPermissions(path, permissions)
    }
}

/// `work` took too long.
private struct OutOfTime: Error, CustomStringConvertible {
    var description: String { "the drivers did not let go in time" }
}

/// Carries out `work`, and cancels it when `time` is over. The client can be used afterwards all the same.
private func within(_ time: Duration, _ work: @escaping @Sendable () async throws -> Void) async throws {
    try await withThrowingTaskGroup { group in
        group.addTask(operation: work)
        group.addTask {
            try await Task.sleep(for: time)
            throw OutOfTime()
        }
        try await group.next()
        group.cancelAll()
    }
}
