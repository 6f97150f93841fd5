// Does each quota hold, is what is used counted right, and do refusals tell the truth (specification, section
// E)?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct UsageTests {
    /// A server whose guest 3 owns `/g`.
    private func makeGuest(
        _ adjust: (inout ServerConfiguration) -> Void = { _ in }
    ) -> (server: Server, world: TestWorld, guest: Client) {
        let (server, world) = makeServer(adjust)
        let control = Client(server, domain: 0)
        _ = control.request(.makeDirectory, ["/g"])
        _ = control.request(.setPermissions, ["/g", "n3"])
        return (server, world, Client(server, domain: 3))
    }

    /// A transaction keeps a value of its own beside the node's, however small the difference.
    @Test func memoryQuotaCountsWhatTransactionsKeep() throws {
        let (server, _, guest) = makeGuest { $0.quotas[.memory] = 20_000 }
        let value = String(repeating: "v", count: 1000)
        for number in 0..<8 { #expect(guest.write("/g/\(number)", value)?.strings == ["OK"]) }
        let ids = [try guest.start(), try guest.start()]
        var replies: [String?] = []
        for id in ids {
            for number in 0..<8 {
                replies.append(guest.write("/g/\(number)", value, transaction: id)?.errorName)
            }
        }
        #expect(replies.first == .some(nil) && replies.last == "ENOSPC")
        #expect(server.checkInvariants() == 0)
    }

    /// What is kept for transactions is bounded, names included.
    @Test func keptNamesCount() throws {
        let (server, _, guest) = makeGuest { $0.snapshotMemory = 50_000 }
        let name = String(repeating: "n", count: 1900)
        for number in 0..<40 { #expect(guest.write("/g/\(name)\(number)", "")?.strings == ["OK"]) }
        let id = try guest.start()
        for number in 0..<40 { #expect(guest.request(.remove, ["/g/\(name)\(number)"])?.strings == ["OK"]) }
        _ = guest.write("/g", "x", transaction: id)
        #expect(guest.commit(id)?.errorName == "EAGAIN")
        #expect(guest.takeEvents().isEmpty)
        #expect(server.nodeCount == 6)
    }

    /// A guest that comes and goes over the mark of a quota does not fill the log.
    @Test func warningsOfUseAreRare() {
        let (server, world, guest) = makeGuest { $0.quotas[.watches] = 10 }
        server.advance(to: 1000 * millisecond)
        for number in 0..<6 { _ = guest.request(.watch, ["/g", "\(number)"]) }
        for _ in 0..<100 {
            for token in ["a", "b"] { _ = guest.request(.watch, ["/g", token]) }
            for token in ["a", "b"] { _ = guest.request(.unwatch, ["/g", token]) }
        }
        #expect(world.lines.count == 1)
        server.advance(to: 7000 * millisecond)
        for token in ["a", "b"] { _ = guest.request(.watch, ["/g", token]) }
        #expect(world.lines.count == 2)
    }

    /// The check comes to an end where a special node belongs to a domain that nobody has heard of.
    @Test func invariantsHoldWithAStrangeOwnerOfASpecialNode() {
        let (server, _) = makeServer()
        let control = Client(server, domain: 0)
        #expect(control.request(.setPermissions, ["@releaseDomain", "n7"])?.strings == ["OK"])
        #expect(control.request(.control, ["check"])?.strings == ["OK"])
        #expect(server.checkInvariants() == 0)
    }

    /// The trace shows what is sent, and refusals where it is to.
    @Test func traceShowsWhatIsSent() {
        let (server, world, guest) = makeGuest {
            $0.tracing = [.io, .acc]
            $0.quotas[.nodeSize] = 3
        }
        _ = guest.request(.watch, ["/g", "token"])
        _ = guest.takeEvents()
        world.traced = []
        let writer = Client(server, domain: 0)
        for _ in 0..<3 { _ = writer.write("/g", "x") }
        #expect(world.traced.count { $0.contains("WATCH_EVENT") } == 1)
        for _ in 0..<2 { #expect(guest.write("/g", "long")?.errorName == "ENOSPC") }
        #expect(world.traced.count { $0.contains("node-size") && $0.contains("/g") } == 2)
    }
}
