// A week of a busy host: does anything remain of guests that came, worked and went, and does a crowd of them
// that is short of memory keep the kernel from its work? With STUBDOM_FIGURES=1, 20,000 guests come and go.

import Foundation
import Testing
import XenStoreTestKit
import XenStoreTypes

@Suite(.enabled(if: StubMachine.kernel != nil), .serialized)
struct WeekTests {
    /// Guests that are there at a time, and how often all of them are gone and others come.
    private static let crowd = 8
    private static var rounds: Int { FigureTests.isThorough ? 2500 : 30 }

    /// Each guest has something open when it dies; when all are dead, memory is as it was.
    @Test func birthsAndDeathsLeaveNothing() throws {
        let machine = try StubMachine(
            memory: 8, guestMemory: 4, seconds: FigureTests.isThorough ? 7200 : 120)
        var random = SplitMix64(seed: 7)
        var first: StubMachine.Figures?
        var least = (free: Int.max, largest: Int.max)
        for round in 0..<Self.rounds {
            try live(machine, &random)
            // At first tables grow to their size.
            if round < Self.rounds / 4 { continue }
            let figures = try machine.takeFigures()
            if first == nil { first = figures }
            least = (min(least.free, figures.free), min(least.largest, figures.largest))
        }
        let start = try #require(first)
        let end = try machine.takeFigures()
        print(
            "stubdom: \(Self.rounds * Self.crowd) guests came and went; KiB free at a quarter, at the end,",
            "at least: \(start.free >> 10), \(end.free >> 10), \(least.free >> 10); in one piece:",
            "\(start.largest >> 10), \(end.largest >> 10), \(least.largest >> 10)")
        #expect(least.free >= start.free - 64 << 10)
        #expect(least.largest >= start.largest - 256 << 10)
        #expect(machine.ask(0, .directory, ["/local/domain"]) == "0\0")
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// Guests of random numbers come together, work, and go in different ways.
    private func live(_ machine: StubMachine, _ random: inout SplitMix64) throws {
        // Not 99, which is the kernel itself.
        let domains = (0..<Self.crowd).map { UInt16(100 + $0 * 40 + random.below(40)) }
        for domain in domains {
            machine.send(.create, domain)
            machine.send(.bytes, 0, request(.introduce, ["\(domain)", "1", "1"]))
            let home = "/local/domain/\(domain)"
            machine.send(.bytes, 0, request(.makeDirectory, [home]))
            machine.send(.bytes, 0, request(.setPermissions, [home, "n\(domain)"]))
        }
        try settle(machine, [0])
        for domain in domains { write(machine, domain, &random) }
        try settle(machine, domains)
        for domain in domains { leaveOpen(machine, domain, &random) }
        try settle(machine, domains)
        for domain in domains {
            switch random.below(3) {
            case 0: machine.send(.bytes, 0, request(.release, ["\(domain)"]))
            case 1: machine.send(.flags, domain, [4])
            default: machine.send(.flags, domain, [2])
            }
        }
        machine.send(.domainEvent)
        try settle(machine, domains)
        for domain in domains { machine.send(.destroy, domain) }
        machine.send(.domainEvent)
        for domain in domains {
            let path = "/local/domain/0/backend/vif/\(domain)"
            machine.send(.bytes, 0, request(.remove, [path]))
        }
        try settle(machine, [0])
        for domain in domains { machine.forget(domain) }
    }

    /// Nodes of different sizes, of the guest and of the toolstack.
    private func write(_ machine: StubMachine, _ domain: UInt16, _ random: inout SplitMix64) {
        let size = random.below(400)
        let payload = Array("data/n#####\0".utf8) + [UInt8](repeating: 0x78, count: size)
        let nodes = 1 + random.below(FigureTests.isThorough ? 40 : 20)
        _ = machine.makeSeries(domain, 0..<nodes, .write, payload, waits: false)
        let backend = "/local/domain/0/backend/vif/\(domain)/0"
        machine.send(.bytes, 0, request(.write, ["\(backend)/frontend", "/local/domain/\(domain)"]))
        machine.send(.bytes, 0, request(.setPermissions, ["\(backend)/frontend", "n0", "r\(domain)"]))
    }

    /// Watches, transactions that stay open, and a request that is half said.
    private func leaveOpen(_ machine: StubMachine, _ domain: UInt16, _ random: inout SplitMix64) {
        for number in 0..<random.below(6) {
            machine.send(.bytes, domain, request(.watch, ["data/n0000\(number)", "t\(number)"]))
        }
        // A reply to TRANSACTION_START says which id it is; guests' ids begin with 1.
        for id in UInt32(1)..<UInt32(1 + random.below(4)) {
            machine.send(.bytes, domain, request(.transactionStart, [""]))
            let write = [UInt8](strings: ["data/n00000", "in a transaction"])
            machine.send(.bytes, domain, Message(.write, transaction: id, write).bytes)
        }
        if random.chance(50) {
            machine.send(.bytes, domain, Array(request(.write, ["data/half", "said"]).dropLast(3)))
        }
    }

    private func request(_ type: MessageType, _ arguments: [String]) -> [UInt8] {
        // An error's reply says by its id what was asked.
        Message(type, requestID: type.rawValue, [UInt8](strings: arguments)).bytes
    }

    /// Waits, and expects that nothing was refused.
    private func settle(_ machine: StubMachine, _ domains: [UInt16]) throws {
        guard machine.settle() else { throw StubFailure("silence: \(machine.console)") }
        for domain in domains {
            while let message = machine.takeReceived(domain) {
                guard let error = message.errorName else { continue }
                let asked = "domain \(domain), request \(message.requestID)"
                throw StubFailure("\(asked): \(error), \(machine.console)")
            }
        }
    }

    private static let many = UInt16(1)...100

    private func gather(_ machine: StubMachine) throws {
        for domain in Self.many {
            guard machine.makeGuest(domain) else { throw StubFailure("no guest: \(machine.console)") }
            let home = "/local/domain/\(domain)"
            #expect(machine.ask(0, .makeDirectory, [home]) == "OK\0")
            #expect(machine.ask(0, .setPermissions, [home, "n\(domain)"]) == "OK\0")
            if domain % 4 == 0 { #expect(machine.ask(domain, .watch, [home, "t"]) == "OK\0") }
        }
    }

    private func disperse(_ machine: StubMachine) throws {
        for domain in Self.many { machine.send(.destroy, domain) }
        machine.send(.domainEvent)
        guard machine.settle() else { throw StubFailure("silence: \(machine.console)") }
        for domain in Self.many { machine.forget(domain) }
    }

    /// All write at once, while domain 0 writes too. Answers how many writes were refused.
    private func storm(_ machine: StubMachine) throws -> Int {
        for domain in Self.many {
            let size = 1200 + Int(domain) * 8
            let payload = Array("n#####\0".utf8) + [UInt8](repeating: 0x78, count: size)
            _ = machine.makeSeries(domain, 0..<40, .write, payload, waits: false)
        }
        for number in 0..<50 {
            machine.send(.bytes, 0, request(.write, ["/control", "\(number)"]))
            guard let reply = machine.receiveMeanwhile(0) else {
                throw StubFailure("domain 0 is not served: \(machine.console)")
            }
            #expect(reply.errorName == nil)
        }
        guard machine.settle() else { throw StubFailure("silence: \(machine.console)") }
        var refused = 0
        for domain in Self.many {
            while let message = machine.takeReceived(domain) {
                guard let error = message.errorName else { continue }
                refused += 1
                #expect(error == "ENOSPC")
            }
        }
        return refused
    }

    /// A hundred guests write without pause, some of them with watches on it, until memory is short: they are
    /// refused, the control domain is served meanwhile, and when they are dead all memory is back but what
    /// the tables keep for as many nodes.
    @Test func aCrowdThatIsShortOfMemory() throws {
        let machine = try StubMachine(memory: 8, guestMemory: 4, seconds: 300)
        var free = [try machine.takeFigures().free >> 10]
        for _ in 0..<2 {
            try gather(machine)
            let refused = try storm(machine)
            let full = try machine.takeFigures()
            #expect(refused > 0)
            #expect(machine.console.contains("memory is short"), "\(machine.console)")
            #expect(machine.ask(0, .control, ["check"]) == "OK\0")
            try disperse(machine)
            free.append(try machine.takeFigures().free >> 10)
            print(
                "stubdom: 100 guests wrote without pause in 8 MiB: \(refused) writes refused, KiB free then",
                "\(full.free >> 10), after their deaths \(free.last ?? 0)")
            #expect(machine.ask(0, .control, ["check"]) == "OK\0")
        }
        #expect(free[1] >= free[0] * 3 / 4, "\(free)")
        #expect(free[2] >= free[1] - 128, "\(free)")
    }
}
