// Who waits for whom: reservations, unread output, outstanding requests (specification, sections C, D, E).

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

private let millisecond: UInt64 = 1_000_000

private func makeServer(_ adjust: (inout ServerConfiguration) -> Void = { _ in }) -> (Server, TestWorld) {
    let world = TestWorld()
    var configuration = ServerConfiguration()
    configuration.hashSeed = (3, 4)
    adjust(&configuration)
    return (Server(configuration, world: world), world)
}

extension Client {
    /// Starts a transaction and answers its id.
    fileprivate func start() throws -> UInt32 {
        let reply = try #require(request(.transactionStart, [""]))
        return try #require(reply.strings.first.flatMap { UInt32($0) })
    }

    fileprivate func write(_ path: String, _ value: String, transaction: UInt32 = 0) -> Message? {
        let payload = Array(path.utf8) + [0] + Array(value.utf8)
        return request(Message(.write, requestID: 9, transaction: transaction, payload))
    }

    fileprivate func commit(_ transaction: UInt32) -> Message? {
        request(.transactionEnd, ["T"], transaction: transaction)
    }
}

/// Makes `client` get EAGAIN twice, so that its next transaction has a reservation.
private func loseTwice(_ client: Client, _ rival: Client) throws {
    for round in 0..<2 {
        let id = try client.start()
        _ = client.request(.read, ["/n"], transaction: id)
        _ = client.write("/out", "x", transaction: id)
        _ = rival.write("/n", "\(round)")
        #expect(client.commit(id)?.errorName == "EAGAIN")
    }
}

@Test func reservationMakesOthersWaitUntilTheCommit() throws {
    let (server, _) = makeServer()
    let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
    server.advance(to: 1000 * millisecond)
    _ = rival.write("/n", "0")
    try loseTwice(client, rival)
    let id = try client.start()
    #expect(client.request(.read, ["/n"], transaction: id)?.payload == Array("1".utf8))
    #expect(rival.write("/elsewhere", "x")?.strings == ["OK"])
    #expect(rival.write("/n", "9") == nil)
    #expect(!server.wantsInput(rival.id) || rival.held.isEmpty)
    #expect(client.write("/out", "y", transaction: id)?.strings == ["OK"])
    #expect(client.commit(id)?.strings == ["OK"])
    #expect(rival.reply()?.strings == ["OK"])
    #expect(rival.request(.read, ["/n"])?.payload == Array("9".utf8))
    #expect(server.checkInvariants() == 0)
}

@Test func reservationEndsAfterTwentyMilliseconds() throws {
    let (server, _) = makeServer()
    let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
    server.advance(to: 1000 * millisecond)
    _ = rival.write("/n", "0")
    try loseTwice(client, rival)
    let id = try client.start()
    _ = client.request(.read, ["/n"], transaction: id)
    #expect(rival.write("/n", "9") == nil)
    let deadline = try #require(server.nextDeadline)
    #expect(deadline <= 1020 * millisecond)
    server.advance(to: 1019 * millisecond)
    #expect(rival.reply() == nil)
    server.advance(to: 1020 * millisecond)
    #expect(rival.reply()?.strings == ["OK"])
    _ = client.write("/out", "y", transaction: id)
    #expect(client.commit(id)?.errorName == "EAGAIN")
    #expect(server.checkInvariants() == 0)
}

/// The one with the reservation goes away, and the one who waits, too.
@Test(arguments: [true, false]) func reservationEndsWithItsConnection(holderLeaves: Bool) throws {
    let (server, _) = makeServer()
    let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
    _ = rival.write("/n", "0")
    try loseTwice(client, rival)
    let id = try client.start()
    _ = client.request(.read, ["/n"], transaction: id)
    #expect(rival.write("/n", "9") == nil)
    if holderLeaves {
        client.close()
        #expect(rival.reply()?.strings == ["OK"])
    } else {
        rival.close()
        #expect(client.write("/out", "y", transaction: id)?.strings == ["OK"])
        #expect(client.commit(id)?.strings == ["OK"])
    }
    #expect(server.checkInvariants() == 0)
}

/// XSA-206: somebody who writes all the time does not keep another's transactions from committing.
@Test func hammeringWriterStarvesNobody() throws {
    let (server, _) = makeServer()
    let (client, rival) = (Client(server, domain: 0), Client(server, domain: 1))
    _ = client.write("/n", "0")
    _ = client.request(.setPermissions, ["/n", "b0"])
    var commits = 0
    var now: UInt64 = 0
    for _ in 0..<200 {
        now += millisecond
        server.advance(to: now)
        let id = try client.start()
        _ = client.request(.read, ["/n"], transaction: id)
        rival.send(Message(.write, Array("/n\0x".utf8)).bytes)
        _ = client.write("/out", "y", transaction: id)
        if client.commit(id)?.strings == ["OK"] { commits += 1 }
        _ = rival.drain()
    }
    #expect(commits > 10)
    #expect(server.checkInvariants() == 0)
}

