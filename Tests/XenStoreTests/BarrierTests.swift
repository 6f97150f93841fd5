// Does whatever shows a change wait until the store has it for good, and does all else go on (design,
// "Backends")?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

/// A server whose backend takes batches and is long about them; `/a`, `/a/b` and `/other/x` are there, and
/// `/a/secret`, which nobody but the control domain may see.
private final class Stalled {
    let backend = TestBackend()
    let test: TestServer
    let server: Server
    let writer: Client
    let reader: Client

    init() {
        test = TestServer(backend: backend)
        server = test.server
        writer = Client(server, domain: 0)
        reader = test.ring(3)
        for path in ["/a/b", "/other/x", "/a/secret"] { _ = ask(writer, .write(path, "old")) }
        for path in ["/a", "/a/b", "/other", "/other/x"] { _ = ask(writer, .setPermissions, [path, "b0"]) }
        backend.mode = .submitted
    }

    /// What the peer has when the turn is over; nil: it waits.
    func ask(_ client: Client, _ message: Message) -> Message? {
        client.send(message.bytes)
        server.commit()
        return client.reply()
    }

    func ask(
        _ client: Client, _ type: MessageType, _ strings: [String], transaction: UInt32 = 0
    ) -> Message? {
        ask(client, Message(type, requestID: 4, transaction: transaction, [UInt8](strings: strings)))
    }

    func finish() { server.committed(backend.complete()) }
}

@Suite struct BarrierTests {
    @Test func unrelatedRequestsGoOn() throws {
        let it = Stalled()
        let start = try #require(it.ask(it.reader, .transactionStart, [""])?.strings.first)
        let id = try #require(UInt32(start))
        #expect(it.ask(it.writer, .write("/a/b", "new")) == nil)
        #expect(it.ask(it.reader, .read, ["/other/x"])?.payload == Array("old".utf8))
        #expect(it.ask(it.reader, .directory, ["/other"])?.strings == ["x"])
        #expect(it.ask(it.reader, .directoryPart, ["/other", "0"])?.strings.dropFirst() == ["x", ""])
        #expect(it.ask(it.reader, .getPermissions, ["/other/x"])?.strings == ["b0"])
        #expect(it.ask(it.reader, .read, ["/other/none"])?.errorName == "ENOENT")
        #expect(it.ask(it.reader, .read, ["/other/x"], transaction: id)?.payload == Array("old".utf8))
        // The transaction began before the change.
        #expect(it.ask(it.reader, .read, ["/other"], transaction: id)?.errorName == nil)
        #expect(it.ask(it.reader, .transactionEnd, ["T"], transaction: id)?.strings == ["OK"])
        #expect(it.ask(it.reader, .watch, ["/other", "t"])?.strings == ["OK"])
        #expect(it.reader.takeEvents().map(\.strings) == [["/other", "t"]])
        #expect(it.ask(it.reader, .unwatch, ["/other", "t"])?.strings == ["OK"])
        #expect(it.ask(it.reader, .getDomainPath, ["3"])?.strings == ["/local/domain/3"])
        let control = Client(it.server, domain: 0)
        #expect(it.ask(control, .control, ["check"])?.strings == ["OK"])
        #expect(it.ask(control, .getQuota, ["nodes"])?.strings == ["1000"])
        #expect(it.writer.reply() == nil)
        it.finish()
        #expect(it.writer.reply()?.strings == ["OK"])
        #expect(it.server.checkInvariants() == 0)
    }

    /// A change, and how somebody could see it.
    static let changes: [(type: MessageType, change: [String])] = [
        (.write, ["/a/b"]), (.makeDirectory, ["/a/c"]), (.remove, ["/a/b"]),
        (.setPermissions, ["/a/b", "n0"]),
    ]

