// Is the connection usable whenever a task is cancelled, and is nothing left behind?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct CancellationTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    private func type(_ messages: [Message]) -> [MessageType?] {
        messages.map { MessageType(rawValue: $0.type) }
    }

    @Test func `a task that is cancelled before sends nothing`() async throws {
        let peer = ScriptedPeer { $0.serve() }
        let client = try peer.client()
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            _ = try await client.read("/a")
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        try await client.makeDirectory("/b")
        #expect(type(await peer.received(1)) == [.makeDirectory])
    }

    @Test func `a reply that comes late is thrown away`() async throws {
        let peer = ScriptedPeer { peer in
            let late = peer.next()
            let second = peer.next()
            peer.reply(late, "late")
            peer.reply(second, "second")
        }
        let client = try peer.client()
        let task = Task { try await client.read("/a") }
        _ = await peer.received(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        #expect(try await client.readString("/b") == "second")
    }

    @Test func `an error that comes late is thrown away`() async throws {
        let peer = ScriptedPeer { peer in
            let late = peer.next()
            let second = peer.next()
            peer.refuse(late, "ENOENT")
            peer.reply(second, "second")
        }
        let client = try peer.client()
        let task = Task { try await client.read("/a") }
        _ = await peer.received(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        #expect(try await client.readString("/b") == "second")
    }

    @Test func `a transaction that starts too late is ended`() async throws {
        let peer = ScriptedPeer { peer in
            let start = peer.next()
            let read = peer.next()
            peer.reply(start, "42\0")
            peer.reply(read, "x")
            peer.reply(peer.next())
        }
        let client = try peer.client()
        let task = Task { try await client.withTransaction { _ in } }
        _ = await peer.received(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        _ = try await client.read("/a")
        let messages = await peer.messages()
        #expect(type(messages) == [.transactionStart, .read, .transactionEnd])
        #expect(messages.last?.transactionID == 42)
        #expect(messages.last?.strings == ["F"])
    }

    @Test func `a cancelled closure aborts`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), "42\0")
            _ = peer.next()  // never answered
            peer.reply(peer.next())
        }
        let client = try peer.client()
        let task = Task { try await client.withTransaction { try await $0.read("/a") } }
        _ = await peer.received(2)
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        let messages = await peer.messages()
        #expect(messages.last?.description == "transactionEnd[tx 42] \"F|\"")
    }

    @Test func `a closure that is cancelled and returns is not committed`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), "42\0")
            peer.reply(peer.next())
        }
        let client = try peer.client()
        let task = Task {
            try await client.withTransaction { _ in
                while !Task.isCancelled { await Task.yield() }
            }
        }
        _ = await peer.received(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(await peer.messages().last?.strings == ["F"])
    }

    @Test func `a commit that was sent is not sent again`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), "42\0")
            let commit = peer.next()
            let read = peer.next()
            peer.refuse(commit, "EAGAIN")
            peer.reply(read, "x")
        }
        let client = try peer.client()
        let task = Task { try await client.withTransaction { _ in } }
        _ = await peer.received(2)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(try await client.readString("/a") == "x")
        #expect(type(await peer.messages()) == [.transactionStart, .transactionEnd, .read])
    }

    @Test func `a watch that is taken too late is removed`() async throws {
        let peer = ScriptedPeer { peer in
            let watch = peer.next()
            let unwatch = peer.next()
            peer.reply(watch)
            peer.event("/w", "t")
            peer.reply(unwatch)
        }
        let client = try peer.client()
        let task = Task { _ = try await client.watch("/w", token: "t") }
        _ = await peer.received(1)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        let messages = await peer.messages()
        #expect(type(messages) == [.watch, .unwatch])
        #expect(messages.last?.strings == ["/w", "t"])
    }

    @Test func `who is cancelled while he waits for an event has no watch any more`() async throws {
        let peer = ScriptedPeer { $0.serve() }
        let client = try peer.client()
        let watch = try await client.watch("/w", token: "t")
        let task = Task {
            var count = 0
            for try await _ in watch { count += 1 }
            return count
        }
        try await Task.sleep(for: .milliseconds(20))
        task.cancel()
        #expect(try await task.value == 0)
        #expect(type(await peer.received(2)) == [.watch, .unwatch])
    }

    @Test(arguments: 0..<5) func `cancelling anything at any time leaves the connection usable`(seed: UInt64)
        async throws
    {
        let client = try await daemon.client()
        try await client.write("/shared", "0")
        var random = SplitMix64(seed: seed)
        for round in 0..<20 {
            let pauses = (0..<10).map { _ in Int(random.next() % 400) }
            await withTaskGroup { group in
                for (index, pause) in pauses.enumerated() {
                    group.addTask {
                        let task = Task {
                            for try await _ in try await client.watch("/shared") {
                                try await client.withTransaction {
                                    _ = try await $0.read("/shared")
                                    try await $0.write("/shared", "\(index)")
                                }
                            }
                        }
                        try? await Task.sleep(for: .microseconds(pause * 10))
                        task.cancel()
                        _ = await task.result
                    }
                }
            }
            try await client.write("/round", "\(round)")
            #expect(try await client.readString("/round") == "\(round)")
        }
        // Nothing that was abandoned is left: nothing can be in conflict, and no watch gets in the way.
        let watches = client.connection.state.with { $0.watches.all.count }
        #expect(watches == 0)
        #expect(client.connection.state.with { $0.pending.count } == 0)
        #expect(try await client.control("check").hasPrefix("OK"))
    }
}
