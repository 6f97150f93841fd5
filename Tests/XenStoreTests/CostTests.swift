// Does a request cost no more than what it touches, whatever a guest has built (specification, section K)?
//
// The bounds are far above what is measured, and far below what the cost of each was when it was more.

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite(.serialized) struct CostTests {
    /// A domain's connection, with a node of its own `/gN`.
    private func makeGuest(_ server: Server, _ number: UInt16) -> Client {
        let control = Client(server, domain: 0)
        _ = control.request(.makeDirectory, ["/g\(number)"])
        _ = control.request(.setPermissions, ["/g\(number)", "n\(number)"])
        return Client(server, domain: number)
    }

    private let chain = (1...900).map { String(repeating: "/a", count: $0) }

    @Test func deepPathsInATransactionWithRemovals() throws {
        let (server, _) = makeServer()
        let guest = makeGuest(server, 3)
        _ = guest.write("/g3" + chain[899], "x")
        let id = try guest.start()
        _ = guest.write("/g3/other", "x", transaction: id)
        _ = guest.request(.remove, ["/g3/other"], transaction: id)
        let time = ContinuousClock().measure {
            for _ in 0..<200 {
                let reply = guest.request(.read, ["/g3" + chain[899]], transaction: id)
                #expect(reply?.payload == Array("x".utf8))
            }
        }
        #expect(time < .seconds(1))
    }

    @Test func manyRemovalsBesideADeepReservation() throws {
        let (server, _) = makeServer()
        let (control, holder, rival) = (Client(server, domain: 0), makeGuest(server, 3), makeGuest(server, 4))
        _ = holder.write("/g3" + chain[899], "x")
        for number in 0..<900 { _ = rival.write("/g4/\(number)", "x") }
        let removal = try rival.start()
        for number in 0..<900 { _ = rival.request(.remove, ["/g4/\(number)"], transaction: removal) }
        try holder.loseTwice(to: control, over: "/g3")
        let id = try holder.start()
        for path in chain { _ = holder.request(.read, ["/g3" + path], transaction: id) }
        let time = ContinuousClock().measure {
            #expect(rival.commit(removal)?.strings == ["OK"])
        }
        #expect(time < .seconds(1))
        #expect(control.request(.remove, ["/g3/a/a"]) == nil)
        #expect(server.checkInvariants() == 0)
    }
}
