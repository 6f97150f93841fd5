// The list of what is measured. Each scenario is a function of one daemon, in a file with its family.

/// How much of everything. The bounds are asked at `full`; `small` only shows that everything runs.
struct Scale: Sendable {
    /// Requests of a load, and the seconds after which a slow daemon is let off the rest.
    var requests: Int
    var seconds: Double
    var watches: Int
    var idleConnections: Int
    /// Transactions that shall commit beside each other, and beside a writer.
    var commits: Int
    /// Nodes in the store, in a tree that is removed, and in one directory.
    var nodes: Int
    var treeNodes: Int
    var children: Int
    /// Domains that are introduced, and virtual machines that are created with all their nodes.
    var domains: Int
    var machines: Int
    /// Batches of requests through a ring.
    var batches: Int
    /// Seconds after which a daemon gets no more nodes, domains or machines.
    var buildSeconds: Double

    static let small = Scale(
        requests: 1000, seconds: 1, watches: 2000, idleConnections: 100, commits: 32, nodes: 20_000,
        treeNodes: 10_000, children: 1000, domains: 120, machines: 10, batches: 20, buildSeconds: 2)
    static let full = Scale(
        requests: 30_000, seconds: 3, watches: 50_000, idleConnections: 5000, commits: 320, nodes: 1_000_000,
        treeNodes: 100_000, children: 20_000, domains: 3000, machines: 1000, batches: 300, buildSeconds: 60)
}

struct Scenario: Sendable {
    /// What `--scenario` calls it.
    var name: String
    /// What the table calls it.
    var title: String
    /// More rounds than this are not worth their time.
    var mostRounds = Int.max
    /// Compares a daemon with itself, in ways that only ours knows: the first target alone is measured.
    var isOursAlone = false
    /// Measured only where `--scenario` names it.
    var isSpecial = false
    /// Measures a daemon that holds none of our nodes. It need not clean up.
    var measure: @Sendable (Daemon, Scale) throws(Failure) -> [Figure]

    static let all: [Scenario] = [
        .read, .write, .outstandingReads, .outstandingWrites,
        .watches, .idleConnections,
        .siblings, .hammer,
        .nodes, .tree, .directory,
        .ringRead, .ringWrite, .ringBatches,
        .domains, .machines,
        .appendLog, .tdbFile,
        .policedRead, .policedWrite, .policedRingWrite,
    ]
}

extension Daemon {
    /// Fails where the daemon or we may not have so many files open, connections and event channels included.
    func requireFiles(_ count: Int) throws(Failure) {
        for process in [Process.own, process] {
            guard let limit = process.openFileLimit(), limit > UInt(count) + 64 else {
                throw Failure("process \(process.pid) may not open \(count) files (ulimit -n)")
            }
        }
    }

    /// Runs a tenth of the load to warm up, then all of it, and counts the daemon's CPU time.
    func run(
        _ size: LoadSize, on connection: Connection, request: (Int, inout RequestBytes) -> Void
    ) throws(Failure) -> Load {
        let warmUp = LoadSize(
            requests: size.requests / 10, outstanding: size.outstanding, seconds: size.seconds / 10)
        _ = try connection.run(warmUp, request: request)
        let before = try cpuTime()
        var load = try connection.run(size, request: request)
        load.daemonTime = try cpuTime() - before
        return load
    }
}
