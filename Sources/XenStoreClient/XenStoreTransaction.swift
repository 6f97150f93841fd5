// Transactions (specification, section C).

public import XenStoreTypes

/// One attempt of `XenStoreClient.withTransaction`: what is done through it is done at its end, or not at
/// all.
///
/// It can be used by several tasks, until the closure that got it returns. After that every call throws
/// `.transactionEnded`.
public final class XenStoreTransaction: NodeAccess {
    let client: XenStoreClient
    private let id: UInt32
    private let hasEnded = Locked(false)

    init(_ client: XenStoreClient, id: UInt32) {
        self.client = client
        self.id = id
    }

    public func request(_ type: MessageType, path: String?, _ payload: [UInt8]) async throws -> [UInt8] {
        if hasEnded.with({ $0 }) { throw XenStoreError(.transactionEnded, type, path: path) }
        return try await client.connection.ask(type, payload, transaction: id, path: path)
    }

    /// False: it was in conflict with a change of somebody else, and nothing of it was done.
    func commit() async throws -> Bool {
        hasEnded.with { $0 = true }
        do {
            _ = try await client.connection.ask(
                .transactionEnd, Array("T\0".utf8), transaction: id, path: nil)
            return true
        } catch let error as XenStoreError where error.errorName == .again {
            return false
        }
    }

    /// Nothing of it is done. Requests that are made from now on find it gone.
    func abort() {
        hasEnded.with { $0 = true }
        client.abort(id)
    }
}

extension XenStoreClient {
    /// Carries out `body` in a transaction and commits it; again from the start, in a new one, if the commit
    /// is in conflict with somebody else's change (EAGAIN), at most `attempts` times in all.
    ///
    /// `body` sees the tree as it was at its beginning and its own changes. It must bear being called again.
    ///
    /// What `body` throws ends the transaction without a change and is thrown on, and so is a cancellation
    /// until the commit is sent. A task that is cancelled after that gets `CancellationError` too, and does
    /// not learn whether the commit took place. Throws EAGAIN (`XenStoreError.errorName`) after the last
    /// attempt.
    public nonisolated(nonsending) func withTransaction<Result>(
        attempts: Int = 100,
        _ body: nonisolated(nonsending) (XenStoreTransaction) async throws -> Result
    ) async throws -> Result {
        for _ in 0..<max(1, attempts) {
            let transaction = try await start()
            let result: Result
            do {
                result = try await body(transaction)
                try Task.checkCancellation()
            } catch {
                transaction.abort()
                throw error
            }
            if try await transaction.commit() { return result }
        }
        throw XenStoreError(.refused(.again), .transactionEnd)
    }

    private func start() async throws -> XenStoreTransaction {
        let reply = try await connection.ask(.transactionStart, [0], path: nil) { [connection] reply in
            if let id = XenStoreClient.number(reply, as: UInt32.self) { connection.abort(id) }
        }
        let id: UInt32 = try number(reply, .transactionStart)
        return XenStoreTransaction(self, id: id)
    }

    fileprivate func abort(_ id: UInt32) { connection.abort(id) }
}

extension Connection {
    fileprivate func abort(_ id: UInt32) {
        submit(.transactionEnd, Array("F\0".utf8), transaction: id, isCleanup: true) { _ in }
    }
}
