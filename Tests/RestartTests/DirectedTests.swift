// What kills under load have found, each as the few steps that it takes.

import Glibc
import Testing
import XenStoreHost
import XenStoreLog
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore
@testable import XenStoreHost

@Suite struct DirectedTests {
    /// A host with a daemon, and the domains 1 and 2 introduced.
    private static func start(_ seed: UInt64 = 0) throws -> TortureHost {
        let host = try TortureHost(store: TortureTests.store(seed))
        for id: UInt16 in 1...2 { try host.host.create(DomainID(id)) }
        try host.start()
        let asker = Asker(try host.connect())
        for id in 1...2 { #expect(try asker.ask(.introduce, ["\(id)", "1", "7"]) == "OK|") }
        return host
    }

    private static func restart(_ host: TortureHost, _ meanwhile: () throws -> Void = {}) throws -> Asker {
        host.kill()
        try meanwhile()
        try host.start()
        return Asker(try host.connect())
    }

    private static func end(_ host: TortureHost) throws {
        try host.stop()
        host.removeDirectory()
    }

    @Test func aDomainsOwnLimitOutlivesTheDaemon() throws {
        let host = try Self.start()
        // Something else is recorded of the domain in an earlier turn only.
        var asker = Asker(try host.connect())
        #expect(try asker.ask(.setQuota, ["1", "node-size", "77"]) == "OK|")
        asker = try Self.restart(host)
        #expect(try asker.ask(.getQuota, ["1", "node-size"]) == "77|")
        #expect(try asker.ask(.getQuota, ["2", "node-size"]) == "2048|")
        try Self.end(host)
    }

    @Test func aTargetThatHasEndedMeanwhileIsNobodysTarget() throws {
        let host = try Self.start()
        var asker = Asker(try host.connect())
        #expect(try asker.ask(.setTarget, ["1", "2"]) == "OK|")
        asker = try Self.restart(host) { try host.host.create(DomainID(2)) }
        #expect(try asker.ask(.control, ["check"]) == "OK|")
        // Another domain 2: the first one's rights to it went with the old one.
        #expect(try asker.ask(.introduce, ["2", "1", "7"]) == "OK|")
        #expect(try asker.ask(.makeDirectory, ["/new"]) == "OK|")
        #expect(try asker.ask(.setPermissions, ["/new", "n2"]) == "OK|")
        let guest = try SimulatedGuest(host.host, 1, exists: true)
        #expect(guest.text(.read, "/new\0") == "EACCES|")
        try Self.end(host)
    }

    /// A guest may make room in a full ring while the daemon waits for the store, and will not say so twice.
    @Test func roomThatIsMadeWhileABatchIsOnItsWayIsSeen() throws {
        // The store syncs every batch, which takes its time.
        let host = try Self.start(2)
        let asker = Asker(try host.connect())
        #expect(try asker.ask(.makeDirectory, ["/local/domain/1"]) == "OK|")
        #expect(try asker.ask(.setPermissions, ["/local/domain/1", "n1"]) == "OK|")
        let guest = Speaker("domain 1", root: "/local/domain/1", isHome: true, permissions: ["n1"])
        guest.end = RingEnd(try SimulatedGuest(host.host, 1, exists: true))
        guest.ask(.write("a", [UInt8](repeating: 7, count: 900)))
        for round in 0..<300 {
            guest.ask(.write("b", Array("\(round)".utf8)))
            guest.ask(.read("a"))
        }
        let deadline = instant() + 30_000_000_000
        while !guest.isQuiet && instant() < deadline { try guest.step(limit: .max) }
        #expect(guest.isQuiet, "replies are missing: \(guest.asked.count)")
        try Self.end(host)
    }

    /// A frame of a batch that the store never got must not come alive when the store gets another batch of
    /// that number.
    @Test func framesThatNeverHappenedAreGoneBeforeTheNextBatch() throws {
        let host = try TortureHost(store: TortureTests.store(0))
        defer { host.removeDirectory() }
        let boot = Array("this one".utf8)
        let server = Server(ServerConfiguration(), world: World())
        server.recordSessions(true)
        var first: [UInt8] = []
        server.takeAllSessions(boot.span) { first = [UInt8](copying: $0) }
        do {
            let old = try RecordLog(host.journal, kind: "sessions")
            _ = try old.replay { (_, _) throws(LogFailure) in }
            for (number, frame) in [(4, first), (5, first), (6, first)] {
                _ = try frame.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in
                    try old.append(UInt64(number), bytes)
                }
            }
            old.close()
        }
        let log = try Log(.file(host.directory + "/log"), level: .notice)
        defer { log.close() }
        let journal = try SessionJournal(host.journal, server: server, boot: boot, log: log)
        #expect(try journal.read(upTo: 5).boot == boot)
        journal.close()
        var numbers: [UInt64] = []
        let kept = try RecordLog(host.journal, kind: "sessions")
        _ = try kept.replay { (number, _) throws(LogFailure) in numbers.append(number) }
        kept.close()
        #expect(numbers == [4, 5])
    }
}