@Test func disjointCreatesNeverConflict() throws {
    let (server, _) = makeServer()
    let clients = (0..<16).map { _ in Client(server, domain: 0) }
    _ = clients[0].request(.makeDirectory, ["/p"])
    let ids = try clients.map { try $0.start() }
    for (number, client) in clients.enumerated() {
        _ = client.write("/p/\(number)/x", "v", transaction: ids[number])
    }
    for (client, id) in zip(clients, ids) { #expect(client.commit(id)?.strings == ["OK"]) }
    #expect(clients[0].request(.directory, ["/p"])?.strings == (0..<16).map(String.init))
}

@Test func unsentEventsAreCoalesced() {
    let (server, _) = makeServer()
    let (watcher, writer) = (Client(server, domain: 0), Client(server, domain: 0))
    _ = watcher.request(.watch, ["/n", "t"])
    _ = watcher.takeEvents()
    for _ in 0..<5 { _ = writer.write("/n", "x") }
    #expect(watcher.takeEvents().count == 1)
    // Not behind a reply, and not one that is partly sent.
    _ = writer.write("/n", "x")
    watcher.send(Message(.read, [UInt8](strings: ["/n"])).bytes)
    _ = writer.write("/n", "y")
    #expect(watcher.drain().map(\.isEvent) == [true, false, true])
    _ = writer.write("/n", "x")
    watcher.fetch(5)
    _ = writer.write("/n", "x")
    _ = writer.write("/n", "x")
    #expect(watcher.takeEvents().count == 2)
}

/// XSA-326: a socket that does not read is closed, and the writer does not notice.
@Test func socketThatNeverReadsIsClosed() {
    let (server, _) = makeServer { $0.socketOutputMax = 100_000 }
    let (watcher, writer) = (Client(server, domain: 0), Client(server, domain: 0))
    _ = watcher.request(.watch, ["/n", "t"])
    var largest = 0
    for number in 0..<5000 where !watcher.mustClose {
        #expect(writer.write("/n/\(number)", "x")?.strings == ["OK"])
        largest = max(largest, server.outputCount(watcher.id))
    }
    #expect(watcher.mustClose)
    #expect(largest < 110_000)
    watcher.close()
    #expect(writer.write("/n", "x")?.strings == ["OK"])
    #expect(server.checkInvariants() == 0)
}

/// Requests of one that does not read its replies wait: its output stays bounded.
@Test func repliesNotReadStopTheRequests() {
    let (server, _) = makeServer()
    let client = Client(server, domain: 0)
    _ = client.write("/n", String(repeating: "v", count: 4000))
    let requests = (1...200).map { Message(.read, requestID: $0, [UInt8](strings: ["/n"])) }
    client.send(requests.flatMap(\.bytes))
    #expect(server.outputCount(client.id) < 100_000)
    #expect(!server.wantsInput(client.id))
    #expect(client.drain().map(\.requestID) == Array(1...200))
    #expect(server.wantsInput(client.id))
}

@Test func outstandingRequestsOfAGuestAreBounded() {
    let (server, _) = makeServer { $0.quotas[.outstanding] = 5 }
    let guest = Client(server, domain: 3)
    let requests = (1...50).map { Message(.getDomainPath, requestID: $0, [UInt8](strings: ["3"])) }
    guest.send(requests.flatMap(\.bytes))
    let size = MessageHeader.size + "/local/domain/3".utf8.count + 1
    #expect(server.outputCount(guest.id) == 5 * size)
    #expect(!server.wantsInput(guest.id))
    guest.fetch(size)
    #expect(server.outputCount(guest.id) == 5 * size)
    #expect(guest.drain().map(\.requestID) == Array(1...50))
    #expect(server.checkInvariants() == 0)
}

/// An unprivileged ring that leaves its output unread for 20 s loses events; dom0's never does.
@Test(arguments: [UInt16(3), 0]) func ringThatNeverReads(domain: UInt16) {
    let (server, world) = makeServer()
    let writer = Client(server, domain: 0)
    let ring = Client(server, .domain(DomainID(domain)), isSocket: false)
    _ = writer.request(.setPermissions, ["/", "r0"])
    _ = ring.request(.watch, ["/", "t"])
    _ = ring.takeEvents()
    server.advance(to: 1000 * millisecond)
    _ = writer.write("/one", "x")
    server.advance(to: 20_999 * millisecond)
    _ = writer.write("/two", "x")
    server.advance(to: 21_001 * millisecond)
    world.lines = []
    _ = writer.write("/three", "x")
    let paths = ring.takeEvents().map { $0.strings[0] }
    #expect(paths == (domain == 0 ? ["/one", "/two", "/three"] : ["/one", "/two"]))
    #expect(domain == 0 || world.lines.contains { $0.text.contains("3") })
    _ = writer.write("/four", "x")
    #expect(ring.takeEvents().map { $0.strings[0] } == ["/four"])
}

/// The oldest unprivileged transaction goes first; it is answered from the live tree and ends in EAGAIN.
@Test func snapshotsAreBounded() throws {
    let (server, world) = makeServer { $0.snapshotMemory = 100_000 }
    let (guest, control, writer) = (
        Client(server, domain: 3), Client(server, domain: 0), Client(server, domain: 0)
    )
    _ = writer.request(.setPermissions, ["/", "b0"])
    for number in 0..<100 { _ = writer.write("/n/\(number)", String(repeating: "a", count: 2000)) }
    let kept = try control.start()
    let doomed = try guest.start()
    _ = guest.write("/mine", "x", transaction: doomed)
    for number in 0..<30 { _ = writer.write("/n/\(number)", String(repeating: "b", count: 2000)) }
    #expect(guest.request(.read, ["/n/0"], transaction: doomed)?.payload.first == UInt8(ascii: "a"))
    #expect(control.request(.read, ["/n/0"], transaction: kept)?.payload.first == UInt8(ascii: "a"))
    for number in 30..<100 { _ = writer.write("/n/\(number)", String(repeating: "b", count: 2000)) }
    #expect(guest.request(.read, ["/n/0"], transaction: doomed)?.payload.first == UInt8(ascii: "b"))
    #expect(guest.write("/mine2", "x", transaction: doomed)?.strings == ["OK"])
    #expect(guest.commit(doomed)?.errorName == "EAGAIN")
    #expect(writer.request(.read, ["/mine2"])?.errorName == "ENOENT")
    #expect(world.lines.contains { $0.level == .warning && $0.text.contains("transaction") })
    #expect(server.checkInvariants() == 0)
}

@Test func refusalByQuotaIsLoggedWithItsName() {
    let (server, world) = makeServer { $0.quotas[.nodes] = 1 }
    let (guest, control) = (Client(server, domain: 3), Client(server, domain: 0))
    _ = control.request(.setPermissions, ["/", "b0"])
    _ = guest.write("/first", "x")
    world.lines = []
    #expect(guest.write("/second", "x")?.errorName == "ENOSPC")
    #expect(
        world.lines.contains {
            $0.text.contains("nodes") && $0.text.contains("3") && $0.text.contains("/second")
        })
}

