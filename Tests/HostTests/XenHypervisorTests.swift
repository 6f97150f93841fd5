// Are Xen's libraries called as they must be, and is what is missing named? On the fake Xen of Tests/FakeXen.

import CXen
import Foundation
import Glibc
import Testing
import XenStore
import XenStoreTypes

@testable import XenStoreHost

/// The failure that `body` throws, in words; nil if it throws none.
private func failure(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch {
        return "\(error)"
    }
}

@Suite struct XenHypervisorTests {
    private func start(
        _ fake: FakeXen, control: ControlRing? = nil, names: XenLibraryNames? = nil
    ) throws -> XenHypervisor {
        let log = try Log(.file(fake.directory / "log"), level: .debug)
        return try XenHypervisor(fake.configuration, control: control, log: log, names: names ?? fake.names)
    }

    private func pending(_ xen: XenHypervisor) -> [UInt32] {
        var ports: [UInt32] = []
        xen.takePending { ports.append($0) }
        for port in ports { xen.unmask(port) }
        return ports
    }

    /// Whether this process maps the host's file.
    private func maps(_ name: String, _ fake: FakeXen) throws -> Bool {
        String(decoding: try wholeFile("/proc/self/maps"), as: UTF8.self).contains("\(fake.host)/\(name)")
    }

    // MARK: What is missing is named

    @Test(arguments: ["libxenevtchn.so.1", "libxengnttab.so.1", "libxenctrl.so.4.17"])
    func `a missing library is named`(_ name: String) throws {
        let fake = try FakeXen(libraries: FakeXen.usual.filter { $0 != name })
        let text = try #require(failure { _ = try start(fake) })
        #expect(text.contains(name.hasPrefix("libxenctrl") ? "found no " : "cannot load "))
        #expect(text.contains(name.hasPrefix("libxenctrl") ? "/libxenctrl.so.*" : "/\(name)"))
        // Either source of domain states would do.
        #expect(text.contains("libxenmanage.so.1") == name.hasPrefix("libxenctrl"))
    }

    @Test func `a release that is not known is named with those that are`() throws {
        let known = FakeXen.usual.filter { !$0.hasPrefix("libxenctrl") }
        let fake = try FakeXen(libraries: known + ["libxenctrl.so.4.99"])
        let text = try #require(failure { _ = try start(fake) })
        #expect(text.contains("found \(fake.libraryDirectory)/libxenctrl.so.4.99, expected "))
        #expect(text.contains("(4.20, 4.19, 4.18, 4.17, 4.16, 4.15, 4.14)"))
    }

    @Test func `a library with another structure than its release's is refused`() throws {
        // The fake is of the headers' release, and this name of an older one with a smaller structure.
        let known = FakeXen.usual.filter { !$0.hasPrefix("libxenctrl") }
        let fake = try FakeXen(libraries: known + ["libxenctrl.so.4.14"])
        let size = MemoryLayout<xc_domaininfo_t>.size
        let text = try #require(failure { _ = try start(fake) })
        #expect(text.contains("libxenctrl.so.4.14: found \(size) bytes a domain, expected \(size - 8)"))
    }

    @Test func `a missing call is named`() throws {
        let fake = try FakeXen()
        var names = fake.names
        // Any library that is none of Xen's.
        names.eventChannels = "libc.so.6"
        #expect(failure { _ = try start(fake, names: names) } == "libc.so.6 has no xenevtchn_open")
    }

    @Test(arguments: [
        ("xenevtchn_open", "cannot open event channels: "),
        ("xengnttab_open", "cannot open the grant table: "),
        ("xenevtchn_bind_virq", "cannot bind VIRQ_DOM_EXC (is another xenstored running?): "),
        ("xc_interface_open", "libxenctrl.so.4.17: cannot open it: "),
        ("xc_domain_getinfolist", "libxenctrl.so.4.17: no list of domains: "),
    ])
    func `a call that fails at the start is named`(call: String, text: String) throws {
        let fake = try FakeXen()
        try fake.fail(call)
        let found = try #require(failure { _ = try start(fake) })
        #expect(found.contains(text + "Input/output error"), "\(found)")
    }

    // MARK: Domains

