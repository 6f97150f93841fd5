// The built daemon in a process of its own, with the policies of a configuration, on a simulated host.

import Foundation
import Glibc
import Testing
import XenStoreClient
import XenStoreHost
import XenStoreTestKit
import XenStoreTypes

/// A daemon that ends with this object, in a directory of its own: `socket`, `host`, `errors`.
final class ModuleDaemon {
    let scratch = ModuleScratch()
    let host: SimulatedHost
    private var process = Process()
    private let store: String

    /// `policies`: what follows `policies:` in the configuration, `store`: what follows `store:`. DIR stands
    /// for the directory.
    init(policies: String, store: String = "{}") throws {
        self.store = store
        try SimulatedHost.make(scratch / "host")
        host = try SimulatedHost(scratch / "host")
        try configure(policies)
        _ = FileManager.default.createFile(atPath: scratch / "errors", contents: nil)
        try start()
    }

    private func start() throws {
        process = Process()
        let own = try #require(Bundle.main.executableURL).deletingLastPathComponent()
        process.executableURL = own.appending(path: "xenstored")
        process.arguments = ["-N", "--config", scratch / "xenstored.yaml", "--hypervisor", "simulated"]
        process.environment = [
            "PATH": "/usr/bin:/bin", "XENSTORED_RUNDIR": scratch.path, "SIMXEN_DIR": scratch / "host",
        ]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        let log = try FileHandle(forWritingTo: URL(filePath: scratch / "errors"))
        try log.seekToEnd()
        process.standardError = log
        let starts = errors.components(separatedBy: " serves ").count
        try process.run()
        try #require(eventually { errors.components(separatedBy: " serves ").count > starts }, "\(errors)")
    }

    /// Kills it, and starts another in its place.
    func killAndRestart() throws {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try start()
    }

    deinit { stop() }

    func configure(_ policies: String) throws {
        let text =
            "policies:\(policies.hasPrefix(" []") ? "" : "\n")"
            + policies.replacing("DIR", with: scratch.path) + "\nstore: "
            + store.replacing("DIR", with: scratch.path) + "\n"
        try text.write(toFile: scratch / "xenstored.yaml", atomically: true, encoding: .utf8)
    }

    /// SIGHUP; waits until the log says what came of it.
    func reload() -> Bool {
        let before = outcomes
        kill(process.processIdentifier, SIGHUP)
        return eventually { outcomes > before }
    }

    private var outcomes: Int {
        errors.matches(of: /the configuration (was read again|stays as it was)/).count
    }

    var errors: String { scratch.contents("errors") }

    /// User and system time that it has used.
    var cpuSeconds: Double {
        let path = "/proc/\(process.processIdentifier)/stat"
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
            return 0
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    func stop() {
        if process.isRunning { process.terminate() }
        if !eventually({ !process.isRunning }) { kill(process.processIdentifier, SIGKILL) }
    }

    func connect() async throws -> XenStoreClient {
        try await XenStoreClient.connect(to: .socket(scratch / "socket"))
    }

    /// A new domain, introduced, with a home that it owns.
    func guest(_ id: UInt16, _ toolstack: XenStoreClient) async throws -> SimulatedGuest {
        let guest = try SimulatedGuest(host, id)
        try await toolstack.introduce(DomainID(id), gfn: 1, port: 7)
        try await toolstack.makeDirectory("/local/domain/\(id)")
        try await toolstack.setPermissions("/local/domain/\(id)", [Permission(.none, DomainID(id))])
        return guest
    }
}

/// Asks every few milliseconds, for ten seconds at most.
func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<2000 {
        if condition() { return true }
        usleep(5000)
    }
    return condition()
}
