// Do the two sides agree when they run at the same time, and does the daemon's side stay whole when the other
// writes what it likes?

import CRing
import Dispatch
import Glibc
import Synchronization
import Testing
import XenStoreRing
import XenStoreTestKit

/// Seconds of a clock that only goes forward.
private func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// What went wrong in the threads of a test; its first line tells enough.
private final class Report: Sendable {
    private let lines = Mutex<[String]>([])
    let isStopped = Atomic<Bool>(false)

    func fail(_ line: String) {
        lines.withLock { $0.append(line) }
        isStopped.store(true, ordering: .relaxed)
    }
    var failures: [String] { lines.withLock { $0 } }
}

/// One side: a stream to put, a stream to take, and how far both are.
private struct Side {
    /// Bytes of the stream each way.
    static let total = 3 << 20
    static let sent = stream(0, total)

    let name: String
    let page: SharedPage
    let puts: Direction
    let takes: Direction
    let report: Report
    var random: SplitMix64
    private(set) var putCount = 0
    private(set) var takenCount = 0
    private let room = GuardedMemory(count: 4096)

    init(_ name: String, _ page: SharedPage, puts: Direction, takes: Direction, _ report: Report) {
        self.name = name
        self.page = page
        self.puts = puts
        self.takes = takes
        self.report = report
        random = SplitMix64(seed: UInt64(page[word: puts.producer]))
    }

    var isDone: Bool { (putCount == Self.total && takenCount == Self.total) || isStopped }
    var isStopped: Bool { report.isStopped.load(ordering: .relaxed) }

    /// Puts some bytes of its stream; returns how many.
    mutating func put() -> Int {
        let end = min(Self.total, putCount + 1 + random.below(1500))
        let bytes = Self.sent.span.extracting(putCount..<end)
        guard case .moved(let count) = puts == .request ? page.ring.sendRequest(bytes) : page.ring.send(bytes)
        else {
            report.fail("\(name): a bad index after putting \(putCount)")
            return 0
        }
        putCount += count
        return count
    }

    /// Takes some bytes and looks whether they are the stream's; returns how many.
    mutating func take() -> Int {
        let room = room.last(1 + random.below(1500))
        guard case .moved(let count) = takes.take(into: room, page.ring) else {
            report.fail("\(name): a bad index after taking \(takenCount)")
            return 0
        }
        let isRight = Self.sent.withUnsafeBytes { sent in
            takenCount + count <= sent.count
                && (count == 0
                    || memcmp(room.baseAddress!, sent.baseAddress! + takenCount, count) == 0)
        }
        if !isRight { report.fail("\(name): wrong bytes within \(count) from \(takenCount)") }
        takenCount += count
        return count
    }
}

/// The two sides of a page whose indexes wrap around on the way.
private func sides(_ report: Report) -> (guest: Side, daemon: Side) {
    let page = SharedPage()
    page.start(.request, at: 0 &- 1_000_001)
    page.start(.response, at: 0 &- 2_000_003)
    return (
        Side("guest", page, puts: .request, takes: .response, report),
        Side("daemon", page, puts: .response, takes: .request, report)
    )
}

