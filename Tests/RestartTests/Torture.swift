// A run: load from guests and clients, a kill, a new start, and the question whether everything is as it was
// acknowledged. The seed decides everything but when the processes get their turns.

import Foundation
import Glibc
import XenStoreTestKit
import XenStoreTypes

final class Torture {
    let host: TortureHost
    let toolstack: Toolstack
    let publisher: Speaker
    let clients: [Speaker]
    private(set) var kills = 0
    private(set) var checks = 0
    private(set) var reboots = 0
    private(set) var replies = 0
    private(set) var journalMax = 0
    var random: SplitMix64
    /// What the clients may have had done, by position: requests without a reply.
    private var open: [[Model.Asked]]

    init(seed: UInt64, store: [String], domains: Int = 5, clients count: Int = 3) throws {
        random = SplitMix64(seed: seed)
        host = try TortureHost(store: store)
        toolstack = try Toolstack(host, domains: domains)
        publisher = Speaker("publisher", root: "/torture/pub", isHome: false, permissions: ["r0"])
        clients = (0..<count).map {
            Speaker(
                "client \($0)", root: $0 == 0 ? "/torture/kept/s0" : "/torture/s\($0)", isHome: false,
                permissions: ["n0"])
        }
        open = Array(repeating: [], count: count + 1)
        toolstack.foreign = (0..<6).map { "/torture/pub/p\($0)" }
        for client in clients { client.foreign = toolstack.foreign }
    }

    private var sockets: [Speaker] { clients + [publisher] }
    var guests: [Speaker] { toolstack.slots.compactMap(\.guest) }
    private var speakers: [Speaker] { guests + sockets + [toolstack.speaker] }

    /// Leaves what everybody did beside the daemon's files.
    func writeTraces() {
        for speaker in speakers {
            let path = "\(host.directory)/trace of \(speaker.name)"
            try? speaker.trace.write(toFile: path, atomically: false, encoding: .utf8)
        }
    }

    // MARK: The run

    /// Goes on until so many seconds have passed, or so many kills.
    func run(seconds: Double, kills most: Int = .max) throws {
        let deadline = instant() + UInt64(seconds * 1e9)
        try begin()
        while instant() < deadline && kills < most {
            // Now and then long enough for the journal to be begun anew.
            try load(milliseconds: random.chance(2) ? 2000 : 2 + random.below(random.chance(20) ? 150 : 40))
            let isQuiet = random.chance(8)
            if isQuiet { try settle() }
            let isSingle = try killAndStart(isQuiet: isQuiet)
            try reconnectSockets()
            if isQuiet || random.chance(60) { try check(isQuiet: isQuiet && isSingle) }
        }
        try check(isQuiet: false)
        try host.stop()
    }

    /// Starts the first daemon, with nobody but sockets and domain 0.
    func begin() throws {
        try host.start()
        try settle()
        try makeParts(sockets)
        try connectSockets()
    }

    /// Everybody speaks for so long.
    func load(milliseconds: Int) throws {
        let deadline = instant() + UInt64(milliseconds) * 1_000_000
        while instant() < deadline { try turn(isBusy: true) }
    }

    private func turn(isBusy: Bool) throws {
        if isBusy && random.chance(4) { try toolstack.liveOn(&random) }
        if isBusy && random.chance(2) { toolstack.grant(&random) }
        for speaker in speakers.shuffled(using: &random) {
            if isBusy && speaker !== toolstack.speaker { ask(speaker) }
            let limit = random.chance(30) ? 1 + random.below(200) : 1 << 20
            do {
                try speaker.step(limit: isBusy ? limit : 1 << 20)
            } catch is Closed {
                try host.checkAlive()
                throw speaker.broken("the daemon has closed the socket")
            }
        }
    }

    private func ask(_ speaker: Speaker) {
        if speaker.end == nil || speaker.asked.count > 40 { return }
        if speaker !== publisher {
            if random.chance(1) {
                speaker.deafUntil = instant() + UInt64(random.below(60)) * 1_000_000
            }
            for _ in 0..<random.below(random.chance(10) ? 25 : 3) { speaker.askAnything(&random) }
        } else if random.chance(30) {
            let path = "p\(random.below(6))"
            let value = Array("\(speaker.replies)".utf8)
            speaker.ask(random.chance(90) ? .write(path, value) : .remove(path))
        }
    }

    /// Everybody waits until all is answered, and all events are there.
    func settle() throws {
        for round in 0..<2 {
            let deadline = instant() + 30_000_000_000
            while !(toolstack.isSettled && speakers.allSatisfy(\.isQuiet)) {
                try turn(isBusy: false)
                usleep(200)
                if instant() > deadline { throw try stuck() }
            }
            if round == 0 {
                toolstack.tryGrants()
                for speaker in speakers where speaker.end != nil { speaker.ask(.directory("")) }
            }
        }
    }

    private func stuck() throws -> Broken {
        try host.checkAlive()
        let waiting = speakers.filter { !$0.isQuiet }
        let owed = toolstack.slots.filter(\.owesRelease).map { "\($0.id)" }
        let text = "after 30 s there is no reply; the ends of these domains are not told: \(owed)"
        return waiting.first?.broken(text) ?? toolstack.speaker.broken(text)
    }

    // MARK: Death

