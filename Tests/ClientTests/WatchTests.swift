// Do watches tell what changes, in bounded memory, and end when they should?

import Testing
import XenStoreTypes

@testable import XenStoreClient

@Suite(.timeLimit(.minutes(10)))
struct WatchTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    @Test func `the first event comes at once, and then one a change`() async throws {
        let client = try await daemon.client()
        var events = try await client.watch("/w").makeAsyncIterator()
        #expect(try await events.next() == WatchEvent(path: "/w"))
        try await client.write("/w/a", "x")
        #expect(try await events.next() == WatchEvent(path: "/w/a"))
        try await client.remove("/w")
        #expect(try await events.next() == WatchEvent(path: "/w"))
    }

    @Test func `relative watches get relative paths`() async throws {
        let client = try await daemon.client()
        var events = try await client.watch("w").makeAsyncIterator()
        #expect(try await events.next()?.path == "w")
        try await client.write("/local/domain/0/w/a", "x")
        #expect(try await events.next()?.path == "w/a")
    }

    @Test func `a depth ends the view`() async throws {
        let client = try await daemon.client()
        var events = try await client.watch("/w", depth: 1).makeAsyncIterator()
        #expect(try await events.next()?.path == "/w")
        try await client.write("/w/a/b", "x")
        try await client.write("/w/c", "x")
        #expect(try await events.next()?.path == "/w/c")
    }

    @Test(arguments: [
        ("/w", nil, "/w", true), ("/w", nil, "/w/a/b", true), ("/w", nil, "/wa", false),
        ("/w", 0, "/w", true),
        ("/w", 0, "/w/a", false), ("/w", 1, "/w/a", true), ("/w", 1, "/w/a/b", false), ("/", nil, "/a", true),
        ("/", 1, "/a", true), ("/", 1, "/a/b", false), ("/", 0, "/", true), ("w", 1, "w/a", true),
        ("w", nil, "/w", false), ("@releaseDomain", 1, "@releaseDomain/5", true), ("/", nil, "@x", false),
    ])
    func `which changes a watch covers`(path: String, depth: Int?, changed: String, isCovered: Bool) {
        let watch = WatchQueue(path: path, token: "t", depth: depth, max: 10)
        #expect(watch.covers(changed) == isCovered)
    }

    @Test func `two watches do not get each other's events`() async throws {
        let client = try await daemon.client()
        var a = try await client.watch("/a", token: "same").makeAsyncIterator()
        var b = try await client.watch("/b", token: "same").makeAsyncIterator()
        #expect(try await a.next()?.path == "/a")
        #expect(try await b.next()?.path == "/b")
        try await client.write("/b/x", "")
        try await client.write("/a/x", "")
        #expect(try await a.next()?.path == "/a/x")
        #expect(try await b.next()?.path == "/b/x")
    }

    @Test func `the same path and token twice is EEXIST, and the first one lives`() async throws {
        let client = try await daemon.client()
        let first = try await client.watch("/a", token: "t")
        #expect(await failure { _ = try await client.watch("/a", token: "t") } == .refused(.exist))
        var events = first.makeAsyncIterator()
        #expect(try await events.next()?.path == "/a")
        try await client.write("/a/b", "")
        #expect(try await events.next()?.path == "/a/b")
    }

    @Test func `a watch that is refused leaves nothing`() async throws {
        let client = try await daemon.client()
        #expect(await failure { _ = try await client.watch("//", token: "t") } == .refused(.inval))
        #expect(client.connection.state.with { $0.watches.all.isEmpty })
    }

    @Test func `dropping it unwatches`() async throws {
        let peer = ScriptedPeer { $0.serve() }
        let client = try peer.client()
        do {
            let watch = try await client.watch("/w", token: "t")
            #expect(watch.token == "t")
        }
        let messages = await peer.received(2)
        #expect(messages.map(\.description) == ["watch \"/w|t|\"", "unwatch \"/w|t|\""])
        #expect(await eventually { client.connection.state.with { $0.watches.all.isEmpty } })
    }

    @Test func `leaving a loop unwatches`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next())
            peer.event("/w", "t")
            peer.serve()
        }
        let client = try peer.client()
        for try await event in try await client.watch("/w", token: "t") {
            #expect(event.path == "/w")
            break
        }
        #expect(await peer.received(2).last?.type == MessageType.unwatch.rawValue)
    }

    @Test func `events of a watch that was just removed are dropped`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next())
            let unwatch = peer.next()
            let again = peer.next()
            peer.event("/w/old", "t")
            peer.reply(unwatch)
            peer.reply(again)
            peer.event("/w/new", "t")
            peer.serve()
        }
        let client = try peer.client()
        let first = try await client.watch("/w", token: "t")
        async let removal: Void = first.unwatch()
        _ = await peer.received(2)
        let second = try await client.watch("/w", token: "t")
        try await removal
        for try await event in second {
            #expect(event.path == "/w/new")
            break
        }
        for try await event in first { Issue.record("\(event) came after the end") }
    }

    @Test func `unwatching twice is no error, and a failure is thrown`() async throws {
        let peer = ScriptedPeer { peer in
            peer.reply(peer.next())
            peer.refuse(peer.next(), "ENOENT")
        }
        let watch = try await peer.client().watch("/w")
        #expect(await failure { try await watch.unwatch() } == .refused(.noent))
        try await watch.unwatch()
    }

    @Test func `a lost connection ends it, after the events that came before`() async throws {
        let client = try await daemon.client()
        let watch = try await client.watch("/w")
        try await client.write("/w/a", "")
        daemon.stop()
        var paths: [String] = []
        let cause = await failure { for try await event in watch { paths.append(event.path) } }
        #expect(paths == ["/w", "/w/a"])
        guard case .connectionLost = cause else {
            Issue.record("\(String(describing: cause))")
            return
        }
        guard case .connectionLost = await failure({ _ = try await client.watch("/x") }) else {
            Issue.record("a lost connection takes watches")
            return
        }
    }

    @Test func `many unread events become one that says so`() async throws {
        var options = XenStoreOptions()
        options.eventsMax = 10
        let client = try await daemon.client(options)
        var events = try await client.watch("/w").makeAsyncIterator()
        for index in 0..<25 { try await client.write("/w/\(index)", "") }
        // A reply comes after the events that were caused before.
        var seen: [WatchEvent] = []
        repeat { seen.append(try #require(try await events.next())) } while seen.last?.path != "/w/24"
        #expect(seen.count <= 10)
        #expect(seen.first == WatchEvent(path: "/w", stoodForOthers: true))
        try await client.write("/w/x", "")
        #expect(try await events.next() == WatchEvent(path: "/w/x"))
    }

    @Test func `equal events are kept once, special ones each time`() async {
        let watch = WatchQueue(path: "/w", token: "t", depth: nil, max: 100)
        for _ in 0..<3 { watch.add("/w/a") }
        watch.add("/w/b")
        #expect(await (try? watch.next().get())?.path == "/w/a")
        watch.add("/w/a")
        #expect(await (try? watch.next().get())?.path == "/w/b")
        #expect(await (try? watch.next().get())?.path == "/w/a")
        for _ in 0..<3 { watch.add("@releaseDomain") }
        for _ in 0..<3 { #expect(await (try? watch.next().get())?.path == "@releaseDomain") }
    }

    @Test func `a watch keeps its connection`() async throws {
        let watch = try await daemon.client().watch("/w")
        let other = try await daemon.client()
        var events = watch.makeAsyncIterator()
        #expect(try await events.next()?.path == "/w")
        try await other.write("/w/a", "")
        #expect(try await events.next()?.path == "/w/a")
    }
}