@Suite(.serialized) struct RingThreadTests {
    /// Megabytes each way at once, at full speed, in pieces of random size: every byte, in order.
    @Test func streamsKeepTheirOrder() {
        let report = Report()
        let (guest, daemon) = sides(report)
        let threads = [guest, daemon].map { side in
            Thread {
                var side = side
                let deadline = now() + 60
                while !side.isDone {
                    if side.put() + side.take() == 0 {
                        sched_yield()
                        if now() > deadline { report.fail("\(side.name): no end in sight") }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(report.failures == [])
        #expect(guest.page.ring.requestCount == .moved(0))
    }

    /// A guest that signals as little as Linux does, and a daemon that sleeps only when the file says it may:
    /// nobody is left asleep.
    @Test func nobodySleepsForEver() {
        let report = Report()
        let (guest, daemon) = sides(report)
        let guestBell = DispatchSemaphore(value: 0)
        let daemonBell = DispatchSemaphore(value: 0)
        @Sendable func sleep(_ side: Side, _ bell: DispatchSemaphore) {
            while !side.isStopped && bell.wait(timeout: .now() + 10) == .timedOut {
                report.fail("\(side.name): asleep after \(side.putCount) put, \(side.takenCount) taken")
            }
        }
        let daemonThread = Thread {
            var side = daemon
            while !side.isDone {
                var moved = 0
                while true {
                    let count = side.put() + side.take()
                    moved += count
                    if count == 0 { break }
                }
                if moved > 0 { guestBell.signal() }
                if !side.isDone { sleep(side, daemonBell) }
            }
        }
        let guestThread = Thread {
            var side = guest
            let page = side.page.memory.bytes.baseAddress!
            while !side.isDone {
                let producer = ring_load(page + Direction.request.producer)
                let putCount = side.put()
                if putCount > 0 && ring_load(page + Direction.request.consumer) == producer {
                    daemonBell.signal()
                }
                let consumer = ring_load(page + Direction.response.consumer)
                let takenCount = side.take()
                if takenCount > 0 && ring_load(page + Direction.response.producer) &- consumer >= 1024 {
                    daemonBell.signal()
                }
                if putCount + takenCount == 0 && !side.isDone { sleep(side, guestBell) }
            }
        }
        daemonThread.join()
        guestThread.join()
        #expect(report.failures == [])
    }
}

/// What the daemon's side met on a hostile page.
private struct Tally {
    var calls = 0
    var received = 0
    var sent = 0
    var badRequests = 0
    var badResponses = 0
    var reconnections = 0

    /// Nothing that can happen is still missing.
    var isComplete: Bool {
        calls > 20_000
            && [received, sent, badRequests, badResponses, reconnections].allSatisfy { $0 > 100 }
    }
}

@Suite(.serialized) struct HostilePageTests {
    /// Words, bytes and indexes at random, all over the page, as fast as a thread can.
    private static func writeNonsense(_ page: SharedPage, until report: Report) {
        var random = SplitMix64(seed: 1)
        let bytes = page.memory.bytes
        while !report.isStopped.load(ordering: .relaxed) {
            let index = bytes.baseAddress! + 2048 + 4 * random.below(4)
            switch random.below(6) {
            case 0: ring_store(bytes.baseAddress! + 4 * random.below(1024), UInt32(random.below(1 << 32)))
            case 1: bytes[random.below(4096)] = UInt8(random.below(256))
            case 2: ring_store(index, UInt32(random.below(1 << 32)))
            case 3: ring_store(index, ring_load(index) &+ UInt32(random.below(1100)))
            case 4: ring_store(index, ring_load(index) &- UInt32(random.below(1100)))
            default: ring_store(bytes.baseAddress! + 2068, UInt32(random.below(3)))
            }
        }
    }

    /// The daemon's calls: none moves more than a ring or more than there is room for, or touches what lies
    /// beside page and buffer (where nothing may be touched at all), or lasts.
    @Test(.timeLimit(.minutes(10))) func theDaemonStaysWhole() {
        let page = SharedPage()
        let report = Report()
        let guest = Thread { Self.writeNonsense(page, until: report) }
        let room = GuardedMemory(count: 4096)
        var random = SplitMix64(seed: 2)
        var tally = Tally()
        let deadline = now() + 40
        while !tally.isComplete && now() < deadline && report.failures.isEmpty {
            tally.calls += 1
            let buffer = room.last(random.below(random.chance(50) ? 4097 : 100))
            if random.chance(50) {
                buffer.initializeMemory(as: UInt8.self, repeating: 0xCC)
                switch page.ring.receive(into: buffer) {
                case .badIndex: tally.badRequests += 1
                case .moved(let count):
                    if count > min(buffer.count, 1024) { report.fail("\(count) into \(buffer.count)") }
                    if !buffer.dropFirst(count).allSatisfy({ $0 == 0xCC }) {
                        report.fail("written past \(count)")
                    }
                    tally.received += min(count, 1)
                }
            } else {
                switch page.ring.send(buffer.bindMemory(to: UInt8.self).span) {
                case .badIndex: tally.badResponses += 1
                case .moved(let count):
                    if count > min(buffer.count, 1024) { report.fail("\(count) of \(buffer.count)") }
                    tally.sent += min(count, 1)
                }
            }
            if case .moved(let count) = page.ring.requestCount, !(0...1024).contains(count) {
                report.fail("\(count) waiting")
            }
            if random.chance(5) { page.ring.setError(.badIndex) }
            if page.ring.isReconnectRequested {
                tally.reconnections += 1
                page.ring.reset()
                page.ring.confirmConnection()
            }
        }
        let failures = report.failures
        report.isStopped.store(true, ordering: .relaxed)
        guest.join()
        #expect(failures == [])
        #expect(tally.isComplete, "\(tally)")

        // Once the guest has come to its senses, the page is as good as new.
        page.ring.reset()
        for direction in Direction.allCases {
            #expect(direction.put(stream(0, 1024), page.ring) == .moved(1024))
            #expect(direction.take(1024, page.ring) == stream(0, 1024))
        }
    }
}
