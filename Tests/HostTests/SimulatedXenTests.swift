// Is a simulated Xen what docs/simulated-xen.md says, taken only when asked for, and only from its owner?

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

@Suite struct SimulatedXenTests {
    let directory = TestDirectory()
    var path: String { directory / "host" }

    /// What opening the host is refused with; nil: it is not.
    func refusal(_ path: String) -> String? {
        do throws(StartFailure) {
            _ = try SimulatedXen(path)
            return nil
        } catch {
            return error.description
        }
    }

    @Test func theFilesAreAsDocumented() throws {
        try SimulatedHost.make(path)
        try SimulatedHost(path).create(DomainID(3))
        let state = try wholeFile("\(path)/state")
        #expect(state.count == 32752 * 16)
        #expect(state.indices.filter { state[$0] != 0 } == [0, 48] && state[0] == 1 && state[48] == 1)
        #expect(contents("\(path)/xsd_port") == "1")
        #expect(try wholeFile("\(path)/dom3/ring") == [UInt8](repeating: 0, count: 4096))
        for (name, kind) in [("evtchn", S_IFIFO), ("dom0/event", S_IFIFO), ("dom3/event", S_IFIFO)] {
            var status = stat()
            #expect(stat("\(path)/\(name)", &status) == 0 && status.st_mode == kind | 0o600)
        }
        try SimulatedHost(path).shutDown(DomainID(3))
        #expect(try wholeFile("\(path)/state")[48] == 5)
        try SimulatedHost(path).crash(DomainID(3))
        #expect(try wholeFile("\(path)/state")[48] == 13)
        try SimulatedHost(path).destroy(DomainID(3))
        #expect(try wholeFile("\(path)/state")[48] == 15)
        try SimulatedHost(path).forget(DomainID(3))
        #expect(try wholeFile("\(path)/state")[48] == 0)
    }

    @Test func whatIsNoHostIsRefused() throws {
        #expect(refusal(path) == "cannot open the simulated Xen \(path): No such file or directory")
        mkdir(path, 0o700)
        #expect(refusal(path)?.hasPrefix("cannot open the FIFO \(path)/evtchn") == true)
        try SimulatedHost.make(path)
        #expect(refusal(path) == nil)
        truncate("\(path)/state", 1000)
        #expect(refusal(path) == "\(path)/state has 1000 bytes, expected 524032")
        #expect(throws: SimulationFailure.self) { try SimulatedHost(path) }
    }

    @Test(arguments: [0o755, 0o750, 0o701, 0o1700, 0o500])
    func anOpenDirectoryIsRefused(mode: mode_t) throws {
        try SimulatedHost.make(path)
        chmod(path, mode)
        #expect(refusal(path)?.contains("with mode \(String(mode, radix: 8)), expected uid") == true)
        #expect(throws: SimulationFailure.self) { try SimulatedHost(path) }
    }

    @Test func somebodyElsesDirectoryIsRefused() throws {
        try #require(geteuid() == 0 || refusal("/root") != nil)
        guard geteuid() == 0 else { return }
        try SimulatedHost.make(path)
        chown(path, 1234, 1234)
        #expect(refusal(path)?.contains("belongs to uid 1234") == true)
    }

    @Test func symbolicLinksAreNotFollowed() throws {
        try SimulatedHost.make(path)
        let xen = try SimulatedXen(path)
        try SimulatedHost(path).create(DomainID(3))
        rename("\(path)/dom3/ring", "\(path)/moved")
        symlink("\(path)/moved", "\(path)/dom3/ring")
        #expect(throws: HypervisorFailure.self) { try xen.map(DomainID(3), gfn: 0) }
    }

    @Test func domainsAreToldApart() throws {
        try SimulatedHost.make(path)
        let (xen, host) = (try SimulatedXen(path), try SimulatedHost(path))
        #expect(xen.domains() == [.zero])
        #expect(xen.domain(DomainID(3)) == nil)
        try host.create(DomainID(3))
        #expect(xen.domains() == [.zero, DomainID(3)])
        let before = try #require(xen.domain(DomainID(3)))
        #expect(!before.isShutdown && !before.isDying)
        let port = try xen.bind(DomainID(3), remotePort: 9)
        #expect(xen.domain(DomainID(3)) == before)
        try host.shutDown(DomainID(3))
        #expect(xen.domain(DomainID(3))?.isShutdown == true)
        #expect(xen.domain(DomainID(3))?.uniqueID == before.uniqueID)
        try host.create(DomainID(3))
        let after = try #require(xen.domain(DomainID(3)))
        #expect(after.uniqueID != before.uniqueID && !after.isShutdown)
        xen.unbind(port)
        #expect(xen.domain(DomainID(3)) == after)
        try host.destroy(DomainID(3))
        #expect(xen.domain(DomainID(3))?.isDying == true)
        #expect(xen.domain(DomainID(0x7FF0)) == nil && xen.domain(.any) == nil)
    }

