// Requests as these tests make them, and servers to make them to.

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

let millisecond: UInt64 = 1_000_000

/// A server, and the world that keeps what it logs.
func makeServer(_ adjust: (inout ServerConfiguration) -> Void = { _ in }) -> (Server, TestWorld) {
    let world = TestWorld()
    var configuration = ServerConfiguration()
    configuration.hashSeed = (3, 4)
    adjust(&configuration)
    return (Server(configuration, world: world), world)
}

extension Client {
    /// Starts a transaction and answers its id.
    func start() throws -> UInt32 {
        let reply = try #require(request(.transactionStart, [""]))
        return try #require(reply.strings.first.flatMap { UInt32($0) })
    }

    func write(_ path: String, _ value: String, transaction: UInt32 = 0) -> Message? {
        request(Message(.write, requestID: 9, transaction: transaction, Client.payload(path, value)))
    }

    static func payload(_ path: String, _ value: String) -> [UInt8] {
        Array(path.utf8) + [0] + Array(value.utf8)
    }

    func commit(_ transaction: UInt32) -> Message? {
        request(.transactionEnd, ["T"], transaction: transaction)
    }

    /// Loses two transactions to `rival`, over a node that both may write: the next one has a reservation.
    func loseTwice(to rival: Client, over path: String) throws {
        for round in 0..<2 {
            let id = try start()
            _ = request(.read, [path], transaction: id)
            _ = write(path, "mine", transaction: id)
            #expect(rival.write(path, "\(round)")?.strings == ["OK"])
            #expect(commit(id)?.errorName == "EAGAIN")
        }
    }
}
