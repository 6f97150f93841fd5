// Single requests on one connection, synchronous and with 32 outstanding.

private let path = Daemon.root + "/domain/1/device/vif/0/state"
private let outstanding = 32

/// Reads of one node, seven levels deep, that holds 32 bytes.
struct ReadLoad {
    private let request = RequestBytes.one(.read, path + "\0")

    init(on connection: Connection) throws(Failure) {
        try connection.call(.write, path + "\0" + String(repeating: "a", count: 32))
    }

    /// The same, for a guest: the node becomes its own.
    init(on connection: Connection, for domain: UInt32) throws(Failure) {
        try self.init(on: connection)
        try connection.call(.setPermissions, path + "\0n\(domain)\0")
    }

    func add(_ index: Int, to bytes: inout RequestBytes) { bytes.add(request) }
}

/// Writes of 32 bytes to one node, seven levels deep; every other write changes the value.
struct WriteLoad {
    private let requests = ["a", "b"].map {
        RequestBytes.one(.write, path + "\0" + String(repeating: $0, count: 32))
    }

    func add(_ index: Int, to bytes: inout RequestBytes) { bytes.add(requests[index % 2]) }
}

extension Scenario {
    static let read = Scenario(name: "read", title: "synchronous read") { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let reads = try ReadLoad(on: connection)
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let load = try daemon.run(size, on: connection, request: reads.add)
        let memory = try daemon.process.memory()
        return figures(of: load, cpu: .ratioAtMost(0.65)) + [
            Figure("RSS", .bytes, Double(memory.resident)),
            Figure("PSS", .bytes, Double(memory.proportional)),
        ]
    }

    static let write = Scenario(name: "write", title: "synchronous write") {
        (daemon, scale) throws(Failure) in
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let load = try daemon.run(size, on: try daemon.connect(), request: WriteLoad().add)
        return figures(of: load, cpu: .ratioAtMost(0.65))
    }

    static let outstandingReads = Scenario(
        name: "reads-32", title: "reads, 32 outstanding"
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let reads = try ReadLoad(on: connection)
        let size = LoadSize(requests: 4 * scale.requests, outstanding: outstanding, seconds: scale.seconds)
        return figures(
            of: try daemon.run(size, on: connection, request: reads.add), throughput: .ratioAtLeast(3))
    }

    static let outstandingWrites = Scenario(
        name: "writes-32", title: "writes, 32 outstanding"
    ) { (daemon, scale) throws(Failure) in
        let size = LoadSize(requests: 4 * scale.requests, outstanding: outstanding, seconds: scale.seconds)
        let load = try daemon.run(size, on: try daemon.connect(), request: WriteLoad().add)
        return figures(of: load, throughput: .ratioAtLeast(3))
    }
}

func figures(of load: Load, cpu: Bound? = nil, throughput: Bound? = nil) -> [Figure] {
    [
        Figure("daemon CPU a request", .nanoseconds, load.cpuPerRequest, asked: cpu),
        Figure("requests a second", .perSecond, load.requestsPerSecond, asked: throughput),
        Figure("latency p50", .nanoseconds, load.latency(0.5)),
        Figure("latency p99", .nanoseconds, load.latency(0.99)),
    ]
}