    @Test(arguments: ["libxenctrl.so.4.17", "libxenmanage.so.1"])
    func `domains are as Xen has them`(_ library: String) throws {
        let fake = try FakeXen(libraries: FakeXen.usual.filter { !$0.hasPrefix("libxenctrl") } + [library])
        let xen = try start(fake)
        #expect(xen.name.hasSuffix(library))
        try fake.createDomain(3)
        try fake.createDomain(32751)
        #expect(xen.domains() == [DomainID(0), DomainID(3), DomainID(32751)])
        #expect(xen.domain(DomainID(2)) == nil)
        #expect(xen.domain(.me) == nil)

        let first = try #require(xen.domain(DomainID(3)))
        #expect(first.uniqueID != 0 && !first.isShutdown && !first.isDying)
        #expect(xen.domain(DomainID(3)) == first)
        try fake.setFlags(3, 1 | 4)
        #expect(xen.domain(DomainID(3)) == DomainIdentity(uniqueID: first.uniqueID, isShutdown: true))
        try fake.setFlags(3, 1 | 2)
        #expect(xen.domain(DomainID(3)) == DomainIdentity(uniqueID: first.uniqueID, isDying: true))
        try fake.setFlags(3, 0)
        #expect(xen.domain(DomainID(3)) == nil)
        // Another process of ours, and another domain of the same id.
        try fake.createDomain(3)
        let second = try #require(xen.domain(DomainID(3)))
        #expect(second.uniqueID != first.uniqueID)
        #expect(try start(fake).domain(DomainID(3)) == second)
    }

    @Test func `libxenmanage is taken before libxenctrl, and libxenctrl where the former does not work`()
        throws
    {
        let fake = try FakeXen(libraries: FakeXen.usual + ["libxenmanage.so.1"])
        #expect(try start(fake).name.hasSuffix("libxenmanage.so.1"))
        try fake.fail("xenmanage_get_domain_info")
        #expect(try start(fake).name.hasSuffix("libxenctrl.so.4.17"))
    }

    // MARK: In a domain of its own

    private static let control = ControlRing(domain: .zero, port: 9)

    @Test(arguments: ["libxencall.so.1", "libxenmanage.so.1"])
    func `outside the control domain too, and the daemon knows its own`(_ library: String) throws {
        let others = FakeXen.inStoreDomain.filter { $0 != "libxencall.so.1" }
        let fake = try FakeXen(libraries: others + [library])
        try fake.createDomain(5)
        try fake.setFlags(5, 1 | 8)
        let xen = try start(fake, control: Self.control)
        #expect(xen.name.hasSuffix("/\(library), in domain 5"))
        #expect(xen.ownDomain == DomainID(5))
        try fake.createDomain(7)
        try fake.createDomain(32751)
        #expect(xen.domains() == [DomainID(0), DomainID(5), DomainID(7), DomainID(32751)])
        #expect(xen.domain(DomainID(6)) == nil)
        let first = try #require(xen.domain(DomainID(7)))
        try fake.setFlags(7, 1 | 4)
        #expect(xen.domain(DomainID(7)) == DomainIdentity(uniqueID: first.uniqueID, isShutdown: true))
        try fake.setFlags(7, 1 | 2)
        #expect(xen.domain(DomainID(7)) == DomainIdentity(uniqueID: first.uniqueID, isDying: true))
        try fake.setFlags(7, 0)
        #expect(xen.domain(DomainID(7)) == nil)
        try fake.setFlags(32751, 0)
        #expect(xen.domain(DomainID(32751)) == nil)

        let (page, port) = try #require(try xen.ownRing())
        #expect(port == 9)
        #expect(try maps("dom0/ring", fake))
        xen.unmap(page)
        #expect(try !maps("dom0/ring", fake))
    }

