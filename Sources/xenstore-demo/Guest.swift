// A guest: its kernel finds the ring that it shares with the daemon, and a frontend driver for each device.

import XenStoreClient
import XenStoreTypes

/// Boots the domain and drives its devices, until the program is stopped, as a destroyed domain is, or its
/// connection is lost (`XenStoreError`). `host` is the directory of a simulated Xen; in a real guest
/// `XenStoreClient.connect()` finds the kernel's device. The paths are relative to the guest's home.
func runGuest(_ domain: DomainID, host: String) async throws {
    let client = try await XenStoreClient.connect(to: .simulatedRing("\(host)/dom\(domain.rawValue)"))
    let speaker = Speaker(name: "domain \(domain.rawValue)", colour: .green)
    speaker.say("boots; its name is \(try await client.readString("name"))")
    try await serveDevices(client, below: "device", depth: 2, speaker) { path in
        guard let end = try await DeviceEnd(client, path: path, pointer: "backend", speaker) else { return }
        try await drive(end)
    }
}

/// One device, from Initialising to Closed.
private func drive(_ end: DeviceEnd) async throws {
    for try await _ in try await end.otherStateEvents() {
        let own = try await end.state
        switch (try await end.otherState, own) {
        case (.initWait, .initialising):
            try await offerRings(end)
        case (.connected, .initialised):
            let sectors = try await end.client.readString("\(end.otherEnd)/sectors")
            end.speaker.say("\(end.kind.rawValue): a disk of \(sectors) sectors")
            try await end.switchState(to: .connected)
        case (.closing, .some):
            return try await end.switchState(to: .closed)
        case (.closed, _), (nil, _), (_, nil):
            return
        default:
            break
        }
    }
}

/// Says where the rings are, all of it at once. A disk's frontend then waits to hear how large the disk is; a
/// network card's has nothing to wait for. The numbers are made up: a simulated Xen has no grants.
private func offerRings(_ end: DeviceEnd) async throws {
    let nodes =
        switch end.kind {
        case .block: [("ring-ref", "8"), ("event-channel", "5"), ("protocol", "x86_64-abi")]
        case .net: [("tx-ring-ref", "9"), ("rx-ring-ref", "10"), ("event-channel", "6")]
        }
    try await end.client.withTransaction { transaction in
        for (name, value) in nodes { try await transaction.write("\(end.path)/\(name)", value) }
    }
    try await end.switchState(to: end.kind == .block ? .initialised : .connected)
}
