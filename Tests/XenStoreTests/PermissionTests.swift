// Does anybody learn or hinder what its permissions do not allow (specification, sections A and C)?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct PermissionTests {
    /// Whether its transaction commits must not tell a domain that a node changed which it may not read.
    @Test(arguments: [MessageType.read, .directory, .getPermissions, .remove, .makeDirectory])
    func refusedRequestSpoilsNoTransaction(type: MessageType) throws {
        let (server, _) = makeServer()
        let (control, guest) = (Client(server, domain: 0), Client(server, domain: 3))
        _ = control.write("/secret", "0")
        _ = control.request(.makeDirectory, ["/mine"])
        _ = control.request(.setPermissions, ["/mine", "n3"])
        let id = try guest.start()
        #expect(guest.request(type, ["/secret"], transaction: id)?.errorName == "EACCES")
        #expect(guest.request(type, ["/secret/absent"], transaction: id)?.errorName == "EACCES")
        #expect(guest.write("/mine", "x", transaction: id)?.strings == ["OK"])
        _ = control.write("/secret", "1")
        _ = control.write("/secret/absent", "1")
        #expect(guest.commit(id)?.strings == ["OK"])
    }

    /// A reservation holds nobody up at nodes that its holder may not even read.
    @Test func refusedRequestReservesNothing() throws {
        let (server, _) = makeServer()
        let (control, guest) = (Client(server, domain: 0), Client(server, domain: 3))
        _ = control.write("/secret", "0")
        _ = control.request(.makeDirectory, ["/mine"])
        _ = control.request(.setPermissions, ["/mine", "n3"])
        try guest.loseTwice(to: control, over: "/mine")
        let id = try guest.start()
        #expect(guest.request(.read, ["/secret"], transaction: id)?.errorName == "EACCES")
        #expect(control.write("/secret", "1")?.strings == ["OK"])
        #expect(guest.request(.read, ["/mine"], transaction: id)?.payload == Array("1".utf8))
        #expect(control.write("/mine", "1") == nil)
    }
}
