// What a store backend that keeps the tree costs beside `memory`: a write, the longest waits, the disk, a
// start.

import Glibc

/// Loads of each daemon by turns, within one measurement.
private let turns = 5
/// Nodes that the writes of a load go to in turn, as a host's nodes are written to: again and again, but not
/// always the same.
private let written = 1000

extension Scenario {
    static let appendLog = store("append-log", cpu: 1.15, start: 1e9)
    static let tdbFile = store("tdb-file", cpu: 1.6, start: 3e9)

    private static func store(_ backend: String, cpu: Double, start: Double) -> Scenario {
        Scenario(name: backend, title: "a store kept in \(backend)", mostRounds: 3, isOursAlone: true) {
            (memory, scale) throws(Failure) in
            let daemon = try memory.beside(store: backend)
            defer { daemon.stop() }
            return try writes(memory, daemon, scale, asked: cpu) + grown(memory, daemon, scale, asked: start)
        }
    }

    /// Writes by turns to a daemon without and to one with the store, and how long they took at worst.
    private static func writes(
        _ memory: Daemon, _ daemon: Daemon, _ scale: Scale, asked: Double
    ) throws(Failure) -> [Figure] {
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let several = LoadSize(requests: 4 * scale.requests, outstanding: 32, seconds: scale.seconds)
        var (alone, kept, single) = ([Double](), [Double](), [Double]())
        var (aloneAtOnce, keptAtOnce) = ([Double](), [Double]())
        var latencies: [UInt64] = []
        let (first, second) = (try memory.connect(), try daemon.connect())
        for _ in 0..<turns {
            alone.append(try memory.run(size, on: first, request: write).cpuPerRequest)
            let load = try daemon.run(size, on: second, request: write)
            kept.append(load.cpuPerRequest)
            latencies += load.latencies
            single.append(try daemon.run(size, on: second, request: WriteLoad().add).cpuPerRequest)
            aloneAtOnce.append(try memory.run(several, on: first, request: write).cpuPerRequest)
            keptAtOnce.append(try daemon.run(several, on: second, request: write).cpuPerRequest)
        }
        let all = Load(latencies: latencies)
        return [
            Figure("daemon CPU a write, in memory", .nanoseconds, median(alone) ?? .nan),
            Figure("daemon CPU a write, kept", .nanoseconds, median(kept) ?? .nan),
            Figure(
                "CPU, times in memory", .multiple, medianRatio(kept, alone) ?? .nan, asked: .atMost(asked)),
            Figure("daemon CPU a write of one node, kept", .nanoseconds, median(single) ?? .nan),
            Figure("32 outstanding, in memory", .nanoseconds, median(aloneAtOnce) ?? .nan),
            Figure("32 outstanding, kept", .nanoseconds, median(keptAtOnce) ?? .nan),
            Figure("latency p99.9, kept", .nanoseconds, all.latency(0.999), asked: .atMost(5e6)),
            Figure("longest, kept", .nanoseconds, all.latency(1)),
        ]
    }

    /// The nodes of `nodes`, written twice, and a start with them.
    private static func grown(
        _ memory: Daemon, _ daemon: Daemon, _ scale: Scale, asked: Double
    ) throws(Failure) -> [Figure] {
        let connection = try daemon.connect()
        let before = try daemon.process.memory().resident
        let costs = try daemon.makeDirectories(scale.nodes / perDirectory, on: connection, scale)
        let nodes = Double(costs.count * perDirectory)
        let once = try memory.makeDirectories(scale.nodes / perDirectory, on: memory.connect(), scale)
        let tree = Double(try daemon.process.memory().resident - before)
        _ = try daemon.makeDirectories(scale.nodes / perDirectory, on: connection, scale)
        let kept = try daemon.settledStoreSize()
        let time = try daemon.restart()
        let cpu = try daemon.cpuTime()
        let count = try daemon.connect().children(of: Daemon.root + "/nodes")
        guard count == costs.count else { throw Failure("\(count) of \(costs.count) directories came back") }
        return [
            Figure("nodes", .count, nodes),
            Figure("daemon CPU to create one, in memory", .nanoseconds, mean(once, perDirectory)),
            Figure("daemon CPU to create one, kept", .nanoseconds, mean(costs, perDirectory)),
            Figure("file a node, all written twice", .bytes, Double(kept) / nodes),
            Figure("resident memory a node", .bytes, tree / nodes),
            Figure("from start to first answer", .nanoseconds, Double(time), asked: .atMost(asked)),
            Figure("daemon CPU of the start", .nanoseconds, Double(cpu)),
        ]
    }

    private static func write(_ index: Int, to bytes: inout RequestBytes) {
        let node = index % written
        bytes.add(.write, "\(Daemon.root)/written/\(node / 30)/device/vif/\(node % 30)\0\(100_000 + index)")
    }
}

extension Daemon {
    /// The size of the file that keeps the tree once it has not changed for two seconds, in bytes.
    fileprivate func settledStoreSize() throws(Failure) -> UInt64 {
        var (last, same) = (try storeSize(), 0)
        for _ in 0..<300 where same < 20 {
            usleep(100_000)
            let size = try storeSize()
            same = size == last ? same + 1 : 0
            last = size
        }
        return last
    }
}

extension Connection {
    /// How many children a node has, that fit into one reply.
    fileprivate func children(of path: String) throws(Failure) -> Int {
        try call(.directory, path + "\0").count { $0 == "\0" }
    }
}
