// Do requests say what they should, and are replies understood?

import Testing
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct NodeTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    @Test func `what is written is read`() async throws {
        let client = try await daemon.client()
        let value: [UInt8] = [0, 255, 10, 0]
        try await client.write("/a/b", value)
        #expect(try await client.read("/a/b") == value)
        try await client.write("/a/b", "text")
        #expect(try await client.readString("/a/b") == "text")
        #expect(try await client.read("/a") == [])
    }

    @Test func `nodes come and go`() async throws {
        let client = try await daemon.client()
        try await client.makeDirectory("/m/one")
        try await client.makeDirectory("/m/two")
        #expect(try await Set(client.list("/m")) == ["one", "two"])
        #expect(try await client.list("/m/one") == [])
        try await client.remove("/m/one")
        #expect(try await client.list("/m") == ["two"])
    }

    @Test func `a relative path is one below the domain's home`() async throws {
        let client = try await daemon.client()
        try await client.write("name", "x")
        #expect(try await client.readString("/local/domain/0/name") == "x")
    }

    @Test func `permissions are set and read`() async throws {
        let client = try await daemon.client()
        let permissions = [Permission(.none, .zero), Permission(.both, DomainID(7)), Permission(.read, .any)]
        try await client.makeDirectory("/p")
        try await client.setPermissions("/p", permissions)
        #expect(try await client.permissions("/p") == permissions)
    }

    @Test func `an error says which request failed, and why`() async throws {
        let client = try await daemon.client()
        let error = await #expect(throws: XenStoreError.self) { try await client.read("/none") }
        #expect(error == XenStoreError(.refused(.noent), .read, path: "/none"))
        #expect(error?.errorName == .noent)
        #expect(error.map { "\($0)" } == "read /none: ENOENT")
    }

    @Test(arguments: ["/a\0b", "\0"])
    func `a NUL in a path is not sent`(path: String) async throws {
        let client = try await daemon.client()
        let cause = await failure { try await client.write(path, "x") }
        #expect(cause == .unsendable("a NUL in a string"))
        #expect(try await client.list("/") == ["tool"])
    }

    @Test func `a payload over 4096 bytes is not sent, and the connection lives`() async throws {
        let client = try await daemon.client()
        let cause = await failure { try await client.write("/a", [UInt8](repeating: 1, count: 4094)) }
        #expect(cause == .unsendable("a payload of 4097 bytes, at most 4096 are allowed"))
        try await client.write("/a", [UInt8](repeating: 1, count: 4093))
        #expect(try await client.read("/a").count == 4093)
    }

    @Test func `domains can be asked about`() async throws {
        let client = try await daemon.client()
        #expect(try await client.domainPath(DomainID(5)) == "/local/domain/5")
        #expect(try await client.isIntroduced(DomainID(5)) == false)
        #expect(try await client.features().isSuperset(of: [.reconnection, .error, .watchDepth, .anyDomain]))
        #expect(await failure { try await client.release(DomainID(5)) } != nil)
        #expect(
            await failure { try await client.introduce(DomainID(5), gfn: 1, port: 3) } == .refused(.inval))
        #expect(await failure { try await client.resume(DomainID(5)) } != nil)
        #expect(await failure { try await client.setTarget(of: DomainID(5), to: DomainID(6)) } != nil)
    }

    @Test func `requests on domains say what they should`() async throws {
        let peer = ScriptedPeer {
            $0.serve { $0.type == MessageType.isDomainIntroduced.rawValue ? "T\0" : nil }
        }
        let client = try peer.client()
        try await client.introduce(DomainID(7), gfn: 1 << 40, port: 3)
        try await client.release(DomainID(7))
        try await client.resume(DomainID(7))
        try await client.setTarget(of: DomainID(8), to: DomainID(7))
        try await client.setFeatures([.error, .watchDepth], of: DomainID(9))
        #expect(try await client.isIntroduced(DomainID(7)))
        let sent = await peer.received(6).map(\.description)
        #expect(
            sent == [
                "introduce \"7|1099511627776|3|\"", "release \"7|\"", "resume \"7|\"", "setTarget \"8|7|\"",
                "setFeature \"9|6|\"", "isDomainIntroduced \"7|\"",
            ])
    }

    @Test func `quotas are read and set`() async throws {
        let client = try await daemon.client()
        let names = try await client.quotaNames()
        #expect(names.contains("nodes"))
        try await client.setQuota("nodes", to: 321)
        #expect(try await client.quota("nodes") == 321)
        #expect(await failure { _ = try await client.quota("no-such-quota") } == .refused(.inval))
    }

    @Test func `control returns the daemon's text`() async throws {
        let client = try await daemon.client()
        #expect(try await client.control("check").hasPrefix("OK"))
        #expect(try await client.control("help").contains("check"))
        #expect(await failure { _ = try await client.control("no-such-command") } == .refused(.inval))
    }

    @Test func `permissions have a text`() {
        #expect(Permission(text: "b32757") == Permission(.both, .any))
        #expect(Permission(.write, DomainID(3)).text == "w3")
        for text in ["", "r", "x3", "r-1", "r65536", "r3 "] { #expect(Permission(text: text) == nil) }
    }
}