    /// The same identity by either call: a restart may come with another library.
    @Test func `a domain is the same one by hypercall and by libxenctrl`() throws {
        let fake = try FakeXen(libraries: FakeXen.usual + ["libxencall.so.1"])
        try fake.createDomain(3)
        try fake.createDomain(5)
        try fake.setFlags(5, 1 | 8)
        #expect(
            try start(fake).domain(DomainID(3))
                == (try start(fake, control: Self.control).domain(DomainID(3))))
    }

    /// As where somebody gives --event to a daemon in dom0.
    @Test func `a host without a XenStore domain has no place for --event`() throws {
        let fake = try FakeXen(libraries: FakeXen.inStoreDomain)
        try fake.createDomain(5)
        let found = try #require(failure { _ = try start(fake, control: Self.control) })
        #expect(found.hasPrefix("--event is for a daemon in XenStore's own domain"), "\(found)")
    }

    @Test(arguments: [
        ("xencall_open", "libxencall.so.1: cannot open it: "),
        ("xencall1", "libxencall.so.1: no states of domains (is this the XenStore domain?): "),
    ])
    func `a hypercall that fails at the start is named`(call: String, text: String) throws {
        let fake = try FakeXen(libraries: FakeXen.inStoreDomain)
        try fake.fail(call)
        let found = try #require(failure { _ = try start(fake, control: Self.control) })
        #expect(found.contains(text + "Input/output error"), "\(found)")
    }

    @Test func `a missing libxencall is named`() throws {
        let fake = try FakeXen(libraries: FakeXen.inStoreDomain.filter { $0 != "libxencall.so.1" })
        let found = try #require(failure { _ = try start(fake, control: Self.control) })
        #expect(found.contains("/libxencall.so.1"))
    }

    @Test func `a question that fails is no death`() throws {
        let fake = try FakeXen()
        let xen = try start(fake)
        try fake.createDomain(5)
        let before = try #require(xen.domain(DomainID(5)))
        try fake.fail("xc_domain_getinfolist")
        #expect(xen.domain(DomainID(5)) == before)
        #expect(xen.domain(DomainID(6)) == nil)
        #expect(
            eventually { contents(fake.directory / "log").contains("no state of domain 5: Input/output") })
        #expect(!contents(fake.directory / "log").contains("no state of domain 6"))
    }

    /// The headers that this was compiled with, beside the table's row of their release.
    @Test func `the table is as the header has it`() throws {
        let releases: [Int32: String] = [0x15: "4.17"]
        let release = try #require(
            releases[XEN_DOMCTL_INTERFACE_VERSION], "add the release of these headers to this test")
        let layout = try #require(XenDomainLayout.known.first { $0.release == release })
        #expect(layout.size == MemoryLayout<xc_domaininfo_t>.size)
        #expect(layout.domain == MemoryLayout<xc_domaininfo_t>.offset(of: \.domain))
        #expect(layout.flags == MemoryLayout<xc_domaininfo_t>.offset(of: \.flags))
        #expect(layout.sharedInfoFrame == MemoryLayout<xc_domaininfo_t>.offset(of: \.shared_info_frame))
        #expect(layout.handle == MemoryLayout<xc_domaininfo_t>.offset(of: \.handle))
        #expect(XenDomainLayout.handleSize == MemoryLayout<xen_domain_handle_t>.size)
        #expect(XenDomainLayout.dying == 1 << UInt32(_XEN_DOMINF_dying))
        #expect(XenDomainLayout.hvm == 1 << UInt32(_XEN_DOMINF_hvm_guest))
        #expect(XenDomainLayout.shutdown == 1 << UInt32(_XEN_DOMINF_shutdown))
    }

    // MARK: Event channels

    @Test func `events go both ways`() throws {
        let fake = try FakeXen()
        try fake.createDomain(3)
        let xen = try start(fake)
        #expect(pending(xen) == [])
        let port = try xen.bind(DomainID(3), remotePort: 9)
        #expect(try fake.daemonPort(3) == port)
        try fake.signal(port)
        try fake.signal(xen.domainPort)
        var ready = pollfd(fd: xen.descriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&ready, 1, 0) == 1)
        #expect(pending(xen) == [port, xen.domainPort])
        #expect(poll(&ready, 1, 0) == 0)

        let guest = open(fake.host + "/dom3/event", O_RDONLY | O_NONBLOCK)
        defer { close(guest) }
        xen.notify(port)
        var byte: UInt8 = 0
        #expect(read(guest, &byte, 1) == 1)
        xen.unbind(port)
        #expect(try fake.daemonPort(3) == 0)
        xen.notify(port)
        #expect(read(guest, &byte, 1) <= 0)
    }

    @Test func `many pending events come in turns`() throws {
        let fake = try FakeXen()
        let xen = try start(fake)
        for _ in 0..<300 { try fake.signal(xen.domainPort) }
        #expect(pending(xen).count == 256)
        #expect(pending(xen).count == 44)
    }

    @Test func `a bind that fails says why`() throws {
        let fake = try FakeXen()
        let xen = try start(fake)
        #expect(
            failure { _ = try xen.bind(DomainID(3), remotePort: 9) }
                == "cannot bind port 9 of domain 3: No such file or directory")
        try fake.createDomain(3)
        try fake.fail("xenevtchn_bind_interdomain")
        #expect(
            failure { _ = try xen.bind(DomainID(3), remotePort: 9) }
                == "cannot bind port 9 of domain 3: Input/output error")
    }

    // MARK: Pages

    @Test func `a granted page is mapped, shared and unmapped`() throws {
        let fake = try FakeXen()
        try fake.createDomain(3)
        let xen = try start(fake)
        let page = try xen.map(DomainID(3), gfn: noFrame)
        page.storeBytes(of: 0xABCD, toByteOffset: 4092, as: UInt32.self)
        let bytes = try Data(contentsOf: URL(filePath: fake.host + "/dom3/ring"))
        #expect(bytes.suffix(4) == Data([0xCD, 0xAB, 0, 0]))
        #expect(try maps("dom3/ring", fake))
        xen.unmap(page)
        #expect(try !maps("dom3/ring", fake))
    }

    @Test func `a page that is not granted is mapped by its frame`() throws {
        let fake = try FakeXen()
        try fake.createDomain(3, grants: false)
        try fake.createFile("dom3/frame", size: 4096)
        let xen = try start(fake)
        let page = try xen.map(DomainID(3), gfn: FakeXen.frame)
        #expect(try maps("dom3/frame", fake))
        xen.unmap(page)
        #expect(try !maps("dom3/frame", fake))

        let grant = "cannot map grant 1 of domain 3: No such file or directory"
        #expect(failure { _ = try xen.map(DomainID(3), gfn: noFrame) } == grant)
        #expect(
            failure { _ = try xen.map(DomainID(3), gfn: 0x99) }
                == grant + "; cannot map frame 0x99 of domain 3: Invalid argument")
        try fake.fail("xengnttab_map_grant_ref")
        #expect(
            failure { _ = try xen.map(DomainID(3), gfn: noFrame) }
                == "cannot map grant 1 of domain 3: Input/output error")
    }

    @Test func `that frames cannot be mapped here is told when one is asked for`() throws {
        let fake = try FakeXen(libraries: FakeXen.usual.filter { !$0.hasPrefix("libxenforeign") })
        try fake.createDomain(3, grants: false)
        let xen = try start(fake)
        let text = try #require(failure { _ = try xen.map(DomainID(3), gfn: 1) })
        #expect(text.hasPrefix("cannot map grant 1 of domain 3: No such file or directory; cannot load "))
        #expect(text.contains("/libxenforeignmemory.so.1: "))
    }

    // MARK: The daemon's own ring

    @Test func `the own ring is where the configuration says`() throws {
        let fake = try FakeXen()
        let log = try Log(.file(fake.directory / "log"), level: .debug)
        var configuration = fake.configuration
        let ring = try #require(try XenHypervisor(configuration, log: log, names: fake.names).ownRing())
        #expect(ring.remotePort == 1)

        configuration.port = .number(77)
        let xen = try XenHypervisor(configuration, log: log, names: fake.names)
        let numbered = try #require(try xen.ownRing())
        #expect(numbered.remotePort == 77)
        numbered.page.storeBytes(of: 7, as: UInt8.self)
        xen.unmap(numbered.page)
        #expect(try Data(contentsOf: URL(filePath: fake.host + "/dom0/ring")).first == 7)

        configuration.kva = nil
        #expect(try XenHypervisor(configuration, log: log, names: fake.names).ownRing() == nil)
    }

    @Test func `an own ring that is not there is named`() throws {
        let fake = try FakeXen()
        let log = try Log(.file(fake.directory / "log"), level: .debug)
        func text(_ configuration: Configuration.Xen) throws -> String? {
            let xen = try XenHypervisor(configuration, log: log, names: fake.names)
            return failure { _ = try xen.ownRing() }
        }
        var configuration = fake.configuration
        configuration.kva = "/none/kva"
        #expect(try text(configuration) == "cannot open /none/kva: No such file or directory")
        configuration.port = .file("/none/port")
        #expect(try text(configuration) == "cannot open /none/port: No such file or directory")
        for wrong in ["", "0", "x", "-1", "1 2"] {
            try Data(wrong.utf8).write(to: URL(filePath: fake.host + "/xsd_port"))
            #expect(
                try text(fake.configuration)
                    == "\(fake.host)/xsd_port: found \"\(wrong)\", expected an event channel's port")
        }
        try Data("12\n".utf8).write(to: URL(filePath: fake.host + "/xsd_port"))
        #expect(try text(fake.configuration) == nil)
    }
}
