// Drives one connection with many requests and keeps the times.

import XenStoreTypes

/// How long requests took, each and together.
struct Load {
    /// Nanoseconds from sending a request to having its reply, in the order of the requests.
    var latencies: [UInt64] = []
    /// Nanoseconds from the first request to the last reply.
    var elapsed: UInt64 = 0
    /// Nanoseconds of CPU time that the daemon took meanwhile.
    var daemonTime: UInt64 = 0

    var cpuPerRequest: Double { Double(daemonTime) / Double(max(latencies.count, 1)) }
    var requestsPerSecond: Double { Double(latencies.count) * 1e9 / Double(max(elapsed, 1)) }

    /// The percentile's latency in nanoseconds; not a number if nothing was asked.
    func latency(_ share: Double) -> Double {
        percentile(share, of: latencies).map { Double($0) } ?? .nan
    }
}

/// How many requests a load is, and when it may end before.
struct LoadSize: Sendable {
    var requests: Int
    /// Requests that may be unanswered at a time: 1 is synchronous.
    var outstanding = 1
    /// Seconds after which no more requests are sent. A slow daemon is measured by fewer requests, not for an
    /// hour.
    var seconds: Double
}

extension Connection {
    /// Asks `size.requests` times, where `request(i, &bytes)` adds the request number i; fails at the first
    /// ERROR.
    ///
    /// Outstanding requests are topped up with one write as soon as all replies that have arrived are taken.
    func run(
        _ size: LoadSize, from first: Int = 0, request: (Int, inout RequestBytes) -> Void
    ) throws(Failure) -> Load {
        var load = Load()
        load.latencies.reserveCapacity(size.requests)
        var sentAt = [UInt64](repeating: 0, count: size.outstanding)
        var batch = RequestBytes()
        var sent = 0
        var end = size.requests
        let start = now()
        let deadline = start + UInt64(size.seconds * 1e9)
        var time = start
        while load.latencies.count < end {
            if time > deadline { end = sent }
            let more = min(size.outstanding - (sent - load.latencies.count), end - sent)
            if more > 0 {
                batch.removeAll()
                for index in sent..<(sent + more) {
                    request(first + index, &batch)
                    sentAt[index % size.outstanding] = time
                }
                sent += more
                try send(batch)
            } else if sent == load.latencies.count {
                break
            }
            try takeReply()
            time = now()
            load.latencies.append(time - sentAt[load.latencies.count % size.outstanding])
            while load.latencies.count < sent, hasBufferedMessage, try hasReply() {
                try takeReply()
                load.latencies.append(time - sentAt[load.latencies.count % size.outstanding])
            }
        }
        load.elapsed = time - start
        return load
    }
}
