// Is what a transaction does done as a whole, again after a conflict, and not at all after an error?

import Testing
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct TransactionTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    struct Enough: Error {}

    @Test func `it is seen at its end`() async throws {
        let (client, other) = (try await daemon.client(), try await daemon.client())
        let names = try await client.withTransaction { transaction in
            try await transaction.write("/t/a", "1")
            try await transaction.makeDirectory("/t/b")
            #expect(await failure { _ = try await other.read("/t/a") } == .refused(.noent))
            return try await transaction.list("/t")
        }
        #expect(Set(names) == ["a", "b"])
        #expect(try await other.readString("/t/a") == "1")
    }

    @Test func `an error ends it without a change`() async throws {
        let client = try await daemon.client()
        await #expect(throws: Enough.self) {
            try await client.withTransaction { transaction in
                try await transaction.write("/t", "1")
                throw Enough()
            }
        }
        #expect(await failure { _ = try await client.read("/t") } == .refused(.noent))
    }

    @Test func `a conflict is tried again`() async throws {
        let (client, other) = (try await daemon.client(), try await daemon.client())
        try await client.write("/c", "0")
        var attempts = 0
        try await client.withTransaction { transaction in
            let value = try await transaction.readString("/c")
            if attempts == 0 { try await other.write("/c", "5") }
            attempts += 1
            try await transaction.write("/c", value + "+")
        }
        #expect(attempts == 2)
        #expect(try await client.readString("/c") == "5+")
    }

    @Test func `but not for ever`() async throws {
        let peer = ScriptedPeer { peer in
            while let request = peer.next() {
                if request.type == MessageType.transactionStart.rawValue { peer.reply(request, "9\0") }
                if request.type == MessageType.transactionEnd.rawValue { peer.refuse(request, "EAGAIN") }
            }
        }
        let client = try peer.client()
        var attempts = 0
        let cause = await failure { try await client.withTransaction(attempts: 4) { _ in attempts += 1 } }
        #expect(cause == .refused(.again))
        #expect(attempts == 4)
    }

    @Test func `other refusals of a commit are thrown`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), "9\0")
            peer.refuse(peer.next(), "ENOSPC")
        }
        let client = try peer.client()
        #expect(await failure { try await client.withTransaction { _ in } } == .refused(.nospc))
    }

    @Test(arguments: [true, false]) func `the handle is of no use afterwards`(isCommitted: Bool) async throws
    {
        let client = try await daemon.client()
        var kept: XenStoreTransaction?
        try? await client.withTransaction { transaction in
            kept = transaction
            if !isCommitted { throw Enough() }
        }
        let transaction = try #require(kept)
        #expect(await failure { _ = try await transaction.read("/") } == .transactionEnded)
        #expect(await failure { try await transaction.write("/a", "x") } == .transactionEnded)
        #expect(await failure { _ = try await client.read("/a") } == .refused(.noent))
    }

    @Test func `counting by many at once loses nothing`() async throws {
        let clients = [try await daemon.client(), try await daemon.client(), try await daemon.client()]
        try await clients[0].write("/count", "0")
        try await withThrowingTaskGroup { group in
            for index in 0..<12 {
                group.addTask {
                    for _ in 0..<10 {
                        try await clients[index % 3].withTransaction(attempts: 10_000) { transaction in
                            let count = Int(try await transaction.readString("/count"))!
                            try await transaction.write("/count", "\(count + 1)")
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await clients[0].readString("/count") == "120")
    }

    @MainActor @Test func `the closure runs where its caller is`() async throws {
        let client = try await daemon.client()
        final class Notes { var paths: [String] = [] }
        let notes = Notes()  // not Sendable
        let same = try await client.withTransaction { transaction in
            MainActor.assertIsolated()
            notes.paths = try await transaction.list("/")
            return notes
        }
        #expect(same.paths == ["tool"])
    }
}
