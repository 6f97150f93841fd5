// Does the daemon serve domains through Xen's libraries? The executable, with the fake libxen before its
// eyes.

import Foundation
import Glibc
import Testing
import XenStoreRing
import XenStoreTypes

@testable import XenStoreHost

/// A guest of a fake host: its page, and its end of the event channel.
private final class FakeGuest {
    let id: Int
    let ring: RingPage
    private let fake: FakeXen
    private let page: UnsafeMutableRawPointer

    init(_ fake: FakeXen, _ id: Int) throws {
        self.fake = fake
        self.id = id
        let descriptor = open("\(fake.host)/dom\(id)/ring", O_RDWR | O_CLOEXEC)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        page = try #require(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0))
        try #require(page != MAP_FAILED)
        ring = RingPage(page)
    }

    deinit { munmap(page, 4096) }

    /// Puts a request into the ring, signals, and waits for the reply's payload.
    func ask(_ type: MessageType, _ payload: String) throws -> String? {
        try queue(type, payload)
        try fake.signal(try fake.daemonPort(id))
        return reply()
    }

    /// Puts a request into the ring and tells nobody.
    func queue(_ type: MessageType, _ payload: String) throws {
        let message = RawClient.message(type, payload, id: 7)
        try #require(ring.sendRequest(message.span) == .moved(message.count))
    }

    /// Waits for a reply's payload.
    func reply() -> String? {
        guard let head = receive(MessageHeader.size) else { return nil }
        let header = MessageHeader(reading: head.span.bytes)
        #expect(header.requestID == 7)
        return receive(Int(header.length)).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Exactly so many bytes; nil if they do not come within ten seconds.
    private func receive(_ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 8)
        defer { buffer.deallocate() }
        let complete = eventually {
            let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count - bytes.count)])
            if case .moved(let got) = ring.receiveResponse(into: room) { bytes += room.prefix(got) }
            return bytes.count == count
        }
        return complete ? bytes : nil
    }
}

@Suite(.timeLimit(.minutes(10)))
struct XenDaemonTests {
    /// Starts a daemon on the fake host; it is ready when this returns.
    private func start(_ fake: FakeXen) throws -> (daemon: DaemonProcess, socket: String) {
        let (socket, file) = (fake.directory / "socket", fake.directory / "xenstored.yaml")
        let text = """
            hypervisor: xen
            xen: {kva: \(fake.configuration.kva!), port: \(fake.host)/xsd_port}
            sockets: [{path: \(socket)}]
            log: {level: debug}
            """
        try Data(text.utf8).write(to: URL(filePath: file))
        let daemon = try DaemonProcess(
            ["--config", file], environment: ["LD_LIBRARY_PATH": fake.libraryDirectory], in: fake.directory)
        let ready = eventually { daemon.errors.contains(" serves ") }
        try #require(ready, "\(daemon.errors)")
        return (daemon, socket)
    }

    /// Whether the daemon maps the host's file.
    private func maps(_ daemon: DaemonProcess, _ path: String) throws -> Bool {
        String(decoding: try wholeFile("/proc/\(daemon.identifier)/maps"), as: UTF8.self).contains(path)
    }

    @Test(arguments: ["libxenctrl.so.4.17", "libxenmanage.so.1"])
    func `a domain lives and dies through Xen's libraries`(_ library: String) throws {
        let fake = try FakeXen(libraries: FakeXen.usual.filter { !$0.hasPrefix("libxenctrl") } + [library])
        let (daemon, socket) = try start(fake)
        #expect(
            daemon.errors.contains(
                "hypervisor: Xen, domain states by \(library), since the configuration says so"))

        // The control domain's own ring, from the files that the configuration names.
        let control = try FakeGuest(fake, 0)
        #expect(try control.ask(.write, "/a\0b") == "OK\0")
        let client = try RawClient(socket)
        #expect(client.ask(.read, "/a\0")?.text == "b")

