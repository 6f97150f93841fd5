// The roles of a small Xen host, for `make run`: an example of the client library.
//
// Exit status: 0; 1 where a role failed, after one line on stderr; 64 where the command line is wrong.

import ArgumentParser
import Glibc
import XenStoreClient
import XenStoreHost
import XenStoreTypes

@main
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstore-demo",
        abstract: "A toolstack, backends and guests on a simulated Xen.",
        discussion: """
            XENSTORED_PATH or XENSTORED_RUNDIR say where the daemon is, SIMXEN_DIR which directory is the \
            simulated host (docs/simulated-xen.md).
            """,
        subcommands: [Create.self, Unplug.self, Destroy.self, Backends.self, Guest.self])
}

/// The toolstack's commands reach the daemon over its socket.
private func toolstack() async throws -> Toolstack {
    Toolstack(client: try await XenStoreClient.connect(), host: try SimulatedHost(simulatedHost()))
}

private func simulatedHost() throws -> String {
    guard let path = getenv("SIMXEN_DIR") else { throw ValidationError("SIMXEN_DIR is not set") }
    return String(cString: path)
}

struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Toolstack: make a domain with a disk and a network card, and introduce it.")
    @Argument(help: "The domain's id.") var domain: UInt16
    @Argument(help: "Its name.") var name: String

    func run() async throws { try await toolstack().create(DomainID(domain), name: name) }
}

struct Unplug: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Toolstack: unplug a device, as its drivers wish it.")
    @Argument(help: "The domain's id.") var domain: UInt16
    @Argument(help: "vbd or vif.", transform: deviceKind) var kind: Device.Kind

    func run() async throws {
        try await toolstack().unplug(Device(kind: kind, domain: DomainID(domain)))
    }
}

private func deviceKind(_ text: String) throws -> Device.Kind {
    guard let kind = Device.Kind(rawValue: text) else {
        throw ValidationError("found \(text), expected vbd or vif")
    }
    return kind
}

struct Destroy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Toolstack: kill a domain and remove what is left of it.")
    @Argument(help: "The domain's id.") var domain: UInt16

    func run() async throws { try await toolstack().destroy(DomainID(domain)) }
}

struct Backends: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Domain 0: serve every device, until stopped.")

    func run() async throws { try await runBackends(XenStoreClient.connect()) }
}

struct Guest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "A guest that was introduced: drive its devices, until stopped.")
    @Argument(help: "The domain's id.") var domain: UInt16

    func run() async throws { try await runGuest(DomainID(domain), host: simulatedHost()) }
}
