// Who gives way when open transactions keep too much (specification, section C)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct SnapshotLimitTests {
    private let count = 40
    private let limit = 40_000

    private func fill(_ test: TestServer, _ letter: String) {
        for number in 0..<count {
            let value = String(repeating: letter, count: 2000)
            #expect(test.control.write("/n/\(number)", value)?.outcome == "OK")
            #expect(test.server.tree.keptBytes <= limit)
        }
    }

    private func isDoomed(_ client: Client, _ number: UInt32) -> Bool {
        let transactions = client.server.transactions
        return transactions.table[transactions.find(client.id.rawValue, number)].isDoomed
    }

    /// Oldest first, unprivileged before privileged, and no more than are needed.
    @Test func orderOfDoom() throws {
        let test = TestServer { $0.snapshotMemory = limit }
        let (first, second) = (Client(test.server, domain: 0), Client(test.server, domain: 0))
        let (guest, user) = (test.ring(3), Client(test.server, .user(9)))
        let value = String(repeating: "v", count: 2000)
        // Five nodes each, 2048 bytes a version: what four of them keep is too much.
        func change(_ directory: String) {
            for number in 0..<5 {
                #expect(test.control.write("/\(directory)/\(number)", value)?.outcome == "OK")
            }
        }
        for directory in ["n", "o", "p", "q"] { change(directory) }
        let clients = [first, guest, second, user]
        var ids: [UInt32] = []
        var order: [[Int]] = []
        func noteDoomed() {
            let doomed = clients.indices.filter { $0 < ids.count && isDoomed(clients[$0], ids[$0]) }
            order.append(doomed.filter { !order.joined().contains($0) })
        }
        for client in clients {
            ids.append(try client.start())
            // A version that this snapshot alone sees.
            change("n")
            noteDoomed()
        }
        #expect(order == [[], [], [], [1]])
        for directory in ["o", "p", "q"] {
            change(directory)
            noteDoomed()
        }
        #expect(order.dropFirst(4) == [[3], [0], [2]])
        let lines = test.takeWarnings().filter { $0.hasSuffix("will end in EAGAIN") }
        #expect(lines.count == 4 && lines[0].contains("domain 3") && lines[1].contains("user 9"))
        #expect(test.server.tree.keptBytes == 0 && test.server.tree.versions.count == 0)
        for (client, id) in zip(clients, ids) { #expect(client.end(id) == "EAGAIN") }
        #expect(test.server.checkInvariants() == 0)
    }

    /// Inside, the live tree is seen and nothing is changed; F ends it well.
    @Test(arguments: ["T", "F"]) func doomedTransaction(word: String) throws {
        let test = TestServer { $0.snapshotMemory = limit }
        let guest = test.ring(3)
        fill(test, "a")
        _ = guest.write("/mine", "before")
        let id = try guest.start()
        _ = guest.write("/mine", "inside", transaction: id)
        fill(test, "b")
        #expect(isDoomed(guest, id))
        #expect(guest.read("/n/0", transaction: id)?.first == "b")
        #expect(guest.read("/mine", transaction: id) == "before")
        for _ in 0..<2 {
            #expect(guest.write("/mine", "later", transaction: id)?.outcome == "OK")
            #expect(guest.write("/new", transaction: id)?.outcome == "OK")
            #expect(guest.request(.remove, ["/mine"], transaction: id)?.outcome == "OK")
            #expect(guest.request(.setPermissions, ["/mine", "r3"], transaction: id)?.outcome == "OK")
        }
        #expect(guest.read("/new", transaction: id) == "ENOENT")
        // What is wrong is still wrong.
        #expect(guest.write("//", transaction: id)?.errorName == "EINVAL")
        #expect(guest.write("/tool/x", "x", transaction: id)?.errorName == "EACCES")
        #expect(guest.end(id, word) == (word == "T" ? "EAGAIN" : "OK"))
        #expect(guest.read("/mine") == "before")
        #expect(guest.read("/new") == "ENOENT")
        #expect(guest.request(.getPermissions, ["/mine"])?.outcome == "b3")
        #expect(test.server.checkInvariants() == 0)
    }

    /// One without a write ends in EAGAIN too: what it read was not of one moment.
    @Test func doomedReader() throws {
        let test = TestServer { $0.snapshotMemory = limit }
        let guest = test.ring(3)
        fill(test, "a")
        let id = try guest.start()
        _ = guest.read("/n/0", transaction: id)
        fill(test, "b")
        #expect(guest.end(id) == "EAGAIN")
    }
}