@Test func memoryQuotaRefusesWhatWouldStoreMore() {
    let (server, _) = makeServer {
        $0.quotas[.memory] = 20_000
        $0.quotas[.nodes] = 0
    }
    let (guest, control) = (Client(server, domain: 3), Client(server, domain: 0))
    _ = control.request(.setPermissions, ["/", "b0"])
    var count = 0
    while count < 100, guest.write("/m\(count)", String(repeating: "v", count: 1000))?.errorName == nil {
        count += 1
    }
    #expect((5..<20).contains(count))
    #expect(guest.write("/m\(count)", String(repeating: "v", count: 1000))?.errorName == "ENOSPC")
    #expect(guest.request(.read, ["/m0"])?.payload.count == 1000)
    #expect(guest.request(.remove, ["/m0"])?.strings == ["OK"])
    #expect(guest.write("/again", "v")?.strings == ["OK"])
    #expect(server.checkInvariants() == 0)
}

/// A connection's slot is used again, and the newcomer inherits nothing (XSA-330 and its kin).
@Test func newConnectionInheritsNothing() throws {
    let (server, _) = makeServer()
    let writer = Client(server, domain: 0)
    let first = Client(server, domain: 0)
    _ = first.request(.watch, ["/n", "t"])
    let id = try first.start()
    _ = first.write("/secret", "x", transaction: id)
    first.send(Array(Message(.write, Array("/half\0x".utf8)).bytes.prefix(20)))
    first.close()
    let second = Client(server, domain: 0)
    #expect(second.request(.read, ["/secret"], transaction: id)?.errorName == "ENOENT")
    _ = writer.write("/n", "x")
    #expect(second.takeEvents().isEmpty)
    #expect(try second.start() == 1)
    #expect(server.checkInvariants() == 0)
}
