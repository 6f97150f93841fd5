// Many nodes: what one costs when there are many already, how long others wait while many go.

import XenStoreTypes

let perDirectory = 1000
private let outstanding = 32
/// What still counts as a flat cost: CPU caches are no part of the promise, growing lists and long chains
/// are.
private let flat: Bound = .atMost(1.5)
/// How long after a removal's reply others are still watched for work that was put off.
private let aftermath: UInt64 = 200_000_000

extension Scenario {
    /// `scale.nodes` nodes, 999 and their directory at a time, each leaf with a value of 8 bytes.
    static let nodes = Scenario(name: "nodes", title: "creating nodes", mostRounds: 2) {
        (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        try connection.call(.write, "\(Daemon.root)/nodes\0")
        let before = try daemon.process.memory()
        let start = now()
        let costs = try daemon.makeDirectories(scale.nodes / perDirectory, on: connection, scale)
        let elapsed = now() - start
        let after = try daemon.process.memory()
        let count = Double(costs.count * perDirectory)
        return [
            Figure("nodes", .count, count),
            Figure("daemon CPU a node", .nanoseconds, Double(costs.reduce(0, +)) / count),
            Figure("CPU, last tenth by first", .multiple, lastTenthByFirst(costs) ?? .nan, asked: flat),
            Figure("nodes a second", .perSecond, count * 1e9 / Double(elapsed)),
            Figure(
                "RSS a node", .bytes, growth(before.resident, after.resident) / count, asked: .atMost(120)),
            Figure("PSS a node", .bytes, growth(before.proportional, after.proportional) / count),
            Figure("RSS", .bytes, Double(after.resident)),
        ]
    }

    /// One connection removes a tree; another reads all the while, and for 0.2 s more.
    static let tree = Scenario(name: "tree", title: "removing a tree", mostRounds: 3) {
        (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let other = try daemon.connect()
        let reads = try ReadLoad(on: other)
        let costs = try daemon.makeDirectories(scale.treeNodes / perDirectory, on: connection, scale)
        let quiet = try other.run(LoadSize(requests: 1000, seconds: 1), request: reads.add)

        let start = now()
        try connection.send(.one(.remove, "\(Daemon.root)/nodes\0"))
        var longest: UInt64 = 0
        var worked: UInt64 = 0
        var removed: UInt64?
        while removed == nil || now() - start < removed! + aftermath {
            let before = try daemon.cpuTime()
            let read = try other.run(LoadSize(requests: 1, seconds: 60), request: reads.add)
            if read.latencies[0] > longest {
                longest = read.latencies[0]
                worked = try daemon.cpuTime() - before
            }
            if removed == nil, try connection.hasReply() {
                removed = now() - start
                try connection.takeReply()
            }
        }
        return [
            Figure("nodes", .count, Double(costs.count * perDirectory)),
            Figure("longest read meanwhile", .nanoseconds, Double(longest), asked: .atMost(20e6)),
            Figure("daemon CPU during that read", .nanoseconds, Double(worked)),
            Figure("longest read before", .nanoseconds, quiet.latency(1)),
            Figure("the removal's reply", .nanoseconds, Double(removed!)),
        ]
    }

    /// `scale.children` children of one directory, created and then removed one by one, oldest first.
    static let directory = Scenario(
        name: "directory", title: "children of one directory", mostRounds: 3
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let step = scale.children / 100
        let created = try daemon.steps(100, of: step, on: connection, scale.buildSeconds) { index, bytes in
            bytes.add(.write, "\(Daemon.root)/directory/child-\(index)\0x")
        }
        let removed = try daemon.steps(created.count, of: step, on: connection, scale.buildSeconds) {
            index, bytes in
            bytes.add(.remove, "\(Daemon.root)/directory/child-\(index)\0")
        }
        return [
            Figure("children created", .count, Double(created.count * step)),
            Figure("daemon CPU, create one", .nanoseconds, mean(created, step)),
            Figure(
                "creation, last tenth by first", .multiple, lastTenthByFirst(created) ?? .nan, asked: flat),
            Figure("children removed", .count, Double(removed.count * step)),
            Figure("daemon CPU, remove one", .nanoseconds, mean(removed, step)),
            Figure(
                "removal, first tenth by last", .multiple, lastTenthByFirst(removed.reversed()) ?? .nan,
                asked: flat),
        ]
    }
}

extension Daemon {
    /// Makes directories of `perDirectory` nodes (themselves included) below `/bench/nodes` until there are
    /// `count`, or until `scale.buildSeconds` have passed. Returns what each cost the daemon, in nanoseconds
    /// of CPU.
    func makeDirectories(
        _ count: Int, on connection: Connection, _ scale: Scale
    ) throws(Failure) -> [UInt64] {
        try steps(count, of: perDirectory - 1, on: connection, scale.buildSeconds) { index, bytes in
            let (directory, node) = index.quotientAndRemainder(dividingBy: perDirectory - 1)
            bytes.add(.write, "\(Daemon.root)/nodes/\(directory)/\(node)\0\(10_000_000 + index)")
        }
    }

    /// Sends `count` times `size` requests, numbered through, but begins no step after `seconds`. Returns
    /// each step's cost in nanoseconds of the daemon's CPU.
    func steps(
        _ count: Int, of size: Int, on connection: Connection, _ seconds: Double,
        request: (Int, inout RequestBytes) -> Void
    ) throws(Failure) -> [UInt64] {
        let deadline = now() + UInt64(seconds * 1e9)
        var costs: [UInt64] = []
        var before = try cpuTime()
        while costs.count < count, now() < deadline {
            let load = LoadSize(requests: size, outstanding: outstanding, seconds: 600)
            let done = try connection.run(load, from: costs.count * size, request: request)
            guard done.latencies.count == size else {
                throw Failure("\(size) requests take more than ten minutes")
            }
            let after = try cpuTime()
            costs.append(after - before)
            before = after
        }
        return costs
    }
}

private func growth(_ before: UInt64, _ after: UInt64) -> Double { Double(after) - Double(before) }

func mean(_ costs: [UInt64], _ step: Int) -> Double {
    Double(costs.reduce(0, +)) / Double(max(costs.count * step, 1))
}
