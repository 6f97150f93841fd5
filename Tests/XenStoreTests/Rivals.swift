// Clients that meet, and servers where they do: nobody may do anything at `/`.

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

/// A server, and the world that keeps what it logs.
func makeServer(_ adjust: (inout ServerConfiguration) -> Void = { _ in }) -> (Server, TestWorld) {
    let world = TestWorld()
    var configuration = ServerConfiguration()
    configuration.hashSeed = (3, 4)
    adjust(&configuration)
    return (Server(configuration, world: world), world)
}

extension Client {
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