    /// Kills the daemon, perhaps several times in a row. Answers whether the last one started with no other
    /// kill in between.
    private func killAndStart(isQuiet: Bool) throws -> Bool {
        let isReboot = !isQuiet && random.chance(2)
        try end(isGentle: random.chance(6))
        var isSingle = true
        if isReboot { try reboot() }
        while random.chance(25) {
            if !isQuiet { try liveWhileDown() }
            try host.start()
            usleep(UInt32(random.below(random.chance(50) ? 60_000 : 15_000)))
            try end(isGentle: false)
            isSingle = false
        }
        if !isQuiet { try liveWhileDown() }
        try host.start()
        return isSingle
    }

    func end(isGentle: Bool) throws {
        if isGentle { try host.stop() } else { host.kill() }
        kills += 1
        for speaker in speakers { speaker.daemonDied() }
        for (index, socket) in sockets.enumerated() where socket.end != nil {
            // What has arrived counts as acknowledged.
            while (try? socket.step(limit: 0)) != nil {}
            open[index] = socket.disconnect(next: 1)
        }
        if random.chance(50) { checkJournal() }
    }

    private func checkJournal() {
        var status = stat()
        if stat(host.journal, &status) == 0 { journalMax = max(journalMax, Int(status.st_blocks) * 512) }
    }

    /// Guests go on as far as their rings allow; domains come and go.
    private func liveWhileDown() throws {
        for _ in 0..<random.below(4) { try toolstack.liveOn(&random) }
        for speaker in guests + [toolstack.speaker] {
            if speaker !== toolstack.speaker { ask(speaker) }
            try speaker.step(limit: 1 + random.below(2000))
        }
    }

    private func reboot() throws {
        reboots += 1
        try host.reboot()
        try toolstack.reboot()
        for (index, socket) in sockets.enumerated() where !socket.root.hasPrefix("/torture/kept") {
            open[index] = []
            socket.model = Model(rootPermissions: socket.model.live[""]?.permissions ?? [])
            socket.wasForgotten = true
        }
    }

    // MARK: Coming back

    func reconnectSockets() throws {
        let asker = Asker(try host.connect())
        for (index, socket) in sockets.enumerated() {
            try resolve(socket, open[index], asker)
            open[index] = []
        }
        try makeParts(sockets.filter(\.wasForgotten))
        try connectSockets()
    }

    private func connectSockets() throws {
        for socket in sockets { socket.end = try host.connect() }
    }

    private func makeParts(_ sockets: [Speaker]) throws {
        let asker = Asker(try host.connect())
        for socket in sockets {
            let list = socket.model.live[""]?.permissions ?? []
            _ = try asker.ask([(.makeDirectory, [socket.root]), (.setPermissions, [socket.root] + list)])
            socket.wasForgotten = false
        }
    }

    /// Finds out how many of the requests without a reply were carried out: all up to some one.
    private func resolve(_ socket: Speaker, _ open: [Model.Asked], _ asker: Asker) throws {
        var found: Model.Nodes = [:]
        for (path, node) in try asker.tree(socket.root) {
            found[path == socket.root ? "" : String(path.dropFirst(socket.root.count + 1))] = node
        }
        if socket.wasForgotten {
            if !found.isEmpty { throw Broken("\(socket.root) has outlived a reboot") }
            return
        }
        guard var model = socket.model.states(after: open).first(where: { $0.live == found }) else {
            let lines = differences(found: found, expected: socket.model.live).joined(separator: "\n  ")
            throw socket.broken(
                "what is there is not what was acknowledged, with any of the \(open.count) requests that "
                    + "had no reply; compared with none of them:\n  \(lines)")
        }
        model.forgetConnection(next: 1)
        socket.model = model
    }

    // MARK: Comparison

    func check(isQuiet: Bool) throws {
        try settle()
        checks += 1
        if isQuiet { try checkFirings(exactly: true) }
        try settleChecks()
        let asker = Asker(try host.connect())
        guard try asker.ask(.control, ["check"]) == "OK|" else { throw Broken("CONTROL check has findings") }
        var expected = toolstack.expectedNodes()
        for socket in sockets { expected.merge(socket.absoluteNodes) { $1 } }
        let found = try asker.tree("/")
        if found != expected {
            let lines = differences(found: found, expected: expected).joined(separator: "\n  ")
            throw Broken("the tree is not what was acknowledged:\n  \(lines)")
        }
        for slot in toolstack.slots where slot.isIntroduced {
            let id = "\(slot.id)"
            let quota = try asker.ask(.getQuota, [id, "node-size"])
            let features = try asker.ask(.getFeature, [id])
            if quota != "\(Toolstack.valueMax)|" || features != "\(slot.features)|" {
                throw Broken("domain \(id): found quota \(quota) and features \(features)")
            }
        }
        replies = speakers.reduce(0) { $0 + $1.replies }
    }

    private func settleChecks() throws {
        for speaker in speakers {
            try speaker.checkWatches { path in
                let name = String(path.dropFirst(publisher.root.count + 1))
                return publisher.model.live[name].map { .bytes($0.value) } ?? .failed("ENOENT")
            }
        }
    }

    /// Nothing has changed since before the kill, so each watch of a ring has fired once.
    private func checkFirings(exactly: Bool) throws {
        for speaker in guests {
            for (token, count) in speaker.firings where count != 1 {
                throw speaker.broken("after a quiet restart the watch \(token) has fired \(count) times")
            }
        }
    }
}
