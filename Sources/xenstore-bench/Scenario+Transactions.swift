// Transactions beside transactions that should not disturb them, and beside a writer that does.

import Glibc

private let clients = 16

extension Scenario {
    /// All clients begin, all create a child of their own under one parent, all commit; and again, another
    /// one committing first. Who gets EAGAIN tries again in the next turn.
    static let siblings = Scenario(
        name: "siblings", title: "16 clients create siblings in transactions", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        var connections: [Connection] = []
        for _ in 0..<clients { connections.append(try daemon.connect()) }
        try connections[0].call(.write, "\(Daemon.root)/siblings\0")
        var commits = 0
        var conflicts = 0
        var turn = 0
        let start = now()
        while commits < scale.commits, conflicts < 100 * scale.commits {
            var transactions: [UInt32] = []
            for connection in connections { transactions.append(try connection.begin()) }
            for (client, connection) in connections.enumerated() {
                let child = "\(Daemon.root)/siblings/\(client)-\(turn)"
                try connection.call(.write, transaction: transactions[client], child + "\0x")
            }
            for place in 0..<clients {
                let client = (place + turn) % clients
                if try connections[client].commit(transactions[client]) {
                    commits += 1
                } else {
                    conflicts += 1
                }
            }
            turn += 1
        }
        let seconds = Double(now() - start) / 1e9
        return [
            Figure("commits", .count, Double(commits)),
            Figure("EAGAIN a commit", .count, Double(conflicts) / Double(max(commits, 1)), asked: .atMost(0)),
            Figure("commits a second", .perSecond, Double(commits) / seconds),
        ]
    }

    /// Each transaction reads one node and writes another, while a second connection writes the first with 32
    /// requests outstanding. It is tried until it commits, or 200 times, or for 5 seconds, and after one
    /// failure no more.
    static let hammer = Scenario(
        name: "hammer", title: "transaction beside a writer of what it reads", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let node = Daemon.root + "/hammered"
        let writer = try HammeringWriter(of: node, on: daemon)
        defer { writer.stop() }
        let wanted = max(scale.commits / 16, 1)
        var tried = 0
        var committed = 0
        var attempts = 0
        var longest: UInt64 = 0
        let start = now()
        while tried < wanted, committed == tried {
            let begun = now()
            let (done, more) = try connection.copyUntilCommitted(from: node, attempts: 200, seconds: 5)
            tried += 1
            committed += done ? 1 : 0
            attempts += more
            longest = max(longest, now() - begun)
        }
        let elapsed = now() - start
        let writes = writer.stop()
        return [
            Figure("transactions", .count, Double(tried)),
            Figure("share committed", .count, Double(committed) / Double(tried), asked: .atLeast(1)),
            Figure("attempts a transaction", .count, Double(attempts) / Double(tried)),
            Figure("longest until committed", .nanoseconds, Double(longest)),
            Figure("writer's writes a second", .perSecond, Double(writes) * 1e9 / Double(elapsed)),
        ]
    }
}

extension Connection {
    func begin() throws(Failure) -> UInt32 {
        let reply = try call(.transactionStart, "\0")
        guard let id = UInt32(reply.dropLast()) else { throw Failure("no transaction id: \(reply)") }
        return id
    }

    /// False where the transaction met a conflict.
    func commit(_ transaction: UInt32) throws(Failure) -> Bool {
        try callUnlessAgain(.transactionEnd, transaction: transaction, "T\0") != nil
    }

    fileprivate func copyUntilCommitted(
        from node: String, attempts: Int, seconds: UInt64
    ) throws(Failure) -> (committed: Bool, attempts: Int) {
        let deadline = now() + seconds * 1_000_000_000
        for attempt in 1...attempts {
            let transaction = try begin()
            let value = try call(.read, transaction: transaction, node + "\0")
            try call(.write, transaction: transaction, "\(Daemon.root)/copy\0\(value)")
            if try commit(transaction) { return (true, attempt) }
            if now() > deadline { return (false, attempt) }
        }
        return (false, attempts)
    }
}
