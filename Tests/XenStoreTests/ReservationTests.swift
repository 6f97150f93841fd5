// Who waits for whose reservation, for how long, and what ends it (specification, section C)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct ReservationTests {
    /// `client` reads /n and writes /out in a transaction, while `rival` writes /n. Answers the commit's.
    private func lose(_ client: Client, _ rival: Client) throws -> String? {
        let id = try client.start()
        _ = client.read("/n", transaction: id)
        _ = client.write("/out", transaction: id)
        #expect(rival.write("/n")?.outcome == "OK")
        return client.end(id)
    }

    /// The client's third transaction has a reservation, and has read /n.
    private func reserve(_ client: Client, _ rival: Client) throws -> UInt32 {
        _ = rival.write("/n")
        for _ in 0..<2 { #expect(try lose(client, rival) == "EAGAIN") }
        let id = try client.start()
        #expect(client.read("/n", transaction: id) == "x")
        return id
    }

    @Test func oneConflictEarnsNone() throws {
        let test = TestServer()
        let rival = test.ring(3)
        #expect(rival.write("/n")?.outcome == "OK")
        #expect(try lose(test.control, rival) == "EAGAIN")
        #expect(try lose(test.control, rival) == "EAGAIN")
        let id = try test.control.start()
        #expect(test.server.transactions.holder != 0)
        #expect(test.control.end(id) == "OK")
        // A commit ends the row.
        #expect(try lose(test.control, rival) == "EAGAIN")
        #expect(try lose(test.control, Client(test.server, domain: 0)) == "EAGAIN")
        #expect(test.server.transactions.holder == 0)
    }

    /// A writer who hammers, and a transaction that takes 12 ms: after two EAGAINs it commits, no write waits
    /// over 20 ms, and all the waiting is at most a tenth of the time.
    @Test(arguments: [12, 30] as [UInt64]) func hammeringWriterWaitsALittle(duration: UInt64) throws {
        let test = TestServer()
        let (client, rival) = (test.ring(1), test.ring(2))
        _ = test.control.write("/n")
        for path in ["/n", "/"] { _ = test.control.request(.setPermissions, [path, "b0"]) }
        let begin = test.now
        var (outcomes, waitedTotal, waitedMost): ([String], UInt64, UInt64) = ([], 0, 0)
        var (transaction, startedAt): (UInt32, UInt64) = (0, 0)
        var waitsSince: UInt64?
        for _ in 0..<4000 {
            test.pass(millisecond)
            if transaction == 0 {
                transaction = try client.start()
                startedAt = test.now
                _ = client.read("/n", transaction: transaction)
                _ = client.write("/out", transaction: transaction)
            } else if test.now - startedAt >= duration * millisecond {
                outcomes.append(try #require(client.end(transaction)))
                transaction = 0
            }
            if waitsSince == nil { rival.send(Message.write("/n", "h").bytes) }
            let isAnswered = rival.reply() != nil
            if let since = waitsSince, isAnswered {
                waitedMost = max(waitedMost, test.now - since)
                waitedTotal += test.now - since
            }
            if !isAnswered { waitsSince = waitsSince ?? test.now } else { waitsSince = nil }
        }
        #expect(waitedMost <= 20 * millisecond && waitedMost >= 10 * millisecond)
        #expect(waitedTotal <= (test.now - begin) / 10 + 20 * millisecond)
        // What takes longer than a reservation lasts does not commit beside such a writer.
        #expect(Array(outcomes.prefix(3)) == ["EAGAIN", "EAGAIN", duration < 20 ? "OK" : "EAGAIN"])
        #expect(outcomes.count { $0 == "OK" } > 10 || duration > 20)
        #expect(test.server.checkInvariants() == 0)
    }

    /// Its own connection gets in its way: it is carried out at once, and nobody waits any longer.
    @Test func ownConnectionIsNotHeld() throws {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        let id = try reserve(client, test.control)
        #expect(test.control.write("/n", "later") == nil)
        #expect(client.write("/n", "own")?.outcome == "OK")
        #expect(test.control.reply()?.outcome == "OK")
        #expect(client.read("/n") == "later")
        #expect(client.read("/n", transaction: id) == "x")
        _ = client.write("/out", transaction: id)
        #expect(client.end(id) == "EAGAIN")
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func whatItDidNotTouchDoesNotWait() throws {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        let id = try reserve(client, test.control)
        for path in ["/m", "/n/below", "/out/below"] {
            #expect(test.control.write(path)?.outcome == "OK", "\(path)")
        }
        #expect(test.control.read("/n") == "x")
        #expect(test.control.request(.remove, ["/n"]) == nil)
        // All behind it waits too, in its order.
        #expect(test.control.write("/elsewhere") == nil)
        #expect(!test.server.wantsInput(test.control.id))
        #expect(client.end(id, "F") == "OK")
        #expect(test.control.reply()?.outcome == "OK" && test.control.reply()?.outcome == "OK")
        #expect(test.control.read("/n") == "ENOENT")
    }

    /// What changes before it is touched is seen as changed, and is no conflict.
    /// Waiting would tell a guest that somebody has an eye on a node that it may not see.
    @Test func whoWillBeRefusedDoesNotWait() throws {
        let test = TestServer()
        _ = test.control.write("/n")
        _ = test.control.request(.setPermissions, ["/n", "n0"])
        let id = try reserve(test.control, Client(test.server, domain: 0))
        let stranger = test.ring(7)
        #expect(stranger.write("/n")?.outcome == "EACCES")
        #expect(stranger.request(.remove, ["/n"])?.errorName == "EACCES")
        #expect(stranger.request(.setPermissions, ["/n", "n7"])?.errorName == "EACCES")
        let reader = Client(test.server, domain: 0, readOnly: true)
        #expect(reader.write("/n")?.outcome == "EROFS")
        #expect(Client(test.server, domain: 0).write("/n") == nil, "who may change it waits")
        #expect(test.control.end(id) == "OK")
    }

    @Test func snapshotMovesUntilItIsTouched() throws {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        let id = try reserve(client, test.control)
        #expect(test.control.write("/late", "one")?.outcome == "OK")
        #expect(client.read("/late", transaction: id) == "one")
        #expect(test.control.write("/late", "two") == nil)
        _ = client.write("/out", transaction: id)
        #expect(client.end(id) == "OK")
        #expect(client.read("/late") == "two")
    }

    /// The commit of another's transaction waits, and is then judged anew.
    @Test(arguments: [true, false]) func commitOfAnotherWaits(holderChanges: Bool) throws {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        let id = try reserve(client, test.control)
        let rival = try test.control.start()
        _ = test.control.write("/n", "rival", transaction: rival)
        #expect(test.control.end(rival) == nil)
        if holderChanges { _ = client.write("/n", "holder", transaction: id) }
        #expect(client.end(id) == "OK")
        #expect(test.control.reply()?.outcome == (holderChanges ? "EAGAIN" : "OK"))
        #expect(client.read("/n") == (holderChanges ? "holder" : "rival"))
        #expect(test.server.checkInvariants() == 0)
    }

    @Test func commitThatWaitsGoesWithItsConnection() throws {
        let test = TestServer()
        let (client, rival) = (Client(test.server, domain: 0), Client(test.server, domain: 0))
        let id = try reserve(client, test.control)
        let lost = try rival.start()
        _ = rival.write("/n", "rival", transaction: lost)
        #expect(rival.end(lost) == nil)
        rival.close()
        // Its number is another's now, who waits for nothing.
        let newcomer = Client(test.server, domain: 0)
        #expect(newcomer.id == rival.id)
        #expect(test.server.checkInvariants() == 0)
        #expect(newcomer.write("/elsewhere")?.outcome == "OK")
        _ = client.write("/out", transaction: id)
        #expect(client.end(id) == "OK")
        #expect(client.read("/n") == "x")
        #expect(test.server.checkInvariants() == 0)
    }

    /// Its owner's RESET_WATCHES drops it.
    @Test func resetEndsIt() throws {
        let test = TestServer()
        let client = Client(test.server, domain: 0)
        _ = try reserve(client, test.control)
        #expect(test.control.write("/n", "later") == nil)
        #expect(client.request(.resetWatches, [""])?.outcome == "OK")
        #expect(test.control.reply()?.outcome == "OK")
    }

    /// Doomed for what is kept for it, it makes nobody wait any longer.
    @Test func doomEndsIt() throws {
        let test = TestServer { $0.snapshotMemory = 20_000 }
        let (client, waiting) = (Client(test.server, domain: 0), Client(test.server, domain: 0))
        let big = String(repeating: "v", count: 4000)
        for number in 0..<10 { _ = test.control.write("/big/\(number)", big) }
        let id = try reserve(client, test.control)
        #expect(waiting.write("/n", "later") == nil)
        var number = 0
        while test.server.transactions.holder != 0, number < 10 {
            test.control.send(Message.write("/big/\(number)", "y").bytes)
            number += 1
        }
        #expect(test.takeWarnings().contains { $0.contains("EAGAIN") })
        #expect(test.server.checkInvariants() == 0)
        #expect(waiting.reply()?.outcome == "OK")
        #expect(client.end(id) == "EAGAIN")
    }

    /// The domain that has had one for 10 ms gets the next after 90 ms more, whichever connection asks.
    @Test func pauseIsNineTimesAsLong() throws {
        let test = TestServer()
        let (client, other) = (test.ring(1), test.ring(1))
        _ = test.control.write("/n")
        _ = test.control.request(.setPermissions, ["/n", "b0"])
        for each in [client, other] {
            for _ in 0..<2 { #expect(try lose(each, test.control) == "EAGAIN") }
        }
        let id = try client.start()
        test.pass(10 * millisecond)
        #expect(test.server.transactions.holder != 0)
        _ = client.write("/out", transaction: id)
        #expect(client.end(id) == "OK")
        test.pass(89 * millisecond)
        #expect(try lose(other, test.control) == "EAGAIN")
        test.pass(millisecond)
        let late = try other.start()
        #expect(test.server.transactions.holder != 0)
        #expect(other.end(late, "F") == "OK")
    }
}
