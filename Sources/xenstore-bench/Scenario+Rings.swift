// Requests of a guest through its ring, one by one and in batches.

import Glibc

/// What a ring request may cost, as a multiple of the other daemon's.
private let asked: Bound = .ratioAtMost(0.6)
private let batch = 32
private let guestDomain: UInt32 = 1
/// While events are counted, nobody may look away for longer than this many nanoseconds.
private let longestPause: UInt32 = 5000

extension Scenario {
    static let ringRead = Scenario(
        name: "ring-read", title: "synchronous read through a ring"
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        try daemon.introduce(guestDomain, on: connection)
        let reads = try ReadLoad(on: connection, for: guestDomain)
        let guest = Connection(try daemon.guest(of: guestDomain))
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        return figures(of: try daemon.run(size, on: guest, request: reads.add), cpu: asked)
    }

    static let ringWrite = Scenario(
        name: "ring-write", title: "synchronous write through a ring"
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        try daemon.introduce(guestDomain, on: connection)
        _ = try ReadLoad(on: connection, for: guestDomain)
        let guest = Connection(try daemon.guest(of: guestDomain))
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        return figures(of: try daemon.run(size, on: guest, request: WriteLoad().add), cpu: asked)
    }

    /// Batches of 32 reads that a ring can hold, put there together and signalled once; the replies fit into
    /// the other ring.
    static let ringBatches = Scenario(
        name: "ring-batches", title: "32 reads at once through a ring", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        try daemon.introduce(guestDomain, on: connection)
        let node = Daemon.root + "/n"
        try connection.call(.write, node + "\0" + "12345678")
        try connection.call(.setPermissions, node + "\0n\(guestDomain)\0")
        let guest = try daemon.guest(of: guestDomain)
        let host = try daemon.simulatedHost()
        var requests = RequestBytes()
        for _ in 0..<batch { requests.add(.read, node + "\0") }
        try guest.exchange(requests, replyBytes: batch * 24, host)

        let before = try daemon.cpuTime()
        for _ in 0..<scale.batches { try guest.exchange(requests, replyBytes: batch * 24, host) }
        let cost = try daemon.cpuTime() - before

        let counter = try EventCounter(of: guest, on: host, daemonCPU: daemon.cpu)
        defer { counter.stop() }
        let (events, signals) = try counter.counts(scale.batches) { () throws(Failure) in
            try guest.exchange(requests, replyBytes: batch * 24, host, sleeping: false)
        }
        return [
            Figure(
                "daemon CPU a request", .nanoseconds, Double(cost) / Double(scale.batches * batch),
                asked: asked),
            Figure("batches whose events are counted", .count, Double(events.count)),
            Figure("events to the guest a batch", .count, mean(events), asked: .atMost(1)),
            Figure("events to the daemon a batch", .count, mean(signals), asked: .atMost(1)),
        ]
    }
}

private func mean(_ counts: [Int]) -> Double { Double(counts.reduce(0, +)) / Double(counts.count) }

extension EventCounter {
    /// The daemon's events in each of `wanted` batches, and ours; batches in which some of the daemon's may
    /// be missing do not count. Ends after ten seconds, and fails if it has fewer than ten batches then.
    fileprivate func counts(
        _ wanted: Int, exchange: () throws(Failure) -> Int
    ) throws(Failure) -> (events: [Int], signals: [Int]) {
        var events: [Int] = []
        var signals: [Int] = []
        let deadline = now() + 10_000_000_000
        while events.count < wanted, now() < deadline {
            var sent = 0
            let count = try count(longestPause: longestPause) { () throws(Failure) in sent = try exchange() }
            guard let count else { continue }
            events.append(count)
            signals.append(sent)
        }
        guard events.count >= 10 else { throw Failure("counting events needs a CPU beside the daemon's") }
        return (events, signals)
    }
}

extension RingTransport {
    /// Puts all of `requests` into the ring, signals, and takes `replyBytes` of replies; signals again
    /// whenever there is no progress for 100 ms. Returns how many times it has signalled.
    ///
    /// Events are waited for and taken; they are not even looked at unless `sleeping`.
    @discardableResult
    fileprivate func exchange(
        _ requests: RequestBytes, replyBytes: Int, _ host: SimulatedHost, sleeping: Bool = true
    ) throws(Failure) -> Int {
        let sent = try put(requests.bytes.span)
        guard sent == requests.bytes.count else { throw Failure("a batch that the ring does not hold") }
        var signals = 0
        var received = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: replyBytes, alignment: 16)
        defer { buffer.deallocate() }
        let deadline = now() + 10_000_000_000
        while received < replyBytes {
            guard now() < deadline else { throw Failure("a batch is not answered within 10 s") }
            try host.notifyDaemon(of: domain)
            signals += 1
            let progress = now()
            while received < replyBytes, now() < progress + 100_000_000 {
                if !sleeping {
                    usleep(20)
                } else if waitForEvent(milliseconds: 100) {
                    takePendingEvents()
                }
                received += try receive(into: buffer, waiting: false)
            }
        }
        guard received == replyBytes else { throw Failure("replies of \(received) bytes to a batch") }
        return signals
    }
}
