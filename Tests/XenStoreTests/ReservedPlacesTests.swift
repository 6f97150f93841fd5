// Does a reservation hold up just those changes that would make its transaction conflict (specification,
// section C)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

/// A request by its type and strings; a value is written without a NUL behind it.
struct Step: CustomTestStringConvertible, Sendable {
    var type: MessageType
    var strings: [String]

    init(_ type: MessageType, _ strings: String...) { (self.type, self.strings) = (type, strings) }

    func message(_ transaction: UInt32 = 0) -> Message {
        if type == .write { return Message.write(strings[0], "new", transaction: transaction) }
        return Message(type, transaction: transaction, [UInt8](strings: strings))
    }

    var testDescription: String { "\(type) \(strings.joined(separator: " "))" }
}

@Suite struct ReservedPlacesTests {
    /// What the transaction does. There are /d, /d/e, /d/e/f and /g before.
    static let own: [Step] = [
        Step(.read, "/d/e"), Step(.read, "/d/x"), Step(.read, "/d/x/y"), Step(.directory, "/d"),
        Step(.directory, "/"), Step(.getPermissions, "/d/e"), Step(.write, "/d/e"), Step(.write, "/d/x"),
        Step(.write, "/d/x/y"), Step(.makeDirectory, "/d/e/x"), Step(.remove, "/d"), Step(.remove, "/d/e"),
        Step(.remove, "/d/x"), Step(.setPermissions, "/d/e", "r0"), Step(.getPermissions, "@releaseDomain"),
    ]

    /// What another does meanwhile. Each changes something.
    static let others: [Step] = [
        Step(.write, "/d"), Step(.write, "/d/e"), Step(.write, "/d/e/f"), Step(.write, "/d/x"),
        Step(.write, "/d/x/y"), Step(.write, "/d/x/z"), Step(.write, "/d/e/x"), Step(.write, "/g"),
        Step(.write, "/h"), Step(.makeDirectory, "/d/e/f/x"), Step(.remove, "/d"), Step(.remove, "/d/e"),
        Step(.remove, "/d/e/f"), Step(.remove, "/g"), Step(.setPermissions, "/d", "w0"),
        Step(.setPermissions, "/d/e", "w0"), Step(.setPermissions, "/", "r0"),
        Step(.setPermissions, "@releaseDomain", "r0"),
    ]

    private func makeServer() throws -> (TestServer, Client) {
        let test = TestServer()
        for path in ["/d/e/f", "/g", "/lost"] { _ = test.control.write(path) }
        return (test, Client(test.server, domain: 0))
    }

    /// Begins a transaction that does one step, and writes elsewhere so that its commit is judged.
    private func begin(_ client: Client, _ step: Step) throws -> UInt32 {
        let id = try client.start()
        let reply = try #require(client.request(step.message(id)))
        #expect(reply.errorName == nil || reply.errorName == "ENOENT")
        #expect(client.write("/lost/out", transaction: id)?.outcome == "OK")
        return id
    }

    private func loseTwice(_ client: Client, _ rival: Client) throws {
        for _ in 0..<2 {
            let id = try client.start()
            _ = client.read("/lost", transaction: id)
            _ = client.write("/lost/x", transaction: id)
            _ = rival.write("/lost")
            #expect(client.end(id) == "EAGAIN")
        }
    }

    /// The outcome of the commit, with nothing reserved.
    private func wouldConflict(_ own: Step, _ other: Step) throws -> Bool {
        let (test, client) = try makeServer()
        let id = try begin(client, own)
        #expect(test.control.request(other.message())?.errorName == nil)
        return client.end(id) == "EAGAIN"
    }

    @Test(arguments: own, others) func waitsIfItWouldConflict(own: Step, other: Step) throws {
        let isConflict = try wouldConflict(own, other)
        for isTransaction in [false, true] {
            let (test, client) = try makeServer()
            try loseTwice(client, test.control)
            let id = try begin(client, own)
            #expect(test.server.transactions.holder != 0)
            var message = other.message()
            if isTransaction {
                let rival = try test.control.start()
                #expect(test.control.request(other.message(rival))?.errorName == nil)
                message = Message(.transactionEnd, transaction: rival, [UInt8](strings: ["T"]))
            }
            let reply = test.control.request(message)
            #expect((reply == nil) == isConflict, "in a transaction: \(isTransaction)")
            // Its snapshot has moved past the other's change.
            #expect(client.write("/lost/later", transaction: id)?.outcome == "OK")
            #expect(client.end(id) == "OK")
            if isConflict { #expect(test.control.reply() != nil) }
            #expect(test.server.reservation.held.isEmpty)
            #expect(test.server.checkInvariants() == 0)
        }
    }
}
