// Does a reservation keep what it promises, and nothing more (specification, section C)?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct ReservationTests {
    /// A commit that removes a node and creates it anew takes away all below it, and so has to wait for whoever
    /// touched something there.
    @Test func recreationInATransactionWaits() throws {
        let (server, _) = makeServer()
        let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
        _ = rival.write("/a/b", "kept")
        // Somebody's snapshot keeps what is removed from being forgotten.
        _ = try Client(server, domain: 0).start()
        try client.loseTwice(to: rival, over: "/n")
        let other = try rival.start()
        _ = rival.request(.remove, ["/a"], transaction: other)
        _ = rival.write("/a", "new", transaction: other)
        let id = try client.start()
        #expect(client.request(.read, ["/a/b"], transaction: id)?.payload == Array("kept".utf8))
        #expect(rival.commit(other) == nil)
        #expect(client.request(.read, ["/a/b"], transaction: id)?.payload == Array("kept".utf8))
        _ = client.write("/out", "x", transaction: id)
        #expect(client.commit(id)?.strings == ["OK"])
        #expect(rival.reply()?.strings == ["OK"])
        #expect(rival.request(.read, ["/a/b"])?.errorName == "ENOENT")
        #expect(server.checkInvariants() == 0)
    }
}