    @Test(arguments: 0..<4) func whatShowsAChangeWaits(number: Int) throws {
        let looks: [[(MessageType, [String], String)]] = [
            [(.read, ["/a/b"], "")],
            [(.read, ["/a/c"], ""), (.directory, ["/a"], "b|secret|c"), (.getPermissions, ["/a/c"], "b0")],
            [(.read, ["/a/b"], "ENOENT"), (.directory, ["/a"], "secret"), (.read, ["/a/b/c"], "ENOENT")],
            [(.getPermissions, ["/a/b"], "EACCES"), (.read, ["/a/b"], "EACCES")],
        ]
        let change = Self.changes[number]
        for (type, strings, expected) in looks[number] {
            for isInTransaction in [false, true] {
                let it = Stalled()
                var payload = [UInt8](strings: change.change)
                if change.type == .write { payload += Array("new".utf8) }
                #expect(it.ask(it.writer, Message(change.type, requestID: 9, payload)) == nil)
                var id: UInt32 = 0
                if isInTransaction {
                    let start = it.ask(it.reader, .transactionStart, [""])?.strings.first
                    id = try #require(start.flatMap { UInt32($0) })
                }
                #expect(it.ask(it.reader, type, strings, transaction: id) == nil, "\(type) \(strings)")
                // What comes behind it in the stream waits, too; others do not.
                #expect(it.ask(it.reader, .read, ["/other/x"]) == nil)
                #expect(it.ask(it.test.ring(4), .read, ["/other/x"])?.payload == Array("old".utf8))
                it.finish()
                let reply = it.reader.reply()
                let found = reply?.errorName ?? reply?.strings.joined(separator: "|")
                if number != 0 { #expect(found == expected) }
                if number == 0 { #expect(reply?.payload == Array("new".utf8)) }
                #expect(it.reader.reply()?.payload == Array("old".utf8))
                #expect(it.server.checkInvariants() == 0)
            }
        }
    }

    @Test func anOlderTransactionSeesTheOldAndDoesNotWait() throws {
        let it = Stalled()
        let start = it.ask(it.reader, .transactionStart, [""])?.strings.first
        let id = try #require(start.flatMap { UInt32($0) })
        #expect(it.ask(it.reader, .write("/other/y", "mine", transaction: id))?.strings == ["OK"])
        #expect(it.ask(it.reader, .read, ["/a/b"], transaction: id)?.payload == Array("old".utf8))
        #expect(it.ask(it.writer, .write("/a/b", "new")) == nil)
        // That it cannot be committed shows the change.
        #expect(it.ask(it.reader, .transactionEnd, ["T"], transaction: id) == nil)
        it.finish()
        #expect(it.reader.reply()?.errorName == "EAGAIN")
    }

    @Test func eventsWaitAndKeepTheirOrder() {
        let it = Stalled()
        _ = it.ask(it.reader, .watch, ["/a", "t"])
        _ = it.reader.takeEvents()
        #expect(it.ask(it.writer, .write("/a/b", "1")) == nil)
        #expect(it.reader.takeEvents().isEmpty)
        #expect(it.ask(it.writer, .write("/a/c", "2")) == nil)
        #expect(it.ask(it.reader, .read, ["/other/x"]) == nil)
        it.server.committed(it.backend.complete(1))
        #expect(it.reader.takeEvents().map { $0.strings[0] } == ["/a/b"])
        #expect(it.writer.reply()?.strings == ["OK"])
        #expect(it.writer.reply() == nil)
        it.finish()
        #expect(it.reader.takeEvents().map { $0.strings[0] } == ["/a/c"])
        #expect(it.reader.reply()?.payload == Array("old".utf8))
        #expect(it.writer.reply()?.strings == ["OK"])
    }

    /// A change that is refused for what another one did: by a node that is there, by a right that is not.
    @Test func refusalsThatShowAChangeWait() {
        let it = Stalled()
        #expect(it.ask(it.writer, .setPermissions, ["/other", "n0"]) == nil)
        #expect(it.ask(it.reader, .write("/other/new", "x")) == nil)
        it.finish()
        #expect(it.reader.reply()?.errorName == "EACCES")
    }

    @Test func whatIsKnownOfADomainWaits() {
        let it = Stalled()
        it.test.world.canIntroduce = true
        #expect(it.ask(it.writer, .introduce, ["7", "1", "1"]) == nil)
        let other = Client(it.server, domain: 0)
        #expect(it.ask(other, .isDomainIntroduced, ["7"]) == nil)
        #expect(it.ask(Client(it.server, domain: 0), .getQuota, ["7", "nodes"]) == nil)
        it.finish()
        #expect(other.reply()?.strings == ["T"])
    }

    @Test func whatPoliciesLookAtIsShownToo() {
        let it = Stalled()
        #expect(it.ask(it.writer, .setPermissions, ["/a/b", "r0"]) == nil)
        // A list of names does not tell of permissions, but one that policies filter by them does.
        #expect(it.ask(it.reader, .directory, ["/a"])?.errorName == nil)
        it.server.setPolicies([
            ScriptedPolicy(decides: .derived(PolicyOperation.listChild, PolicyOperation.removeNode)) {
                asked in
                asked.path == "/a/b" ? .deny(.perm) : .abstain
            }
        ])
        #expect(it.ask(it.reader, .directory, ["/a"]) == nil)
        // That a removal is refused tells that there is something below.
        let other = Client(it.server, domain: 0)
        #expect(it.ask(other, .remove, ["/a"]) == nil)
        it.finish()
        #expect(it.reader.reply()?.strings == ["secret"])
        #expect(other.reply()?.errorName == "EPERM")
    }

    @Test func aStalledStoreCostsNobodyEvents() {
        let it = Stalled()
        _ = it.ask(it.reader, .watch, ["/a", "t"])
        _ = it.reader.takeEvents()
        _ = it.ask(it.writer, .write("/a/b", "1"))
        it.test.pass(60 * second)
        _ = it.ask(it.writer, .write("/a/c", "2"))
        it.finish()
        #expect(it.reader.takeEvents().map { $0.strings[0] } == ["/a/b", "/a/c"])
        #expect(it.server.lostEvents == 0)
    }

    @Test func connectionsThatGoWhileTheyWaitLeaveNothing() {
        let it = Stalled()
        for _ in 0..<10 {
            let client = Client(it.server, domain: 0)
            #expect(it.ask(client, .write("/a/b", "1")) == nil)
            client.close()
        }
        it.finish()
        #expect(it.server.commits.waiting.isEmpty && it.server.commits.onTheWay.isEmpty)
        #expect(it.server.checkInvariants() == 0)
    }
}