        // A domain that does not exist, then one that does.
        #expect(client.ask(.introduce, "7\0001\0009\0")?.text == "EINVAL\0")
        try fake.createDomain(7)
        #expect(client.ask(.introduce, "7\0001\0009\0")?.text == "OK\0")
        let guest = try FakeGuest(fake, 7)
        #expect(guest.ring.features == 15)
        #expect(try guest.ask(.getDomainPath, "7\0") == "/local/domain/7\0")
        #expect(try guest.ask(.write, "/a\0c") == "EACCES\0")
        #expect(try maps(daemon, "\(fake.host)/dom7/ring"))

        // Its shutdown is told once, then its death; after that nothing of it is held.
        #expect(client.ask(.watch, "@releaseDomain\0t\0")?.text == "OK\0")
        #expect(client.reply()?.text == "@releaseDomain\0t\0")
        try fake.setFlags(7, 1 | 4)
        try fake.signal(1)
        #expect(client.reply()?.text == "@releaseDomain\0t\0")
        #expect(client.ask(.isDomainIntroduced, "7\0")?.text == "T\0")
        try fake.setFlags(7, 1 | 2 | 4)
        try fake.signal(1)
        #expect(client.reply()?.text == "@releaseDomain\0t\0")
        #expect(client.ask(.isDomainIntroduced, "7\0")?.text == "F\0")
        #expect(try !maps(daemon, "\(fake.host)/dom7/ring"))
        #expect(try fake.daemonPort(7) == 0)
        #expect(daemon.stop() == 0)
    }

    /// What a Linux stub domain starts: `--event`, and no ring in any file.
    @Test func `the daemon serves from a domain of its own`() throws {
        let fake = try FakeXen(libraries: FakeXen.inStoreDomain)
        try fake.createDomain(5)
        try fake.setFlags(5, 1 | 8)
        let (socket, file) = (fake.directory / "socket", fake.directory / "xenstored.yaml")
        try Data("sockets: [{path: \(socket)}]".utf8).write(to: URL(filePath: file))
        let control = try FakeGuest(fake, 0)
        try control.queue(.write, "/tool/xenstored/domid\05")
        let daemon = try DaemonProcess(
            ["--config", file, "--event", "9"],
            environment: ["LD_LIBRARY_PATH": fake.libraryDirectory], in: fake.directory)
        #expect(control.reply() == "OK\0", "\(daemon.errors)")
        #expect(
            eventually {
                daemon.errors.contains("libxencall.so.1, in domain 5, since --event names its port")
            })
        #expect(!daemon.errors.contains("wait for INTRODUCE"))

        // Over the control domain's ring a guest comes, and goes.
        try fake.createDomain(7)
        #expect(try control.ask(.introduce, "7\0001\0009\0") == "OK\0")
        let guest = try FakeGuest(fake, 7)
        #expect(try guest.ask(.write, "/a\0c") == "EACCES\0")
        #expect(try control.ask(.write, "/local/domain/7/x\0c") == "OK\0")
        #expect(try guest.ask(.getDomainPath, "5\0") == "/local/domain/5\0")
        try fake.setFlags(7, 1 | 2)
        try fake.signal(1)
        #expect(eventually { (try? control.ask(.isDomainIntroduced, "7\0")) == "F\0" })
        #expect(try control.ask(.control, "check\0") == "OK\0")
        #expect(daemon.stop() == 0)
    }

    @Test func `the control domain's ring must be there for --event`() throws {
        let fake = try FakeXen(libraries: FakeXen.inStoreDomain)
        let file = fake.directory / "xenstored.yaml"
        try Data("sockets: [{path: \(fake.directory / "socket")}]".utf8).write(to: URL(filePath: file))
        try fake.createDomain(5)
        try fake.setFlags(5, 1 | 8)
        try fake.fail("xengnttab_map_grant_ref")
        let daemon = try DaemonProcess(
            ["--config", file, "--event", "9"],
            environment: ["LD_LIBRARY_PATH": fake.libraryDirectory], in: fake.directory)
        #expect(daemon.status() == 1)
        #expect(
            daemon.errors.contains(
                "the ring of domain 0, which --event is about: cannot map grant 1 of domain 0: "))
    }

    @Test(arguments: [
        (
            "xengnttab_map_grant_ref xenforeignmemory_map",
            "cannot map grant 1 of domain 7: Input/output error"
        ),
        ("xenevtchn_bind_interdomain", "cannot bind port 9 of domain 7: Input/output error"),
    ])
    func `an introduction that fails leaves nothing behind and its reason in the log`(
        calls: String, reason: String
    ) throws {
        let fake = try FakeXen()
        let (daemon, socket) = try start(fake)
        let client = try RawClient(socket)
        try fake.createDomain(7)
        try fake.fail(calls)
        #expect(client.ask(.introduce, "7\0001\0009\0")?.text.hasPrefix("E") == true)
        #expect(eventually { daemon.errors.contains("error: cannot introduce domain 7: \(reason)") })
        #expect(client.ask(.isDomainIntroduced, "7\0")?.text == "F\0")
        #expect(try !maps(daemon, "\(fake.host)/dom7/ring"))
        #expect(try fake.daemonPort(7) == 0)

        try fake.fail()
        #expect(client.ask(.introduce, "7\0001\0009\0")?.text == "OK\0")
        #expect(try FakeGuest(fake, 7).ask(.getDomainPath, "7\0") == "/local/domain/7\0")
    }

    /// The control domain's kernel does not wait for the daemon to start; its ring is not ours to empty.
    @Test func `what the control domain has asked before the start is answered`() throws {
        let fake = try FakeXen()
        let control = try FakeGuest(fake, 0)
        try control.queue(.write, "/early\0x")
        let (daemon, socket) = try start(fake)
        #expect(control.reply() == "OK\0")
        #expect(try RawClient(socket).ask(.read, "/early\0")?.text == "x")
        #expect(daemon.stop() == 0)
    }

    @Test func `a domain that grants nothing is reached by its frame`() throws {
        let fake = try FakeXen()
        let (daemon, socket) = try start(fake)
        try fake.createDomain(7, grants: false)
        try fake.createFile("dom7/frame", size: 4096)
        let client = try RawClient(socket)
        #expect(client.ask(.introduce, "7\0\(FakeXen.frame)\09\0")?.text == "OK\0")
        #expect(try maps(daemon, "\(fake.host)/dom7/frame"))
        #expect(client.ask(.release, "7\0")?.text == "OK\0")
        #expect(try !maps(daemon, "\(fake.host)/dom7/frame"))
    }

    @Test func `what is missing at the start is told, and nothing is served`() throws {
        let fake = try FakeXen()
        try FileManager.default.removeItem(atPath: fake.host + "/xsd_port")
        let file = fake.directory / "xenstored.yaml"
        let text = "xen: {port: \(fake.host)/xsd_port}\nsockets: [{path: \(fake.directory / "socket")}]"
        try Data(text.utf8).write(to: URL(filePath: file))
        let daemon = try DaemonProcess(
            ["--config", file, "--hypervisor", "xen"],
            environment: ["LD_LIBRARY_PATH": fake.libraryDirectory], in: fake.directory)
        #expect(daemon.status() == 1)
        #expect(daemon.errors.contains("cannot open \(fake.host)/xsd_port: No such file or directory"))
        #expect(access(fake.directory / "socket", F_OK) != 0)
    }

    @Test(.enabled(if: access("/proc/xen/capabilities", F_OK) != 0, "there is a Xen here"))
    func `without Xen it says so, and never goes on without`() throws {
        let directory = TestDirectory()
        let file = directory / "xenstored.yaml"
        try Data("sockets: [{path: \(directory / "socket")}]".utf8).write(to: URL(filePath: file))
        let daemon = try DaemonProcess(["--config", file, "--hypervisor", "xen"], in: directory)
        #expect(daemon.status() == 1)
        #expect(daemon.errors.contains("xenstored: hypervisor xen (--hypervisor says so): "))
        #expect(access(directory / "socket", F_OK) != 0)
    }
}
