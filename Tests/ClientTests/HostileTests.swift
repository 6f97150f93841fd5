// What does a peer achieve that breaks the protocol, dies or does not read?

import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct HostileTests {
    /// What a READ, and the next one, fail with when `script` has seen the first.
    private func loss(_ script: @escaping @Sendable (ScriptedPeer, Message) -> Void) async throws
        -> ConnectionLoss?
    {
        let peer = ScriptedPeer { peer in
            if let request = peer.next() { script(peer, request) }
        }
        let client = try peer.client()
        let first = await failure { _ = try await client.read("/a") }
        let second = await failure { _ = try await client.read("/b") }
        #expect(first == second)
        guard case .connectionLost(let loss) = first else { return nil }
        return loss
    }

    @Test(arguments: [1, 15]) func `half a header and the end`(count: Int) async throws {
        let loss = try await loss { peer, request in
            peer.send(Array(request.bytes[..<count]))
            peer.close()
        }
        #expect(loss == .closedByPeer(inMessage: true))
    }

    @Test func `the end in the middle of a payload`() async throws {
        let loss = try await loss { peer, request in
            peer.send(Message.header(2, request.requestID, 0, 100) + [1, 2, 3])
            peer.close()
        }
        #expect(loss == .closedByPeer(inMessage: true))
    }

    @Test func `the end between messages`() async throws {
        let loss = try await loss { peer, _ in peer.close() }
        #expect(loss == .closedByPeer(inMessage: false))
    }

    @Test func `a reply to no request`() async throws {
        let loss = try await loss { peer, request in
            peer.send(Message(.read, requestID: request.requestID + 1).bytes)
        }
        #expect(loss == .violation("a reply to no request (id 2)"))
    }

    @Test func `a second reply to the same request`() async throws {
        let peer = ScriptedPeer { peer in
            let request = peer.next()
            peer.reply(request, "first")
            peer.reply(request, "second")
        }
        let client = try peer.client()
        #expect(try await client.readString("/a") == "first")
        let cause = await failure { _ = try await client.read("/b") }
        #expect(cause == .connectionLost(.violation("a reply to no request (id 1)")))
    }

    @Test(arguments: [4097, UInt32.max]) func `a message that is too long`(length: UInt32) async throws {
        let loss = try await loss { peer, request in
            peer.send(Message.header(2, request.requestID, 0, length))
        }
        #expect(loss == .violation("a message of \(length) bytes"))
    }

    @Test func `a reply of another type`() async throws {
        let loss = try await loss { peer, request in
            peer.send(Message(.write, requestID: request.requestID).bytes)
        }
        #expect(loss == .violation("type 11 answers read"))
    }

    @Test(arguments: ["", "path", "path\0token"])
    func `an event that is none`(payload: String) async throws {
        let loss = try await loss { peer, _ in peer.send(Message(.watchEvent, Array(payload.utf8)).bytes) }
        #expect(loss == .violation("an event without a path and a token"))
    }

    @Test func `events between replies, and byte by byte`() async throws {
        let peer = ScriptedPeer { peer in
            while let request = peer.next() {
                peer.event("/some/where", "nobody's")
                let bytes = Message(.read, requestID: request.requestID, Array("value".utf8)).bytes
                for byte in bytes { peer.send([byte]) }
                peer.event("", "")
            }
        }
        let client = try peer.client()
        for _ in 0..<20 { #expect(try await client.readString("/a") == "value") }
    }

    @Test func `replies in another order find their requests`() async throws {
        let peer = ScriptedPeer { peer in
            let requests = (0..<3).map { _ in peer.next() }
            for request in requests.reversed() { peer.reply(request, request?.strings.first ?? "") }
        }
        let client = try peer.client()
        try await withThrowingTaskGroup { group in
            for name in ["/a", "/b", "/c"] {
                group.addTask {
                    let value = try await client.readString(name)
                    #expect(value == name)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func `an error that nobody knows is passed on`() async throws {
        let peer = ScriptedPeer { peer in
            peer.refuse(peer.next(), "EQUOTA")
            peer.send(Message(.error, requestID: 2).bytes)
            peer.reply(peer.next(), "fine")
        }
        let client = try peer.client()
        #expect(await failure { _ = try await client.read("/a") } == .refusedOtherwise("EQUOTA"))
    }

    @Test(arguments: ["x5\0", "r\0", "r70000\0"])
    func `permissions that are none are an error of this request only`(text: String) async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), text)
            peer.reply(peer.next(), "fine")
        }
        let client = try peer.client()
        guard case .answer = await failure({ _ = try await client.permissions("/a") }) else {
            Issue.record("\(text) was understood")
            return
        }
        #expect(try await client.readString("/a") == "fine")
    }

    @Test func `a transaction without a number, and a domain that is neither there nor not`() async throws {
        let peer = ScriptedPeer { $0.serve { _ in "what?\0" } }
        let client = try peer.client()
        #expect(
            await failure { try await client.withTransaction { _ in _ = Issue.record("it began") } }
                == .answer("no number"))
        #expect(await failure { _ = try await client.isIntroduced(.zero) } == .answer("what?"))
        #expect(await failure { _ = try await client.features() } == .answer("no number"))
    }

    @Test func `noise is a violation or the end, and never a crash`() async throws {
        var random = SplitMix64(seed: 20)
        for _ in 0..<100 {
            let noise = (0..<200).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let loss = try await loss { peer, _ in
                peer.send(noise)
                peer.close()
            }
            #expect(loss != nil)
        }
    }

    @Test func `a peer that does not read is given up when patience ends`() async throws {
        let peer = ScriptedPeer { _ in }
        var options = XenStoreOptions()
        options.patience = .milliseconds(200)
        options.unsentMax = 8 << 20
        let client = try peer.client(options)
        let value = [UInt8](repeating: 0, count: 4000)
        let causes = await withTaskGroup { group in
            for _ in 0..<500 {
                group.addTask { await failure { try await client.write("/a", value) } }
            }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(causes == [.connectionLost(.stalled)])
    }

    @Test func `what waits to be sent is bounded`() async throws {
        let peer = ScriptedPeer { _ in }
        var options = XenStoreOptions()
        options.patience = .milliseconds(500)
        options.unsentMax = 100_000
        let client = try peer.client(options)
        let value = [UInt8](repeating: 0, count: 4000)
        let causes = await withTaskGroup { group in
            for _ in 0..<2000 {
                group.addTask { await failure { try await client.write("/a", value) } }
            }
            return await group.reduce(into: [XenStoreError.Cause?: Int]()) { $0[$1, default: 0] += 1 }
        }
        #expect(causes[.tooMuchUnsent, default: 0] > 1000)
        #expect(causes[.connectionLost(.stalled), default: 0] > 0)
        #expect(causes.count == 2)
    }

    @Test func `closing fails what waits`() async throws {
        let peer = ScriptedPeer { $0.next() }
        let client = try peer.client()
        let request = Task { await failure { _ = try await client.read("/a") } }
        _ = await peer.received(1)
        client.close()
        #expect(await request.value == .connectionLost(.closed))
        #expect(await failure { _ = try await client.read("/a") } == .connectionLost(.closed))
    }

    @Test func `a client that is gone closes its socket`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next(), "x")
            peer.next()  // returns at the end of the stream, long before its ten seconds
        }
        let start = monotonicNow()
        _ = try await peer.client().read("/a")
        #expect(await peer.messages().count == 1)
        #expect(monotonicNow() - start < 5_000_000_000)
    }
}
