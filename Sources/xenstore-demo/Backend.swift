// The backend drivers of domain 0, which serve disks and network cards to the guests. They reach the daemon
// over its socket; a kernel's backends do the same over /dev/xen/xenbus or a ring.

import XenStoreClient

/// Serves every device below /local/domain/0/backend. The paths are relative to the home of the socket's
/// domain.
func runBackends(_ client: XenStoreClient) async throws {
    Speaker.backend.say("waits for devices")
    try await serveDevices(client, below: "backend", depth: 3, .backend) { path in
        let names = path.split(separator: "/")
        let speaker = Speaker(name: "backend for domain \(names[2])", colour: .yellow)
        guard let end = try await DeviceEnd(client, path: path, pointer: "frontend", speaker) else { return }
        try await serve(end)
    }
}

/// One device, from Initialising to Closed.
private func serve(_ end: DeviceEnd) async throws {
    try await end.switchState(to: .initWait)
    for try await _ in try await end.otherStateEvents() {
        switch try await end.otherState {
        case .initialised, .connected:
            if try await end.state == .initWait { try await connect(end) }
        case .closing:
            try await end.switchState(to: .closing)
        case .closed:
            return try await end.switchState(to: .closed)
        case nil:
            end.speaker.say("\(end.kind.rawValue): its frontend has vanished")
            return try await end.switchState(to: .closed)
        case .unknown, .initialising, .initWait:
            break
        }
    }
}

/// Takes what the frontend offers, and says what the device is like. A driver would map the rings and bind
/// the event channel here; a simulated Xen has neither.
private func connect(_ end: DeviceEnd) async throws {
    let ring = end.kind == .block ? "ring-ref" : "rx-ring-ref"
    let grant = try await end.client.readString("\(end.otherEnd)/\(ring)")
    let port = try await end.client.readString("\(end.otherEnd)/event-channel")
    end.speaker.say("\(end.kind.rawValue): \(ring) is grant \(grant), event-channel is port \(port)")
    if end.kind == .block {
        try await end.client.withTransaction { transaction in
            try await transaction.write("\(end.path)/sectors", "2097152")
            try await transaction.write("\(end.path)/sector-size", "512")
        }
    }
    try await end.switchState(to: .connected)
}
