// What the rings' tests share: a simulated host, a daemon on it, and a toolstack on the daemon's socket.

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

/// A daemon that serves the domains of a host of its own.
final class SimulatedDaemon {
    let directory = TestDirectory()
    let host: SimulatedHost
    private(set) var daemon: DaemonThread
    private(set) var toolstack: RawClient

    /// `prepare` sees the host before the daemon does.
    init(_ prepare: (SimulatedHost) throws -> Void = { _ in }) throws {
        try SimulatedHost.make(directory / "host")
        host = try SimulatedHost(directory / "host")
        try prepare(host)
        daemon = try DaemonThread(Self.options(directory))
        toolstack = try RawClient(directory / "socket")
    }

    deinit { daemon.stop() }

    func stop() { daemon.stop() }

    /// Another daemon on the same host, once this one has stopped.
    func start() throws {
        daemon = try DaemonThread(Self.options(directory))
        toolstack = try RawClient(directory / "socket")
    }

    static func options(_ directory: TestDirectory) -> HostOptions {
        var options = testOptions(directory)
        options.hypervisor = HypervisorChoice(.simulated(directory: directory / "host"))
        return options
    }

    /// What the log says so far; what is said now is there soon.
    var log: String { contents(directory / "log") }

    func ask(_ type: MessageType, _ payload: String) -> String? {
        toolstack.ask(type, payload).map { Message.printable($0.payload) }
    }

    /// A new domain, introduced, with a home that it owns.
    func guest(_ id: UInt16) throws -> SimulatedGuest {
        let guest = try SimulatedGuest(host, id)
        try #require(introduce(id) == "OK|")
        try #require(ask(.makeDirectory, "/local/domain/\(id)\0") == "OK|")
        try #require(ask(.setPermissions, "/local/domain/\(id)\0n\(id)\0") == "OK|")
        return guest
    }

    func introduce(_ id: UInt16, port: UInt32 = 7) -> String? { ask(.introduce, "\(id)\01\0\(port)\0") }

    /// Whether the daemon goes on serving others: the toolstack, and another guest.
    func expectServed(sourceLocation: SourceLocation = #_sourceLocation) throws {
        #expect(ask(.directory, "/\0") != nil, sourceLocation: sourceLocation)
        let bystander = try guest(999)
        #expect(bystander.text(.write, "x\0y") == "OK|", sourceLocation: sourceLocation)
        #expect(ask(.release, "999\0") == "OK|", sourceLocation: sourceLocation)
        #expect(ask(.control, "check\0") == "OK|", sourceLocation: sourceLocation)
    }

    /// A socket that watches @releaseDomain, and has had the first event.
    func releaseWatcher() throws -> RawClient {
        let watcher = try RawClient(directory / "socket")
        #expect(watcher.ask(.watch, "@releaseDomain\0t\0\u{31}\0")?.text == "OK\0")
        #expect(watcher.reply() != nil)
        return watcher
    }
}
