// Virtual machines as a toolstack creates them, alone and beside many others.

import XenStoreTypes

/// How many creations are measured, each removed again before the next.
private let sample = 20
/// Ids of the machines that are measured; those that stay have the ones above.
private let sampleDomain: UInt32 = 1

extension Scenario {
    /// Creates machines one at a time, first alone, then beside `scale.machines` that stay.
    static let machines = Scenario(name: "machines", title: "creating a virtual machine", mostRounds: 2) {
        (daemon, scale) throws(Failure) in
        // A monitor and an event channel for each.
        try daemon.requireFiles(2 * scale.machines)
        let rows = try TableRow.parse(virtualMachineCreation)
        let park = try MachinePark(on: daemon, rows)
        // The first one warms up.
        _ = try park.createAndRemove(sampleDomain)
        let alone = try park.sample()
        let memory = try daemon.process.memory().resident
        let deadline = now() + UInt64(scale.buildSeconds * 1e9)
        var machines: [Machine] = []
        while machines.count < scale.machines, now() < deadline {
            machines.append(try park.create(sampleDomain + 1 + UInt32(machines.count)))
        }
        let growth = Double(try daemon.process.memory().resident) - Double(memory)
        let beside = try park.sample()
        return [
            Figure("machines", .count, Double(machines.count)),
            Figure("requests a machine", .count, Double(rows.count)),
            Figure("daemon CPU, alone", .nanoseconds, alone.cpu),
            Figure("daemon CPU, beside them", .nanoseconds, beside.cpu),
            Figure("CPU, times alone", .multiple, beside.cpu / alone.cpu, asked: .atMost(1.5)),
            Figure("time, alone", .nanoseconds, alone.elapsed),
            Figure("time, beside them", .nanoseconds, beside.elapsed),
            Figure("RSS a machine, its page included", .bytes, growth / Double(machines.count)),
        ]
    }
}

/// A machine that is there: the connections that last as long as it does.
private struct Machine {
    var machine: VirtualMachine
    var monitor: Connection
    var guest: Connection?
}

/// Creates and removes machines in one daemon. The toolstack has a connection a machine, which it closes
/// when the machine is there; the kernel has one for all.
private final class MachinePark {
    private let daemon: Daemon
    private let rows: [TableRow]
    private let kernel: Connection

    init(on daemon: Daemon, _ rows: [TableRow]) throws(Failure) {
        self.daemon = daemon
        self.rows = rows
        kernel = try daemon.connect()
        // What a host has before its first machine.
        for path in ["/local/domain/0/backend", "/vm", "/libxl"] {
            try kernel.call(.makeDirectory, path + "\0")
        }
        try kernel.call(.watch, "/local/domain/0/backend\0backend\0")
        try kernel.call(.watch, "@introduceDomain\0domains\0")
        try kernel.call(.watch, "@releaseDomain\0domains\0")
    }

    /// The medians of what a creation costs, each in nanoseconds.
    func sample() throws(Failure) -> (cpu: Double, elapsed: Double) {
        var costs: [Double] = []
        var times: [Double] = []
        for _ in 0..<xenstore_bench.sample {
            let (cost, time) = try createAndRemove(sampleDomain)
            costs.append(Double(cost))
            times.append(Double(time))
        }
        return (median(costs) ?? .nan, median(times) ?? .nan)
    }

    /// Only the creation is measured: the daemon's CPU time, and time by the clock.
    func createAndRemove(_ domain: UInt32) throws(Failure) -> (cpu: UInt64, elapsed: UInt64) {
        let before = try daemon.cpuTime()
        let start = now()
        let created = try create(domain)
        let elapsed = now() - start
        let cpu = try daemon.cpuTime() - before
        try remove(created)
        return (cpu, elapsed)
    }

    /// Asks all that the table says, one after the other.
    func create(_ domain: UInt32) throws(Failure) -> Machine {
        let machine = VirtualMachine(domain: domain)
        try daemon.simulatedHost().create(domain)
        let tool = try daemon.connect()
        var created = Machine(machine: machine, monitor: try daemon.connect(), guest: nil)
        var transactions: [Speaker: UInt32] = [:]
        for row in rows {
            let connection =
                switch row.speaker {
                case .tool: tool
                case .monitor: created.monitor
                case .kernel: kernel
                case .guest: try created.guest(on: daemon)
                }
            switch row.type {
            case .transactionStart: transactions[row.speaker] = try connection.begin()
            case .transactionEnd:
                let transaction = transactions.removeValue(forKey: row.speaker) ?? 0
                guard try connection.commit(transaction) else { throw Failure("EAGAIN without a rival") }
            default:
                let transaction = transactions[row.speaker] ?? 0
                try connection.call(row.type, transaction: transaction, row.payload(for: machine))
            }
        }
        return created
    }

    /// The end of a machine, as the toolstack sees to it.
    private func remove(_ created: Machine) throws(Failure) {
        let machine = created.machine
        let tool = try daemon.connect()
        try tool.call(.release, "\(machine.domain)\0")
        try daemon.simulatedHost().remove(machine.domain)
        for row in rows where row.speaker == .kernel && row.type == .watch {
            try kernel.call(.unwatch, row.payload(for: machine))
        }
        for top in machine.tops { try tool.call(.remove, top + "\0") }
    }
}

extension Machine {
    /// The guest's connection, from its first request on.
    mutating func guest(on daemon: Daemon) throws(Failure) -> Connection {
        if let guest { return guest }
        let new = Connection(try daemon.guest(of: machine.domain))
        guest = new
        return new
    }
}
