// Do transactions stay right at the edges (specification, section C)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct TransactionTests {
    /// A guest may create and remove a node in one transaction for days.
    @Test func changesOfATransactionAreNotBounded() throws {
        let (server, _) = makeServer()
        let client = Client(server, domain: 0)
        let id = try client.start()
        server.transactions.table[server.transactions.oldest].sequence = .init(UInt32.max)
        #expect(client.write("/n", "x", transaction: id)?.strings == ["OK"])
        #expect(client.request(.remove, ["/n"], transaction: id)?.strings == ["OK"])
        #expect(client.write("/n", "y", transaction: id)?.strings == ["OK"])
        #expect(client.commit(id)?.strings == ["OK"])
        #expect(client.request(.read, ["/n"])?.payload == Array("y".utf8))
        #expect(server.checkInvariants() == 0)
    }
}
