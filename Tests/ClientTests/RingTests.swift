// Is a simulated guest's ring as good a way to the daemon as a socket?

import Foundation
import Glibc
import Testing
import XenStoreHost
import XenStoreTypes

@testable import XenStoreClient

/// A daemon on a simulated host, with a socket for the toolstack.
final class TestHost: @unchecked Sendable {
    let directory = temporaryDirectory()
    let host: SimulatedHost
    private let thread: DaemonThread

    init() throws {
        // The mode that is given to mkdir(2) may lose bits while another test's daemon binds its socket: the
        // umask is the whole process's.
        mkdir(directory + "/xen", 0o700)
        chmod(directory + "/xen", 0o700)
        try SimulatedHost.make(directory + "/xen")
        host = try SimulatedHost(directory + "/xen")
        var options = HostOptions()
        options.hypervisor = HypervisorChoice(.simulated(directory: directory + "/xen"))
        options.sockets = [SocketOptions(path: directory + "/socket")]
        options.logDestination = .file(directory + "/log")
        thread = try DaemonThread(options)
    }

    deinit {
        thread.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    func stop() { thread.stop() }

    func toolstack() async throws -> XenStoreClient {
        try await XenStoreClient.connect(to: .socket(directory + "/socket"))
    }

    func ring(_ domain: UInt16) -> XenStorePlace { .simulatedRing(directory + "/xen/dom\(domain)") }

    func guest(_ domain: UInt16, _ options: XenStoreOptions = XenStoreOptions()) async throws
        -> XenStoreClient
    {
        try await XenStoreClient.connect(to: ring(domain), options: options)
    }

    /// A domain that exists, is introduced, and owns its home.
    func start(_ number: UInt16, _ toolstack: XenStoreClient) async throws {
        let domain = DomainID(number)
        try host.create(domain)
        try await toolstack.introduce(domain, gfn: 1, port: 3)
        try await toolstack.makeDirectory("/local/domain/\(number)")
        try await toolstack.setPermissions("/local/domain/\(number)", [Permission(.none, domain)])
    }
}

@Suite(.timeLimit(.minutes(10)))
struct RingTests {
    let host: TestHost

    init() throws { host = try TestHost() }

    @Test func `a guest reads, writes and lists`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        try await guest.write("device/vif", "state 1")
        #expect(try await toolstack.readString("/local/domain/7/device/vif") == "state 1")
        #expect(try await guest.list("device") == ["vif"])
        #expect(await failure { try await guest.write("/tool/x", "") } == .refused(.acces))
        #expect(try await toolstack.isIntroduced(DomainID(7)))
    }

