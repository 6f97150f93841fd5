// Does the rate limit slow down who asks too much, and nobody else?

import CXenStorePlugin
import Foundation
import Glibc
import RateLimitOptions
import Testing
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

private let second: UInt64 = 1_000_000_000

/// Asks as often as the policy lets it until `end`, beginning at `now`; answers how often that was.
private func flood(
    _ limit: PolicyTester, _ asked: Asked, from now: inout UInt64, until end: UInt64
) -> Int {
    var asked = asked
    var count = 0
    while now < end {
        asked.now = now
        let answer = limit.decide(asked)
        switch Int(answer.verdict) {
        case XENSTORE_ABSTAIN: count += 1
        case XENSTORE_DEFER:
            #expect((1...1000).contains(answer.delay))
            now += UInt64(answer.delay) * 1_000_000
        default: now += 1_000_000
        }
    }
    return count
}

@Suite struct RateLimitTests {
    @Test func aGuestGetsItsBurstAndThenItsRate() throws {
        let limit = try PolicyTester(rateLimit, [("requests", "100"), ("requests-burst", "50")])
        var now = 5 * second
        let count = flood(limit, Asked(.read, "/a"), from: &now, until: 15 * second)
        #expect((1049...1051).contains(count))
        // A second of rest is half a bucket's overflow.
        now += second
        #expect(flood(limit, Asked(.read, "/a"), from: &now, until: now + 1) == 50)
    }

    @Test(arguments: [1, 7, 99, 1000, 33_333, 1_000_000]) func everyRateIsKept(rate: Int) throws {
        let limit = try PolicyTester(rateLimit, [("requests", "\(rate)"), ("requests-burst", "\(rate)")])
        var now = second
        let count = flood(limit, Asked(.read, "/a"), from: &now, until: 3 * second)
        #expect(abs(count - 3 * rate) <= 1 + rate / 100)
    }

    /// Asking 90 times a second, beside another one who floods, is never put off.
    @Test func whoStaysBelowItsRateNoticesNothing() throws {
        let limit = try PolicyTester(rateLimit, [("requests", "100"), ("requests-burst", "2")])
        for step in UInt64(1)...900 {
            let now = second + step * second / 90
            var floods = Asked(.write, "/a", domain: 8)
            floods.now = now
            for _ in 0..<20 { _ = limit.decide(floods) }
            var polite = Asked(.write, "/a", domain: 7)
            polite.now = now
            #expect(limit.decide(polite).verdict == Int32(XENSTORE_ABSTAIN))
        }
    }

    @Test func transactionsHaveTokensOfTheirOwn() throws {
        let limit = try PolicyTester(
            rateLimit,
            [("transactions", "10"), ("transactions-burst", "5"), ("requests", "0"), ("events", "0")])
        let wanted = limit.interest.decides
        #expect(wanted == PolicyOperations(.transactionStart).rawValue)
        var now = second
        let count = flood(limit, Asked(.transactionStart), from: &now, until: 2 * second)
        #expect((14...15).contains(count))
    }

    // MARK: Events

    private func write(_ limit: PolicyTester, _ now: UInt64, events: Int, domain: UInt16 = 7) -> PolicyAnswer
    {
        var asked = Asked(.write, "/a", domain: domain)
        asked.now = now
        let answer = limit.decide(asked)
        for _ in 0..<events {
            var event = Asked(.event, "/a", domain: 9)
            event.now = now
            #expect(limit.decide(event).verdict == Int32(XENSTORE_ABSTAIN))
        }
        return answer
    }

    @Test func eventsAreChargedToWhoCausesThem() throws {
        let limit = try PolicyTester(
            rateLimit, [("events", "100"), ("events-burst", "100"), ("requests", "0")])
        #expect(write(limit, second, events: 300).verdict == Int32(XENSTORE_ABSTAIN))
        // 200 too many are two seconds.
        let answer = write(limit, second + 1, events: 0)
        #expect(answer.verdict == Int32(XENSTORE_DEFER) && answer.delay == 1000)
        #expect(answer.reason == "f.yaml:4:11: no more than 100 events a second")
        #expect(write(limit, 2 * second, events: 0).delay == 1000)
        #expect(write(limit, 3 * second, events: 0).verdict == Int32(XENSTORE_ABSTAIN))
        // Who has heard them has not paid for them.
        #expect(write(limit, second + 2, events: 0, domain: 9).verdict == Int32(XENSTORE_ABSTAIN))
    }