    @Test func aLostPageIsZerosAndComesBack() throws {
        try SimulatedHost.make(path)
        let xen = try SimulatedXen(path)
        let (page, port) = try #require(try xen.ownRing())
        #expect(port == 1 && !xen.isLost(page))
        page.storeBytes(of: 7, toByteOffset: 8, as: UInt32.self)
        truncate("\(path)/dom0/ring", 0)
        #expect(!xen.isLost(page))
        #expect(page.load(fromByteOffset: 8, as: UInt32.self) == 0)
        #expect(xen.isLost(page))
        #expect(throws: HypervisorFailure.self) { try xen.restore(page) }
        #expect(xen.isLost(page) && page.load(as: UInt32.self) == 0)
        truncate("\(path)/dom0/ring", 4096)
        try xen.restore(page)
        #expect(!xen.isLost(page))
        page.storeBytes(of: 9, toByteOffset: 8, as: UInt32.self)
        #expect(try wholeFile("\(path)/dom0/ring")[8] == 9)
    }

    // MARK: Choosing

    func choice(
        _ hypervisor: Configuration.Hypervisor?, file: String = "{}", event: UInt32? = nil, simulated: String?
    ) throws -> HypervisorChoice {
        let name = directory / "f.yaml"
        let output = try #require(fopen(name, "w"))
        fputs(file, output)
        fclose(output)
        var changes = ConfigurationChanges()
        changes.hypervisor = hypervisor
        var flags = DaemonFlags()
        flags.event = event
        let options = try DaemonOptions(
            file: name, changes: changes, flags: flags,
            environment: Configuration.Environment(simulatedDirectory: simulated, workingDirectory: "/w"))
        return try options.hypervisorChoice
    }

    @Test func whatIsAskedForIsTaken() throws {
        let option = "--hypervisor says so"
        #expect(try choice(.some(.none), simulated: "/s") == HypervisorChoice(.none, reason: option))
        #expect(
            try choice(.simulated, simulated: "s/")
                == HypervisorChoice(.simulated(directory: "/w/s"), reason: option))
        let file = "hypervisor: simulated\nsimulated: {directory: /f}\n"
        #expect(
            try choice(nil, file: file, simulated: "/s")
                == HypervisorChoice(.simulated(directory: "/f"), reason: "the configuration says so"))
        #expect(
            try choice(.xen, simulated: nil)
                == HypervisorChoice(.xen(Configuration.Xen(), port: nil), reason: option))
        #expect(throws: StartFailure.self) { try choice(.simulated, simulated: nil) }
    }

    @Test func autoNeverTakesASimulatedXen() throws {
        for file in ["{}", "hypervisor: auto", "simulated: {directory: /s}"] {
            let kind = try choice(nil, file: file, simulated: "/s").kind
            #expect(kind == .none || kind == .xen(Configuration.Xen(), port: nil))
        }
        #expect(
            try choice(.auto, event: 5, simulated: nil)
                == HypervisorChoice(.xen(Configuration.Xen(), port: 5), reason: "--event names its port"))
    }

    @Test func theLogSaysWhatWasTaken() throws {
        var options = testOptions(directory)
        options.hypervisor = HypervisorChoice(.none, reason: "a test says so")
        let daemon = try DaemonThread(options)
        daemon.stop()
        #expect(contents(directory / "log").contains("hypervisor: none, since a test says so"))
    }

    @Test func aHostThatIsNotThereIsAFailureToStart() throws {
        var options = testOptions(directory)
        options.hypervisor = HypervisorChoice(.simulated(directory: path))
        #expect(throws: StartFailure("cannot open the simulated Xen \(path): No such file or directory")) {
            try DaemonThread(options)
        }
        try SimulatedHost.make(path)
        unlink("\(path)/dom0/ring")
        #expect(throws: StartFailure.self) { try DaemonThread(options) }
        #expect(access(directory / "socket", F_OK) != 0)
    }
}