    @Test func `messages that are larger than the ring pass`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        let value = (0..<2048).map { UInt8(truncatingIfNeeded: $0 * 7) }
        for index in 0..<20 { try await guest.write("v\(index)", value) }
        try await withThrowingTaskGroup { group in
            for index in 0..<20 {
                group.addTask {
                    let read = try await guest.read("v\(index)")
                    #expect(read == value)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func `many tasks share a ring`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        try await withThrowingTaskGroup { group in
            for task in 0..<100 {
                group.addTask {
                    for round in 0..<5 {
                        try await guest.write("t\(task)", "\(round)")
                        #expect(try await guest.readString("t\(task)") == "\(round)")
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await guest.list("/local/domain/7").count == 100)
    }

    @Test func `a frontend and a backend find each other by watches`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        var back = try await toolstack.watch("/local/domain/7/state").makeAsyncIterator()
        var front = try await guest.watch("backend-state").makeAsyncIterator()
        #expect(try await back.next()?.path == "/local/domain/7/state")
        #expect(try await front.next()?.path == "backend-state")
        for state in 1...4 {
            try await guest.write("state", "\(state)")
            #expect(try await back.next()?.path == "/local/domain/7/state")
            try await toolstack.write("/local/domain/7/backend-state", "\(state)")
            #expect(try await front.next()?.path == "backend-state")
        }
    }

    @Test func `transactions work over a ring`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        try await guest.write("c", "0")
        var attempts = 0
        try await guest.withTransaction { transaction in
            let value = try await transaction.readString("c")
            if attempts == 0 { try await toolstack.write("/local/domain/7/c", "5") }
            attempts += 1
            try await transaction.write("c", value + "+")
        }
        #expect(attempts == 2)
        #expect(try await guest.readString("c") == "5+")
    }

    @Test func `nothing of an earlier client is left on the ring`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        for round in 0..<10 {
            let guest = try await host.guest(7)
            _ = try await guest.watch("w", token: "same")
            try await guest.write("round", "\(round)")
            // Requests whose replies nobody takes, on the way when the client goes.
            let late = (0..<20).map { _ in Task { _ = try? await guest.read("round") } }
            await Task.yield()
            guest.close()
            for task in late { await task.value }
        }
        let last = try await host.guest(7)
        var events = try await last.watch("w", token: "same").makeAsyncIterator()
        #expect(try await events.next()?.path == "w")
        #expect(try await last.readString("round") == "9")
    }

    @Test func `half a request of a client that was killed is forgotten`() async throws {
        try await host.start(7, host.toolstack())
        try await host.toolstack().write("/local/domain/7/a", "x")
        // Seven bytes more in the ring (req_prod stands at offset 2052), and no signal.
        let ring = open(host.directory + "/xen/dom7/ring", O_RDWR)
        defer { close(ring) }
        var produced: UInt32 = 0
        pread(ring, &produced, 4, 2052)
        produced += 7
        pwrite(ring, &produced, 4, 2052)
        #expect(try await host.guest(7).readString("a") == "x")
    }

    @Test func `one client a ring`() async throws {
        try await host.start(7, host.toolstack())
        let first = try await host.guest(7)
        var options = XenStoreOptions()
        options.patience = .milliseconds(50)
        guard case .notConnected(let why) = await failure({ _ = try await host.guest(7, options) }) else {
            Issue.record("two clients on one ring")
            return
        }
        #expect(why.hasSuffix("another client uses the ring"))
        try await first.write("a", "")
    }

    @Test func `a domain that is not there, not introduced or dying has no ring`() async throws {
        let toolstack = try await host.toolstack()
        try host.host.create(DomainID(8))
        try await host.start(9, toolstack)
        try host.host.destroy(DomainID(9))
        for domain: UInt16 in [7, 8, 9] {
            guard case .notConnected = await failure({ _ = try await host.guest(domain) }) else {
                Issue.record("domain \(domain) has a ring")
                continue
            }
        }
        for name in ["/xen", "/xen/dom", "/xen/domx", "/xen/dom32752", "/xen/dom70000"] {
            let place = XenStorePlace.simulatedRing(host.directory + name)
            #expect(await failure { _ = try await XenStoreClient.connect(to: place) } != nil)
        }
    }

    @Test func `a page that is too short is refused`() async throws {
        try await host.start(7, host.toolstack())
        truncate(host.directory + "/xen/dom7/ring", 4095)
        let cause = await failure { _ = try await host.guest(7) }
        let path = host.directory + "/xen/dom7/ring"
        #expect(cause == .notConnected("\(path): it has 4095 bytes, expected 4096"))
    }

    @Test func `a client whose domain dies fails, and the toolstack hears of it`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        try await guest.write("a", "")
        var deaths = try await toolstack.watch("@releaseDomain", depth: 1).makeAsyncIterator()
        #expect(try await deaths.next() != nil)
        try host.host.destroy(DomainID(7))
        #expect(try await deaths.next()?.path == "@releaseDomain/7")
        #expect(await failure { try await guest.write("a", "") } == .connectionLost(.domainGone))
    }

    @Test func `a client that waits for events hears of its domain's end`() async throws {
        try await host.start(7, host.toolstack())
        let guest = try await host.guest(7)
        var events = try await guest.watch("a").makeAsyncIterator()
        #expect(try await events.next() != nil)
        // Without a daemon nobody but the host itself can wake it.
        host.stop()
        try host.host.destroy(DomainID(7))
        #expect(await failure { _ = try await events.next() } == .connectionLost(.domainGone))
    }

    @Test func `a daemon that is away is given up when patience ends`() async throws {
        try await host.start(7, host.toolstack())
        var options = XenStoreOptions()
        options.patience = .milliseconds(200)
        let guest = try await host.guest(7, options)
        try await guest.write("a", "")
        host.stop()
        // The ring takes the first kilobyte, and nobody takes it from there.
        let cause = await failure { try await guest.write("a", [UInt8](repeating: 1, count: 3000)) }
        #expect(cause == .connectionLost(.stalled))
    }

    @Test func `an oversized message cuts the ring off, and a new client brings it back`() async throws {
        let toolstack = try await host.toolstack()
        try await host.start(7, toolstack)
        let guest = try await host.guest(7)
        try await guest.write("a", "here")
        // What no client sends: a length over 4096. The daemon deactivates the ring and says so in its error
        // word.
        guest.connection.state.with {
            $0.unsent += [11, 9, 0, 5000].flatMap { (word: UInt32) in
                withUnsafeBytes(of: word) { [UInt8]($0) }
            }
            $0.unsentCount += 16
        }
        let cause = await failure { _ = try await guest.read("a") }
        #expect(cause == .connectionLost(.ringError(3)))
        let next = try await host.guest(7)
        #expect(try await next.readString("a") == "here")
    }
}
