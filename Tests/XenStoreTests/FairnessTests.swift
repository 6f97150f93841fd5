// Does a reservation keep what it promises, and nothing more (specification, section C)?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct FairnessTests {
    /// A commit that removes a node and creates it anew takes away all below it, and so has to wait for
    /// whoever touched something there.
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

    /// What changes nothing does not wait.
    @Test func abortDoesNotWait() throws {
        let (server, _) = makeServer()
        let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
        try client.loseTwice(to: rival, over: "/n")
        let other = try rival.start()
        _ = rival.write("/n", "x", transaction: other)
        let id = try client.start()
        _ = client.request(.read, ["/n"], transaction: id)
        #expect(rival.request(.transactionEnd, ["F"], transaction: other)?.strings == ["OK"])
    }

    /// Whoever waited goes on before anybody can make it wait again.
    @Test func whoeverWaitedIsNotOvertakenByTheNextReservation() throws {
        let (server, _) = makeServer()
        let (control, first, second) = (
            Client(server, domain: 0), Client(server, domain: 1), Client(server, domain: 2)
        )
        _ = control.write("/n", "0")
        _ = control.request(.setPermissions, ["/n", "b0"])
        server.advance(to: 1000 * millisecond)
        try first.loseTwice(to: control, over: "/n")
        try second.loseTwice(to: control, over: "/n")
        let id = try first.start()
        _ = first.request(.read, ["/n"], transaction: id)
        // The second one waits, with the start of its own reservation behind that.
        second.send(
            Message.write("/n", "2", transaction: 0).bytes
                + Message(.transactionStart, [0]).bytes
                + Message(.read, requestID: 1, transaction: 3, Array("/n".utf8) + [0]).bytes)
        #expect(control.write("/n", "1") == nil)
        server.advance(to: 1020 * millisecond)
        #expect(control.reply()?.strings == ["OK"])
        #expect(second.drain().count == 3)
        #expect(server.checkInvariants() == 0)
    }

    /// What a commit creates is as deep as a path can be (XSA-418), below the root or a node that is there.
    @Test(arguments: ["", "/a/b"]) func deepCreationInATransactionWaits(top: String) throws {
        let (server, _) = makeServer()
        let (client, rival) = (Client(server, domain: 0), Client(server, domain: 0))
        _ = rival.request(.makeDirectory, ["/a/b"])
        try client.loseTwice(to: rival, over: "/n")
        let deep = top + String(repeating: "/d", count: 1500)
        let other = try rival.start()
        #expect(rival.write(deep, "x", transaction: other)?.strings == ["OK"])
        let id = try client.start()
        #expect(client.request(.read, [top + "/d"], transaction: id)?.errorName == "ENOENT")
        #expect(rival.commit(other) == nil)
        #expect(client.commit(id)?.strings == ["OK"])
        #expect(rival.reply()?.strings == ["OK"])
        #expect(rival.request(.read, [deep])?.payload == Array("x".utf8))
    }
}