    @Test func eventsOfNobodysRequestAreFree() throws {
        let limit = try PolicyTester(rateLimit, [("events", "1"), ("events-burst", "1")])
        #expect(write(limit, second, events: 0).verdict == Int32(XENSTORE_ABSTAIN))
        for now in [second + 1, second + 2] {  // A domain has died.
            var event = Asked(.event, "@releaseDomain", domain: 9)
            event.now = now
            for _ in 0..<100 { _ = limit.decide(event) }
        }
        #expect(write(limit, second + 3, events: 0).verdict == Int32(XENSTORE_ABSTAIN))
        // The toolstack's are not the guest's that asked before it.
        #expect(write(limit, second + 4, events: 100, domain: 0).verdict == Int32(XENSTORE_ABSTAIN))
        #expect(write(limit, second + 4, events: 0).verdict == Int32(XENSTORE_ABSTAIN))
    }

    @Test func debtsAreForgivenAfterTenSeconds() throws {
        let limit = try PolicyTester(rateLimit, [("events", "1"), ("events-burst", "1")])
        #expect(write(limit, second, events: 100_000).verdict == Int32(XENSTORE_ABSTAIN))
        #expect(write(limit, 10 * second, events: 0).verdict == Int32(XENSTORE_DEFER))
        #expect(write(limit, 11 * second, events: 0).verdict == Int32(XENSTORE_ABSTAIN))
    }

    // MARK: Who

    @Test func theExemptAndThePrivilegedAreNotLimited() throws {
        let limit = try PolicyTester(rateLimit, [("requests", "1"), ("exempt", "3, 10-11")])
        for domain: UInt16 in [0, 3, 10, 11] {
            for _ in 0..<100 {
                let answer = limit.decide(Asked(.read, "/a", domain: domain))
                #expect(answer.verdict == Int32(XENSTORE_ABSTAIN))
            }
        }
        var now = second
        #expect(flood(limit, Asked(.read, "/a", domain: 12), from: &now, until: now + 1) == 2)
    }

    @Test(arguments: [("EBUSY", EBUSY), ("ENOSPC", ENOSPC)]) func usersAreRefused(name: String, code: Int32)
        throws
    {
        let limit = try PolicyTester(
            rateLimit, [("requests", "10"), ("requests-burst", "2"), ("refusal", name)])
        var asked = Asked(.read, "/a", domain: 0x7FF4)
        asked.peer = (1000, 50, 1)
        #expect((0..<3).map { _ in Int(limit.decide(asked).verdict) } == [0, 0, XENSTORE_DENY])
        let answer = limit.decide(asked)
        #expect(answer.error == code && answer.reason == "f.yaml:4:11: no more than 10 requests a second")
        asked.peer = (1001, 50, 1)
        #expect(limit.decide(asked).verdict == Int32(XENSTORE_ABSTAIN))
    }

    @Test func aDryRunTakesNothing() throws {
        let limit = try PolicyTester(rateLimit, [("requests", "1"), ("requests-burst", "1")])
        var dry = Asked(.read, "/a")
        dry.isDryRun = true
        for _ in 0..<100 { #expect(limit.decide(dry).verdict == Int32(XENSTORE_ABSTAIN)) }
        #expect(limit.decide(Asked(.read, "/a")).verdict == Int32(XENSTORE_ABSTAIN))
        #expect(limit.decide(dry).verdict == Int32(XENSTORE_DEFER))
    }

    @Test func aDomainThatIsGoneIsForgotten() throws {
        let limit = try PolicyTester(rateLimit, [("requests", "1"), ("requests-burst", "1")])
        #expect((0..<2).map { _ in Int(limit.decide(Asked(.read, "/a")).verdict) } == [0, XENSTORE_DEFER])
        limit.ended(7)
        #expect(limit.decide(Asked(.read, "/a")).verdict == Int32(XENSTORE_ABSTAIN))
    }

    @Test func aReloadGivesNobodyNewTokens() throws {
        let options = [("requests", "1"), ("requests-burst", "1")]
        let older = try PolicyTester(rateLimit, options)
        _ = older.decide(Asked(.read, "/a"))
        let newer = try PolicyTester(rateLimit, options)
        newer.inherit(from: older)
        older.close()
        #expect(newer.decide(Asked(.read, "/a")).verdict == Int32(XENSTORE_DEFER))
        #expect(newer.decide(Asked(.read, "/a", domain: 8)).verdict == Int32(XENSTORE_ABSTAIN))
    }

    private static let mistakes: [([(String, String)], String)] = [
        ([("requests", "fast")], "f.yaml:4:11: found \"fast\", expected a number from 0 to 1000000"),
        ([("events-burst", "0")], "f.yaml:4:11: found \"0\", expected a number from 1 to 10000000"),
        ([("refusal", "EPERM")], "f.yaml:4:11: found \"EPERM\", expected EBUSY or ENOSPC"),
    ]

    @Test(arguments: mistakes) func mistakesAreTold(options: [(String, String)], reason: String) {
        #expect(reasonOfFailure(rateLimit, options) == reason)
    }
}

/// Guests that keep their rings full until they are told to stop.
private final class Flood: @unchecked Sendable {
    private let guests: [SimulatedGuest]
    private let lock = NSLock()
    private var isOver = false
    private let ended = DispatchSemaphore(value: 0)
    /// Requests that were answered; to be read when it has stopped.
    private(set) var answered = 0

