// SET_TARGET: a device model's domain may do with its guest's nodes what the guest may
// (specification, section A).

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct TargetTests {
    let world = TestWorld(domains: [0, 3, 4, 5])
    let server: Server
    let toolstack: Client

    init() {
        world.canIntroduce = true
        server = Server(ServerConfiguration(), world: world)
        toolstack = Client(server, domain: 0)
        for (path, list) in [("/own", "n3"), ("/named", "n0|r3"), ("/other", "n5")] {
            #expect(toolstack.request(.write, [path], value: "x") == "OK")
            let strings = [path] + list.split(separator: "|").map(String.init)
            #expect(toolstack.ask(.setPermissions, strings) == "OK")
        }
    }

    @Test func rightsAreThoseOfTheTarget() {
        let guest = Client(server, domain: 3)
        let model = Client(server, domain: 4)
        #expect(model.ask(.read, ["/own"]) == "EACCES")
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "OK")
        #expect(model.ask(.read, ["/own"]) == "x")
        #expect(model.ask(.setPermissions, ["/own", "r3"]) == "OK")
        #expect(model.ask(.read, ["/named"]) == "x")
        #expect(model.request(.write, ["/named"], value: "y") == "EACCES")
        #expect(model.ask(.read, ["/other"]) == "EACCES")
        // Not the other way round, and not for others.
        #expect(model.request(.write, ["/own/model"], value: "m") == "OK")
        #expect(guest.ask(.read, ["/own/model"]) == "m", "the list's letter is for everybody else")
        #expect(Client(server, domain: 5).request(.write, ["/own"], value: "z") == "EACCES")
        #expect(server.checkInvariants() == 0)
    }

    @Test func bothMustBeIntroduced() {
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "ENOENT")
        let guest = Client(server, domain: 3)
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "ENOENT")
        #expect(toolstack.ask(.setTarget, ["3", "4"]) == "ENOENT")
        #expect(guest.ask(.setTarget, ["3", "0"]) == "EACCES")
        #expect(toolstack.ask(.setTarget, ["3"]) == "EINVAL")
        #expect(toolstack.ask(.setTarget, ["x", "3"]) == "EINVAL")
        world.canIntroduce = false
        #expect(toolstack.ask(.setTarget, ["3", "0"]) == "EINVAL")
    }

    @Test func aTargetEndsWithTheRing() {
        let guest = Client(server, domain: 3)
        let model = Client(server, domain: 4)
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "OK")
        model.close()
        #expect(Client(server, domain: 4).ask(.read, ["/own"]) == "EACCES")
        #expect(guest.ask(.read, ["/own"]) == "x")
    }

    /// A device model in a domain of its own hears of the end of what its guest owned.
    @Test func aTargetsNodesGoBeforeTheTarget() {
        #expect(toolstack.ask(.introduce, ["3", "1", "3"]) == "OK")
        let model = Client(server, domain: 4)
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "OK")
        #expect(model.ask(.watch, ["/own", "token"]) == "OK")
        _ = model.takeEvents()
        world.domains?[DomainID(3)] = nil
        server.domainsChanged()
        #expect(model.takeEvents().map(\.strings) == [["/own", "token"]])
        #expect(model.ask(.read, ["/named"]) == "EACCES")
        #expect(server.checkInvariants() == 0)
    }

    /// Domain ids are reused: who had a domain for a target has no rights to what the next one owns.
    @Test func aTargetEndsWithTheTargetsRing() {
        let guest = Client(server, domain: 3)
        let model = Client(server, domain: 4)
        #expect(toolstack.ask(.setTarget, ["4", "3"]) == "OK")
        guest.close()
        #expect(Client(server, domain: 3).ask(.read, ["/own"]) == "x")
        #expect(model.ask(.read, ["/own"]) == "EACCES")
        #expect(server.checkInvariants() == 0)
    }
}

extension Client {
    /// The reply's payload without a closing NUL, or the error's name.
    func ask(_ type: MessageType, _ strings: [String], transaction: UInt32 = 0) -> String? {
        request(type, strings, transaction: transaction).map {
            String(decoding: $0.payload.filter { $0 != 0 }, as: UTF8.self)
        }
    }

    /// As `ask`, with bytes behind the strings.
    func request(_ type: MessageType, _ strings: [String], value: String) -> String? {
        let payload = [UInt8](strings: strings) + Array(value.utf8)
        return request(Message(type, requestID: 9, transaction: 0, payload)).map {
            String(decoding: $0.payload.filter { $0 != 0 }, as: UTF8.self)
        }
    }
}
