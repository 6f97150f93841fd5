// Are trees of any shape created, listed and removed, and their paths found again?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

private func makeServer() -> Server {
    var configuration = ServerConfiguration()
    configuration.hashSeed = (5, 6)
    return Server(configuration, world: TestWorld())
}

extension Client {
    fileprivate func begin() throws -> UInt32 {
        let number = try #require(request(.transactionStart, [""])).strings[0]
        return try #require(UInt32(number))
    }
}

@Suite struct TreeTests {
    /// 1500 levels, as deep as a path can be; nothing recurses. With and without somebody who still sees it.
    @Test(arguments: [false, true]) func deepTreeIsRemoved(isSeen: Bool) throws {
        let server = makeServer()
        let (client, other) = (Client(server, domain: 0), Client(server, domain: 0))
        let before = server.nodeCount
        let path = String(repeating: "/a", count: 1500)
        #expect(client.request(.makeDirectory, [path])?.strings == ["OK"])
        #expect(server.nodeCount == before + 1500)
        let transaction = isSeen ? try other.begin() : 0
        #expect(client.request(.remove, ["/a"])?.strings == ["OK"])
        #expect(server.nodeCount == before)
        #expect(client.request(.read, [path])?.errorName == "ENOENT")
        #expect(server.checkInvariants() == 0)
        if isSeen {
            #expect(server.tree.nodes.count == before + 1500)
            #expect(other.request(.read, [path], transaction: transaction)?.payload == [])
            #expect(other.request(.transactionEnd, ["F"], transaction: transaction)?.strings == ["OK"])
        }
        #expect(server.tree.nodes.count == before)
        #expect(server.tree.keptBytes == 0)
        #expect(server.checkInvariants() == 0)
    }

    /// The same within a transaction, which creates and removes it.
    @Test func deepTreeInATransaction() throws {
        let server = makeServer()
        let client = Client(server, domain: 0)
        let before = server.nodeCount
        let path = String(repeating: "/a", count: 1500)
        for isCommitted in [false, true] {
            var transaction = try client.begin()
            #expect(client.request(.makeDirectory, [path], transaction: transaction)?.strings == ["OK"])
            #expect(client.request(.remove, ["/a/a"], transaction: transaction)?.strings == ["OK"])
            #expect(client.request(.read, [path], transaction: transaction)?.errorName == "ENOENT")
            #expect(client.request(.makeDirectory, [path], transaction: transaction)?.strings == ["OK"])
            let word = isCommitted ? "T" : "F"
            #expect(client.request(.transactionEnd, [word], transaction: transaction)?.strings == ["OK"])
            #expect(server.nodeCount == before + (isCommitted ? 1500 : 0))
            transaction = try client.begin()
            #expect(client.request(.remove, ["/a"], transaction: transaction)?.strings == ["OK"])
            #expect(client.request(.transactionEnd, ["T"], transaction: transaction)?.strings == ["OK"])
            #expect(server.nodeCount == before && server.tree.nodes.count == before)
            #expect(server.checkInvariants() == 0)
        }
    }

    @Test(arguments: [false, true]) func wideTreeIsRemoved(isSeen: Bool) throws {
        let server = makeServer()
        let (client, other) = (Client(server, domain: 0), Client(server, domain: 0))
        let before = server.nodeCount
        for number in 0..<5000 { client.send(Message(.write, Array("/w/\(number)\0v".utf8)).bytes) }
        #expect(client.drain().allSatisfy { $0.errorName == nil })
        #expect(server.nodeCount == before + 5001)
        let transaction = isSeen ? try other.begin() : 0
        // From the middle first.
        #expect(client.request(.remove, ["/w/2500"])?.strings == ["OK"])
        #expect(client.request(.remove, ["/w"])?.strings == ["OK"])
        #expect(server.nodeCount == before)
        if isSeen {
            let last = other.request(.read, ["/w/4999"], transaction: transaction)
            #expect(last?.payload == Array("v".utf8))
            #expect(server.tree.keptBytes > 5000 * 48)
            #expect(other.request(.transactionEnd, ["T"], transaction: transaction)?.strings == ["OK"])
        }
        #expect(server.tree.nodes.count == before && server.tree.keptBytes == 0)
        #expect(server.checkInvariants() == 0)
    }

    /// Leaves come before their parents, and siblings in the order in which they were created.
    @Test func leavesComeFirst() {
        let server = makeServer()
        let client = Client(server, domain: 0)
        for path in ["/r/b/x", "/r/a", "/r/b/w", "/r/c/y/z", "/q"] {
            _ = client.request(.makeDirectory, [path])
        }
        let path = server.path
        #expect(path.refusal("/r") == nil)
        let top = server.tree.find(path, 1, at: live)
        var order: [String] = []
        server.tree.forEachFromLeaves(top) { node in
            var text: [UInt8] = []
            server.tree.appendPath(node, to: &text)
            order.append(String(decoding: text, as: UTF8.self))
        }
        #expect(order == ["/r/b/x", "/r/b/w", "/r/b", "/r/a", "/r/c/y/z", "/r/c/y", "/r/c", "/r"])
    }

    @Test func nearestIsTheLowestThatExists() {
        let server = makeServer()
        let client = Client(server, domain: 0)
        _ = client.request(.makeDirectory, ["/n/m"])
        let path = server.path
        for (name, level) in [("/n/m", 2), ("/n/m/x/y", 2), ("/n/x/m", 1), ("/x/m", 0), ("/", 0)] {
            #expect(path.refusal(name) == nil)
            let found = server.tree.nearest(path, at: live)
            #expect(found.level == level && found.node == server.tree.find(path, level, at: live), "\(name)")
        }
        #expect(path.refusal("@nobody", allowSpecial: true) == nil)
        #expect(server.tree.nearest(path, at: live) == (0, 0))
    }
}
