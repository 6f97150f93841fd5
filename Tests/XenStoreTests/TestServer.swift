// A server, its world and its clock, for the tests of what it promises over time.

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

let millisecond: UInt64 = 1_000_000
let second: UInt64 = 1_000_000_000

final class TestServer {
    let world = TestWorld()
    let server: Server
    /// Of domain 0; it has made `/` writable for all.
    let control: Client
    private(set) var now: UInt64 = 100 * second

    /// `backend`: empty, and with batch 1 when this is done.
    init(backend: TestBackend? = nil, _ adjust: (inout ServerConfiguration) -> Void = { _ in }) {
        var configuration = ServerConfiguration()
        configuration.hashSeed = (7, 8)
        adjust(&configuration)
        server = Server(configuration, world: world, backend: backend)
        server.advance(to: now)
        if backend != nil { _ = server.recover([], sequence: 0) }
        control = Client(server, domain: 0)
        _ = control.request(.setPermissions, ["/", "b0"])
        server.commit()
        _ = control.drain()
    }

    func pass(_ time: UInt64) {
        now += time
        server.advance(to: now)
    }

    /// A ring of this domain.
    func ring(_ domain: UInt16) -> Client { Client(server, .domain(DomainID(domain)), isSocket: false) }

    /// The warnings since the last call.
    func takeWarnings() -> [String] {
        defer { world.lines = [] }
        return world.lines.filter { $0.level == .warning }.map(\.text)
    }
}

extension Client {
    func start() throws -> UInt32 {
        let reply = try #require(request(.transactionStart, [""]))
        return try #require(reply.strings.first.flatMap { UInt32($0) })
    }

    func write(_ path: String, _ value: String = "x", transaction: UInt32 = 0) -> Message? {
        request(Message.write(path, value, transaction: transaction))
    }

    func read(_ path: String, transaction: UInt32 = 0) -> String? {
        let reply = request(.read, [path], transaction: transaction)
        return reply.map { $0.errorName ?? String(decoding: $0.payload, as: UTF8.self) }
    }

    /// `OK`, or the error; nil: no reply yet.
    func end(_ transaction: UInt32, _ word: String = "T") -> String? {
        request(.transactionEnd, [word], transaction: transaction)?.strings.first
    }
}

extension Message {
    static func write(_ path: String, _ value: String, transaction: UInt32 = 0) -> Message {
        Message(.write, requestID: 9, transaction: transaction, Array(path.utf8) + [0] + Array(value.utf8))
    }

    var outcome: String { strings.first ?? "" }
}
