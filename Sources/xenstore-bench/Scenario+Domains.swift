// What many introduced domains cost, each of which does nothing.

/// The first and the last of the domains whose introduction is compared.
private let sample = 30
private let pageSize = 4096.0

extension Scenario {
    /// Introduces one domain and lets it read; introduces all others and lets it read again.
    static let domains = Scenario(
        name: "domains", title: "read through a ring beside idle domains", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        try daemon.requireFiles(scale.domains)
        let connection = try daemon.connect()
        try daemon.introduce(1, on: connection)
        let reads = try ReadLoad(on: connection, for: 1)
        let guest = Connection(try daemon.guest(of: 1))
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let alone = try daemon.run(size, on: guest, request: reads.add)
        let memory = try daemon.process.memory().resident
        let costs = try daemon.introduceDomains(from: 2, through: UInt32(scale.domains), scale, connection)
        let growth = Double(try daemon.process.memory().resident) - Double(memory)
        let beside = try daemon.run(size, on: guest, request: reads.add)
        let (first, last) = ends(costs)
        return [Figure("domains", .count, Double(costs.count + 1))]
            + figures(alone, beside, asked: .atMost(1.3)) + [
                Figure("daemon CPU, introduce one of the first \(sample)", .nanoseconds, first),
                Figure("daemon CPU, introduce one of the last \(sample)", .nanoseconds, last),
                Figure("last by first", .multiple, last / first, asked: .atMost(2)),
                Figure(
                    "RSS a domain, besides its page", .bytes, growth / Double(costs.count) - pageSize,
                    asked: .atMost(8192)),
            ]
    }
}

/// The median cost of the first and of the last `sample` steps.
private func ends(_ costs: [UInt64]) -> (Double, Double) {
    let middle = { (some: ArraySlice<UInt64>) in median(some.map { Double($0) }) ?? .nan }
    return (middle(costs.prefix(sample)), middle(costs.suffix(sample)))
}

extension Daemon {
    /// Introduces domains, but begins with none after `scale.buildSeconds`. Returns each one's cost in
    /// nanoseconds of the daemon's CPU.
    fileprivate func introduceDomains(
        from first: UInt32, through last: UInt32, _ scale: Scale, _ connection: Connection
    ) throws(Failure) -> [UInt64] {
        let deadline = now() + UInt64(scale.buildSeconds * 1e9)
        var costs: [UInt64] = []
        for domain in first...last where now() < deadline {
            let before = try cpuTime()
            try introduce(domain, on: connection)
            // Its reply may come before the daemon is done.
            try connection.call(.isDomainIntroduced, "\(domain)\0")
            costs.append(try cpuTime() - before)
        }
        return costs
    }
}
