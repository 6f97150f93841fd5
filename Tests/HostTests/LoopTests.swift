// Does the loop serve everybody, whatever one client does?

import Glibc
import Testing
import XenStoreTypes

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct LoopTests {
    let directory = TestDirectory()
    let daemon: DaemonThread

    init() throws {
        var options = testOptions(directory)
        options.sockets.append(SocketOptions(path: directory / "socket_ro", readOnly: true))
        daemon = try DaemonThread(options)
    }

    func client(_ name: String = "socket") throws -> RawClient { try RawClient(directory / name) }

    /// The root node's permissions: a request that changes nothing.
    func expectServed(_ client: RawClient, sourceLocation: SourceLocation = #_sourceLocation) {
        let reply = client.ask(.getPermissions, "/\0", id: 77)
        #expect(
            reply == RawReply(type: 3, requestID: 77, payload: Array("n0\0".utf8)),
            sourceLocation: sourceLocation)
    }

    @Test func `a request is answered`() throws {
        defer { daemon.stop() }
        expectServed(try client())
    }

    @Test func `the read-only socket refuses changes`() throws {
        defer { daemon.stop() }
        let reply = try client("socket_ro").ask(.write, "/a\0x")
        #expect(reply?.text == "EROFS\0")
        #expect(try client().ask(.write, "/a\0x")?.text == "OK\0")
    }

    @Test func `requests of one write are answered in order`() throws {
        defer { daemon.stop() }
        let client = try client()
        client.send((0..<500).flatMap { RawClient.message(.getPermissions, "/\0", id: $0) })
        for id in 0..<500 { #expect(client.reply()?.requestID == UInt32(id)) }
    }

    @Test func `a request may come byte by byte`() throws {
        defer { daemon.stop() }
        let client = try client()
        for byte in RawClient.message(.getPermissions, "/\0", id: 9) {
            client.send([byte])
            usleep(200)
        }
        #expect(client.reply()?.requestID == 9)
    }

    @Test func `half messages delay nobody`() throws {
        defer { daemon.stop() }
        let whole = RawClient.message(.getPermissions, "/\0")
        let halves = try [3, 16, 17].map { length in
            let client = try client()
            client.send(Array(whole[..<length]))
            return client
        }
        expectServed(try client())
        for (half, length) in zip(halves, [3, 16, 17]) {
            half.send(Array(whole[length...]))
            #expect(half.reply()?.text == "n0\0")
        }
    }

    @Test func `vanishing in the middle of a message costs nobody anything`() throws {
        defer { daemon.stop() }
        let bystander = try client()
        for _ in 0..<50 {
            let half = try client()
            half.send(RawClient.message(.write, "/a\0", length: 4000))
        }
        expectServed(bystander)
        expectServed(try client())
    }

    @Test func `a payload of 4097 bytes closes the socket at once`() throws {
        defer { daemon.stop() }
        let bystander = try client()
        let broken = try client()
        broken.send(RawClient.message(.write, "/a\0", length: 4097))
        #expect(broken.isClosed())
        expectServed(bystander)
    }

    @Test func `who closes its sending side gets its replies`() throws {
        defer { daemon.stop() }
        let client = try client()
        client.send((0..<100).flatMap { RawClient.message(.getPermissions, "/\0", id: $0) })
        shutdown(client.descriptor, Int32(SHUT_WR))
        for id in 0..<100 { #expect(client.reply()?.requestID == UInt32(id)) }
        #expect(client.isClosed())
    }

    @Test func `slots that are used again confuse nobody`() throws {
        defer { daemon.stop() }
        let bystander = try client()
        for round in 0..<200 {
            let short = try client()
            short.send(RawClient.message(.getPermissions, "/\0"))
            if round % 3 == 0 { expectServed(bystander) }
        }
        expectServed(bystander)
    }

    @Test func `a client that does not read is not read from, and keeps its replies`() throws {
        defer { daemon.stop() }
        let slow = try client()
        let value = String(repeating: "v", count: 2000)
        #expect(slow.ask(.write, "/slow\0" + value)?.text == "OK\0")
        let request = RawClient.message(.read, "/slow\0")
        let many = (0..<500).flatMap { _ in request }
        var sent = 0
        // The daemon stops reading long before this much is taken: its replies would be 100 times that.
        while sent < 8 << 20 {
            let count = slow.sendSome(Array(many[(sent % request.count)...]))
            sent += count
            if count == 0 {
                usleep(20_000)
                if slow.sendSome([request[sent % request.count]]) == 0 { break }
                sent += 1
            }
        }
        #expect(sent < 8 << 20)
        let other = try client()
        for _ in 0..<20 { expectServed(other) }

        let complete = sent / request.count
        #expect(complete > 50)
        for _ in 0..<complete {
            guard let reply = slow.reply() else {
                Issue.record("a reply is missing")
                return
            }
            #expect(reply.payload.count == 2000)
        }
    }

    @Test func `a change reaches those who watch it`() throws {
        defer { daemon.stop() }
        let watcher = try client()
        #expect(watcher.ask(.watch, "/seen\0token\0")?.text == "OK\0")
        #expect(watcher.reply()?.text == "/seen\0token\0")
        #expect(try client().ask(.write, "/seen/it\0x")?.text == "OK\0")
        #expect(watcher.reply() == RawReply(type: 15, requestID: 0, payload: Array("/seen/it\0token\0".utf8)))
    }

    @Test func `a request that must wait is carried out when its time has come, though nothing else happens`()
        throws
    {
        defer { daemon.stop() }
        let (victim, writer) = (try client(), try client())
        func start() -> UInt32 {
            UInt32(victim.ask(.transactionStart, "\0")?.text.dropLast() ?? "") ?? 0
        }
        var waited: UInt64 = 0
        // On a busy machine the time may be over before the writer asks; the next one comes 0.2 s later.
        for _ in 0..<20 where waited <= 5_000_000 {
            usleep(250_000)
            // Two conflicts give the third transaction the node for 20 ms (specification, section C).
            for _ in 0..<2 {
                let transaction = start()
                #expect(victim.ask(.write, "/fought\0a", transaction: transaction)?.text == "OK\0")
                #expect(writer.ask(.write, "/fought\0b")?.text == "OK\0")
                _ = victim.ask(.transactionEnd, "T\0", transaction: transaction)
            }
            let third = start()
            #expect(victim.ask(.write, "/fought\0c", transaction: third)?.text == "OK\0")
            let before = monotonicNow()
            #expect(writer.ask(.write, "/fought\0d")?.text == "OK\0")
            waited = monotonicNow() - before
            _ = victim.ask(.transactionEnd, "F\0", transaction: third)
        }
        #expect(waited > 5_000_000 && waited < 2_000_000_000)
    }

    @Test func `two pipelining clients share the loop`() throws {
        defer { daemon.stop() }
        let clients = try [client(), client()]
        let batch = (0..<2000).flatMap { RawClient.message(.getPermissions, "/\0", id: $0) }
        for client in clients { client.send(batch) }
        for client in clients {
            for id in 0..<2000 { #expect(client.reply()?.requestID == UInt32(id)) }
        }
    }

    @Test func `who never reads its events is closed when too much is unsent`() throws {
        daemon.stop()
        var options = testOptions(directory)
        options.server.socketOutputMax = 1 << 20
        let daemon = try DaemonThread(options)
        defer { daemon.stop() }
        let (deaf, writer) = (try client(), try client())
        let token = String(repeating: "t", count: 1000)
        #expect(deaf.ask(.watch, "/many\0\(token)\0")?.text == "OK\0")
        for number in 0..<2500 { #expect(writer.ask(.write, "/many/\(number)\0")?.text == "OK\0") }
        var events = 0
        while deaf.reply() != nil { events += 1 }
        #expect(events > 20 && events < 2500)
        #expect(deaf.isClosed())
        expectServed(writer)
    }

    @Test func `stopping closes the connections and removes the sockets`() throws {
        let client = try client()
        expectServed(client)
        daemon.stop()
        #expect(client.isClosed())
        #expect(access(directory / "socket", F_OK) != 0)
        #expect(access(directory / "socket_ro", F_OK) != 0)
        daemon.stop()
    }
}
