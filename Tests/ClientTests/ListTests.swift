// Are child lists whole, however long they are and whatever happens to them meanwhile?

import Testing
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct ListTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    static let count = 20_000

    /// Creates /big with 20,000 children, many requests on the way at a time.
    private func fill(_ client: XenStoreClient) async throws {
        try await withThrowingTaskGroup { group in
            for start in stride(from: 0, to: Self.count, by: 500) {
                group.addTask {
                    for index in start..<(start + 500) {
                        try await client.makeDirectory("/big/child\(index)")
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    private func expectWhole(_ names: [String], sourceLocation: SourceLocation = #_sourceLocation) {
        let stable = names.filter { $0.hasPrefix("child") }
        #expect(stable.count == Self.count, sourceLocation: sourceLocation)
        #expect(
            Set(stable) == Set((0..<Self.count).map { "child\($0)" }), sourceLocation: sourceLocation)
    }

    @Test func `20,000 children are listed whole, while others come and go`() async throws {
        let client = try await daemon.client()
        try await fill(client)
        expectWhole(try await client.list("/big"))
        try await client.withTransaction { expectWhole(try await $0.list("/big")) }

        let other = try await daemon.client()
        let isDone = Locked(false)
        let changes = Task {
            var round = 0
            while !isDone.with({ $0 }) {
                try await other.makeDirectory("/big/extra\(round % 50)")
                try await other.remove("/big/extra\((round + 25) % 50)")
                round += 1
            }
            return round
        }
        for _ in 0..<5 { expectWhole(try await client.list("/big")) }
        isDone.with { $0 = true }
        #expect(try await changes.value > 0)
    }

    /// A peer with one long list, in parts of one name each, whose generation is what `generation` says.
    private func peer(_ generation: @escaping @Sendable (_ part: Int, _ tx: UInt32) -> Int) -> ScriptedPeer {
        ScriptedPeer { peer in
            var part = 0
            while let request = peer.next() {
                switch MessageType(rawValue: request.type) {
                case .directory: peer.refuse(request, "E2BIG")
                case .transactionStart: peer.reply(request, "7\0")
                case .directoryPart:
                    part += 1
                    let number = generation(part, request.transactionID)
                    let offset = Int(request.strings[1])!
                    let rest = ["one\0", "two\0", "three\0\0"][[0, 4, 8].firstIndex(of: offset)!]
                    peer.reply(request, "\(number)\0\(rest)")
                default: peer.reply(request)
                }
            }
        }
    }

    @Test func `a list that has changed is begun anew`() async throws {
        let peer = peer { part, _ in part < 3 ? 5 : 6 }
        #expect(try await peer.client().list("/l") == ["one", "two", "three"])
        let offsets = await peer.received(7).dropFirst().map { $0.strings[1] }
        #expect(offsets == ["0", "4", "8", "0", "4", "8"])
    }

    @Test func `a list that changes all the time is listed in a transaction`() async throws {
        let peer = peer { part, transaction in transaction == 7 ? 0 : part }
        let client = try peer.client()
        #expect(try await client.list("/l") == ["one", "two", "three"])
        let messages = await peer.received(22)
        #expect(messages.last?.type == MessageType.transactionEnd.rawValue)
        #expect(
            messages.count { $0.transactionID == 0 && $0.type == MessageType.directoryPart.rawValue } == 16)
    }

    @Test func `and fails with EAGAIN if it changes even there`() async throws {
        let peer = peer { part, _ in part }
        #expect(await failure { _ = try await peer.client().list("/l") } == .refused(.again))
    }

    @Test(arguments: ["", "5\0", "no generation", "5\0name", "5\0name\0half"])
    func `parts that make no sense are errors, and no endless loop`(part: String) async throws {
        let peer = ScriptedPeer { peer in
            peer.refuse(peer.next(), "E2BIG")
            while let request = peer.next() { peer.reply(request, part) }
        }
        guard case .answer = await failure({ _ = try await peer.client().list("/l") }) else {
            Issue.record("the list was understood")
            return
        }
    }

    @Test func `an empty last part ends the list`() async throws {
        let peer = ScriptedPeer { peer in
            peer.refuse(peer.next(), "E2BIG")
            peer.reply(peer.next(), "5\0name\0")
            peer.reply(peer.next(), "5\0\0")
        }
        #expect(try await peer.client().list("/l") == ["name"])
    }
}
