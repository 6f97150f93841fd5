// Do guests that scribble over their whole pages, for a long time, harm anybody but themselves?
//
//     XENSTORE_STORM_SECONDS=3600 swift test --filter RingStormTests     as long as that (5)
//     XENSTORE_STORM_SEED=7                                              with these choices (1)
//
// Everybody is a thread of its own, so the choices are repeated by the seed, their order among each other is
// not.

import Foundation
import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStoreHost

private let environment = ProcessInfo.processInfo.environment

/// What the threads have to say.
private final class Report: @unchecked Sendable {
    private let monitor = Monitor()
    private var running = 0
    private var failures: [String] = []
    private var longest: UInt64 = 0
    private var requests = 0
    private var acts = 0

    /// Runs `body` until it throws, or has done with it, in a thread of its own.
    func start(_ name: String, _ body: @escaping @Sendable () throws -> Void) throws {
        monitor.locked { running += 1 }
        try startThread(name) { [self] in
            var failure: String?
            do { try body() } catch { failure = "\(name): \(error)" }
            monitor.locked {
                if let failure { failures.append(failure) }
                running -= 1
                monitor.wake()
            }
        }
    }

    func note(nanoseconds: UInt64) {
        monitor.locked {
            requests += 1
            longest = max(longest, nanoseconds)
        }
    }

    func note(acts count: Int) { monitor.locked { acts += count } }

    /// When all have ended.
    func wait() -> (failures: [String], longest: UInt64, requests: Int, acts: Int) {
        monitor.locked {
            while running > 0 { monitor.wait() }
            return (failures, longest, requests, acts)
        }
    }
}

private struct Wrong: Error { var description: String }

@Suite(.serialized) struct RingStormTests {
    static let seconds = UInt64(environment["XENSTORE_STORM_SECONDS"] ?? "") ?? 5
    static let seed = UInt64(environment["XENSTORE_STORM_SEED"] ?? "") ?? 1
    /// What a request of somebody else may take, on a machine that others use too.
    static let patience: UInt64 = 2_000_000_000

    @Test func `guests that scribble over their pages harm nobody else`() throws {
        let host = try SimulatedDaemon()
        let end = monotonicNow() + Self.seconds * 1_000_000_000
        let (path, socket) = (host.host.path, host.directory / "socket")
        let report = Report()
        for id in UInt16(1)...3 {
            _ = try host.guest(id)
            try report.start("neighbour \(id)") { try Self.beNeighbour(id, path, report, until: end) }
        }
        try report.start("client") { try Self.beClient(socket, report, until: end) }
        for id in UInt16(5)...7 {
            _ = try host.guest(id)
            try report.start("hostile \(id)") { try Self.beHostile(id, path, socket, report, until: end) }
        }
        let outcome = report.wait()
        #expect(outcome.failures == [], "seed \(Self.seed)")
        #expect(outcome.longest < Self.patience, "seed \(Self.seed)")
        // There has been something to survive, and somebody to see it.
        #expect(outcome.acts > Int(Self.seconds) * 1000 && outcome.requests > Int(Self.seconds) * 100)
        try host.expectServed()
    }

    /// Asks for what it has just written, and waits for the event of it.
    private static func beNeighbour(
        _ id: UInt16, _ path: String, _ report: Report, until end: UInt64
    ) throws {
        let guest = try SimulatedGuest(try SimulatedHost(path), id, exists: true)
        guard guest.text(.watch, "w\0t\0") == "OK|", guest.receive()?.isEvent == true else {
            throw Wrong(description: "no watch")
        }
        var round = 0
        while monotonicNow() < end {
            round += 1
            let value = "\(round)" + String(repeating: "x", count: round % 900)
            let start = monotonicNow()
            // Its own event comes before the reply.
            try expect(guest.text(.write, "w\0\(value)"), "w|t|")
            try expect(guest.receive().map { Message.printable($0.payload) }, "OK|")
            let found = guest.ask(.read, "w\0").map { String(decoding: $0.payload, as: UTF8.self) }
            try expect(found, value)
            report.note(nanoseconds: (monotonicNow() - start) / 3)
            usleep(300)
        }
    }

    private static func beClient(_ socket: String, _ report: Report, until end: UInt64) throws {
        let client = try RawClient(socket)
        var round = 0
        while monotonicNow() < end {
            round += 1
            let start = monotonicNow()
            try expect(client.ask(.write, "/client\0\(round)")?.text, "OK\0")
            try expect(client.ask(.read, "/client\0")?.text, "\(round)")
            report.note(nanoseconds: (monotonicNow() - start) / 2)
            if round % 200 == 0 { try expect(client.ask(.control, "check\0")?.text, "OK\0") }
            usleep(300)
        }
    }

    private static func expect(_ found: String?, _ expected: String) throws {
        if found == expected { return }
        throw Wrong(description: "found \(found ?? "no reply"), expected \(expected)")
    }

    private static func beHostile(
        _ id: UInt16, _ path: String, _ socket: String, _ report: Report, until end: UInt64
    ) throws {
        var random = SplitMix64(seed: seed &* 1000 &+ UInt64(id))
        let host = try SimulatedHost(path)
        let toolstack = try RawClient(socket)
        var guest = try SimulatedGuest(host, id, exists: true)
        while monotonicNow() < end {
            for _ in 0..<100 { scribble(guest, &random) }
            report.note(acts: 100)
            guest.signal()
            usleep(UInt32(random.below(500)))
            // Now and then the toolstack brings it back, or another in its place.
            if !random.chance(10) { continue }
            switch random.below(4) {
            case 0: guard toolstack.ask(.introduce, "\(id)\01\07\0") != nil else { throw lost }
            case 1: guard toolstack.ask(.release, "\(id)\0") != nil else { throw lost }
            case 2: try host.destroy(DomainID(id))
            default:
                guest = try SimulatedGuest(host, id)
                guard toolstack.ask(.introduce, "\(id)\01\07\0") != nil else { throw lost }
            }
            _ = toolstack.ask(.makeDirectory, "/local/domain/\(id)\0")
            _ = toolstack.ask(.setPermissions, "/local/domain/\(id)\0n\(id)\0")
        }
    }

    private static var lost: Wrong { Wrong(description: "the toolstack has no reply") }

    /// One thing that a guest can do to its page.
    private static func scribble(_ guest: SimulatedGuest, _ random: inout SplitMix64) {
        let word = UInt32(truncatingIfNeeded: random.next())
        switch random.below(14) {
        case 0: guest[word: 2048 + 4 * random.below(8)] = word
        case 1: guest[word: 4 * random.below(1024)] = word
        case 2: guest[word: 2052] &+= UInt32(random.below(64))
        case 3: guest[word: 2056] &+= UInt32(random.below(64))
        case 4: guest.page.requestReconnection()
        case 5: _ = guest.put((0..<random.below(300)).map { _ in UInt8(random.below(40)) })
        case 6: for offset in 0..<1024 { guest[word: 4 * offset] = word }
        // As if nothing had ever happened, so that something gets through again.
        case 7: for offset in 512..<520 { guest[word: 4 * offset] = 0 }
        case 8: guest.fetch()
        case 9: guest.forget()
        case 10, 11, 12:
            let request = Step.Request(from: &random)
            _ = guest.put(Message(type: request.type, requestID: word, payload: request.payload).bytes)
        default: guest.signal()
        }
    }
}