    init(_ guests: [SimulatedGuest]) { self.guests = guests }

    func start() {
        Thread.detachNewThread { [self] in
            let request = Message(.write, Array("x\0y".utf8)).bytes
            // A whole request or nothing: the ring's indexes count bytes.
            var rests = guests.map { _ in request[...] }
            while !lock.withLock({ isOver }) {
                for (index, guest) in guests.enumerated() {
                    var isSent = false
                    while let count = guest.put(rests[index]), count > 0 {
                        isSent = true
                        rests[index] = rests[index].dropFirst(count)
                        if rests[index].isEmpty { rests[index] = request[...] }
                    }
                    if isSent { guest.signal() }
                    while guest.receive(0) != nil { answered += 1 }
                }
            }
            ended.signal()
        }
    }

    func stop() {
        lock.withLock { isOver = true }
        ended.wait()
    }
}

@Suite(.serialized, .timeLimit(.minutes(10))) struct RateLimitDaemonTests {
    /// What a polite guest's requests took while four others flooded the daemon for three seconds.
    private func measure(_ policies: String) async throws -> (times: [UInt64], answered: Int, cpu: Double) {
        let daemon = try ModuleDaemon(policies: policies)
        let toolstack = try await daemon.connect()
        let polite = try await daemon.guest(1, toolstack)
        var guests: [SimulatedGuest] = []
        for id in UInt16(2)...5 { guests.append(try await daemon.guest(id, toolstack)) }
        let flood = Flood(guests)
        flood.start()
        var times: [UInt64] = []
        let before = daemon.cpuSeconds
        for _ in 0..<300 {
            let start = DispatchTime.now().uptimeNanoseconds
            #expect(polite.text(.write, "state\04") == "OK|")
            times.append(DispatchTime.now().uptimeNanoseconds - start)
            usleep(10_000)
        }
        let cpu = daemon.cpuSeconds - before
        flood.stop()
        return (times.sorted(), flood.answered, cpu)
    }

    @Test func aFloodIsSlowedDownAndNobodyElse() async throws {
        let limited = try await measure(
            """
              - module: rate-limit
                options: { requests: 200, requests-burst: 200 }
            """)
        // Four guests, a burst and three seconds (and what the machine made of them).
        #expect(limited.answered > 4 * 200 && limited.answered < 4 * 200 * 8)
        let free = try await measure(" []")
        #expect(free.answered > 5 * limited.answered)
        #expect(limited.cpu < free.cpu)
        func text(_ run: (times: [UInt64], answered: Int, cpu: Double)) -> String {
            "p50 \(run.times[150] / 1000) us, p99 \(run.times[297] / 1000) us, \(run.answered) flooding "
                + "requests answered, the daemon's CPU \(run.cpu) s"
        }
        print("rate-limit: \(text(limited)); without: \(text(free))")
        #expect(limited.times[150] < 10_000_000)
    }

    @Test func requestsOfOneGuestArePutOff() async throws {
        let daemon = try ModuleDaemon(
            policies: """
                  - module: rate-limit
                    options: { requests: 5 }
                """)
        let toolstack = try await daemon.connect()
        for _ in 0..<100 { try await toolstack.write("/a", "b") }
        let guest = try await daemon.guest(3, toolstack)
        let start = DispatchTime.now().uptimeNanoseconds
        for _ in 0..<15 { #expect(guest.text(.read, "domid\0") == "ENOENT|") }
        let elapsed = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
        // Ten at once, five at a rate of five a second.
        #expect(elapsed > 0.9 && elapsed < 5)
    }
}
