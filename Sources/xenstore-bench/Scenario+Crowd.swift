// One request while others merely have something: watches elsewhere, or connections on which nothing happens.

private let watchesPerConnection = 1000
private let asked: Bound = .atMost(1.2)

extension Scenario {
    static let watches = Scenario(
        name: "watches", title: "write beside unrelated watches", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let alone = try daemon.run(size, on: connection, request: WriteLoad().add)
        let memory = try daemon.process.memory().resident
        var watchers: [Connection] = []
        for group in 0..<(scale.watches / watchesPerConnection) {
            watchers.append(try watcher(group, on: daemon))
        }
        let growth = Double(try daemon.process.memory().resident) - Double(memory)
        let beside = try daemon.run(size, on: connection, request: WriteLoad().add)
        let count = watchers.count * watchesPerConnection
        return [Figure("watches", .count, Double(count))] + figures(alone, beside, asked: asked)
            + [Figure("RSS a watch", .bytes, growth / Double(count))]
    }

    static let idleConnections = Scenario(
        name: "idle", title: "read beside idle connections", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        try daemon.requireFiles(scale.idleConnections)
        let connection = try daemon.connect()
        let reads = try ReadLoad(on: connection)
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let alone = try daemon.run(size, on: connection, request: reads.add)
        let memory = try daemon.process.memory().resident
        var idle: [Connection] = []
        for _ in 0..<scale.idleConnections { idle.append(try daemon.connect()) }
        // The last one is served: so all were accepted, and are not merely in the socket's backlog.
        try idle.last?.call(.read, "/\0")
        let growth = Double(try daemon.process.memory().resident) - Double(memory)
        let beside = try daemon.run(size, on: connection, request: reads.add)
        return [Figure("connections", .count, Double(idle.count))] + figures(alone, beside, asked: asked)
            + [Figure("RSS a connection", .bytes, growth / Double(idle.count))]
    }
}

/// A connection with `watchesPerConnection` watches on paths that nobody writes.
private func watcher(_ group: Int, on daemon: Daemon) throws(Failure) -> Connection {
    let connection = try daemon.connect()
    let size = LoadSize(requests: watchesPerConnection, outstanding: 32, seconds: 60)
    let load = try connection.run(size) { index, bytes in
        bytes.add(.watch, "\(Daemon.root)/elsewhere/\(group)/\(index)\0token-\(index)\0")
    }
    guard load.latencies.count == watchesPerConnection else {
        throw Failure("watches take more than a minute")
    }
    return connection
}

/// Both by CPU time and by the median latency: the one does not see waiting, the other hardly sees spinning.
func figures(_ alone: Load, _ beside: Load, asked bound: Bound) -> [Figure] {
    [
        Figure("daemon CPU, alone", .nanoseconds, alone.cpuPerRequest),
        Figure("daemon CPU, beside them", .nanoseconds, beside.cpuPerRequest),
        Figure("CPU, times alone", .multiple, beside.cpuPerRequest / alone.cpuPerRequest, asked: bound),
        Figure("latency p50, alone", .nanoseconds, alone.latency(0.5)),
        Figure("latency p50, beside them", .nanoseconds, beside.latency(0.5)),
        Figure("latency p99, beside them", .nanoseconds, beside.latency(0.99)),
        Figure("p50, times alone", .multiple, beside.latency(0.5) / alone.latency(0.5), asked: bound),
    ]
}
