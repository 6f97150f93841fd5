// A host of the fake Xen for a test: Tests/FakeXen built once, and a copy of it beside a directory that
// stands for the host.

import Foundation
import Glibc
import Testing

@testable import XenStoreHost

/// `lib` with the fake libraries, `host` with the simulated host. Both go with it.
final class FakeXen {
    /// The libraries that a host with Xen 4.17 has.
    static let usual = [
        "libxenevtchn.so.1", "libxengnttab.so.1", "libxenforeignmemory.so.1", "libxenctrl.so.4.17",
    ]
    /// The libraries of a domain that has only the XenStore capability.
    static let inStoreDomain = ["libxenevtchn.so.1", "libxengnttab.so.1", "libxencall.so.1"]
    /// The gfn of a domain's `frame`.
    static let frame: UInt64 = 0x1234

    let directory = TestDirectory()
    var host: String { directory / "host" }
    var libraryDirectory: String { directory / "lib" }

    /// A host with domain 0 and nothing else.
    init(libraries: [String] = usual) throws {
        let object = try Self.object.get()
        let files = FileManager.default
        try files.createDirectory(atPath: libraryDirectory, withIntermediateDirectories: false)
        try files.createDirectory(atPath: host, withIntermediateDirectories: false)
        chmod(host, 0o700)
        try files.copyItem(atPath: object, toPath: libraryDirectory + "/fake.so")
        for name in libraries {
            try files.createSymbolicLink(
                atPath: "\(libraryDirectory)/\(name)", withDestinationPath: "fake.so")
        }
        try createFile("state", size: 32752 * 16)
        try #require(mkfifo(host + "/evtchn", 0o600) == 0)
        try Data("1".utf8).write(to: URL(filePath: host + "/xsd_port"))
        try createDomain(0)
    }

    /// The libraries by path, for a hypervisor in this process.
    var names: XenLibraryNames {
        XenLibraryNames(
            eventChannels: libraryDirectory + "/libxenevtchn.so.1",
            grants: libraryDirectory + "/libxengnttab.so.1",
            foreignMemory: libraryDirectory + "/libxenforeignmemory.so.1",
            manage: libraryDirectory + "/libxenmanage.so.1",
            hypercalls: libraryDirectory + "/libxencall.so.1", control: libraryDirectory + "/libxenctrl.so.")
    }

    var configuration: Configuration.Xen {
        Configuration.Xen(kva: host + "/dom0/ring", port: .file(host + "/xsd_port"))
    }

    /// Makes a domain exist, a new one where there was one of this id.
    func createDomain(_ id: Int, grants: Bool = true) throws {
        let files = FileManager.default
        try? files.removeItem(atPath: "\(host)/dom\(id)")
        try files.createDirectory(atPath: "\(host)/dom\(id)", withIntermediateDirectories: false)
        if grants { try createFile("dom\(id)/ring", size: 4096) }
        try #require(mkfifo("\(host)/dom\(id)/event", 0o600) == 0)
        let unique = UInt64.random(in: 1...UInt64.max)
        try withUnsafeBytes(of: unique) { Data($0) }.write(to: URL(filePath: "\(host)/dom\(id)/id"))
        try setFlags(id, 1)
    }

    /// Bits of the domain: 1 exists, 2 dying, 4 shut down, 8 XenStore capability. Raises no VIRQ.
    func setFlags(_ id: Int, _ flags: UInt32) throws {
        let file = try FileHandle(forUpdating: URL(filePath: host + "/state"))
        try file.seek(toOffset: UInt64(id * 16))
        try file.write(contentsOf: withUnsafeBytes(of: flags) { Data($0) })
        try file.close()
    }

    /// The local port that the daemon has bound for the domain; 0: none.
    func daemonPort(_ id: Int) throws -> UInt32 {
        let file = try FileHandle(forReadingFrom: URL(filePath: host + "/state"))
        try file.seek(toOffset: UInt64(id * 16 + 4))
        let bytes = try #require(try file.read(upToCount: 4))
        return bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    }

    /// Sends an event to the daemon's local port; 1 is VIRQ_DOM_EXC.
    func signal(_ port: UInt32) throws {
        let descriptor = open(host + "/evtchn", O_RDWR | O_NONBLOCK)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        try #require(withUnsafeBytes(of: port) { write(descriptor, $0.baseAddress, $0.count) } == 4)
    }

    /// Has these calls, and no others, fail with EIO from now on.
    func fail(_ calls: String...) throws {
        try Data(calls.joined(separator: " ").utf8).write(to: URL(filePath: host + "/fail"))
    }

    func createFile(_ name: String, size: Int) throws {
        try Data(count: size).write(to: URL(filePath: "\(host)/\(name)"))
    }

    /// The shared object, built once in this process.
    private static let object = Result { () throws -> String in
        let directory = scratch.path
        let source = packageRoot + "/Tests/FakeXen/fake_xen.c"
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments =
            "cc -std=gnu11 -O1 -Wall -Wextra -Werror -shared -fPIC -o \(directory)/fake.so \(source) -ldl"
            .split(separator: " ").map(String.init)
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0, "cc cannot build \(source)")
        return directory + "/fake.so"
    }
    private static let scratch = TestDirectory()
}
