// What the kernel costs: memory by guests, its start, a request; and that births and deaths leave nothing.
//
// Guests have the 118 nodes that a PV guest with a disk and an interface has; `make test-stubdom` prints the
// figures. The slow ones are played with STUBDOM_FIGURES=1 only.

import Foundation
import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite(.enabled(if: StubMachine.kernel != nil), .serialized)
struct FigureTests {
    static let isThorough = ProcessInfo.processInfo.environment["STUBDOM_FIGURES"] != nil
    static let nodes = 118

    /// The nodes of a guest, as writes of domain 0: a home and what is in it, backends' sides, a VM's.
    static func writes(_ domain: UInt16) -> [[UInt8]] {
        let home = "/local/domain/\(domain)"
        var paths = [(home, ""), ("\(home)/vm", "/vm/\(UUID())"), ("\(home)/name", "guest-\(domain)")]
        let places = [
            "\(home)/device/vbd/51712", "\(home)/device/vif/0", "\(home)/control", "\(home)/memory",
            "/local/domain/0/backend/vbd/\(domain)/51712", "/local/domain/0/backend/vif/\(domain)/0",
            "/vm/\(domain)", "/libxl/\(domain)", "/libxl/\(domain)/device/vbd/51712",
        ]
        var index = 0
        // The places and the nodes above them are nodes too.
        while paths.count < nodes - 24 {
            let place = places[index % places.count]
            paths.append(
                (
                    "\(place)/\(["state", "frontend", "mode", "type", "event-channel"][index % 5])-\(index)",
                    "/local/domain/0/\(index)"
                ))
            index += 1
        }
        return paths.map { path, value in
            Message(.write, Array(path.utf8) + [0] + Array(value.utf8)).bytes
        }
    }

    /// Many requests of one domain, of which the replies are thrown away.
    private func feed(_ machine: StubMachine, _ domain: UInt16, _ messages: [[UInt8]]) throws {
        machine.send(.bytes, domain, messages.flatMap { $0 })
        guard machine.settle() else { throw StubFailure("it is silent: \(machine.console)") }
        machine.forget(domain)
    }

    private func populate(_ machine: StubMachine, _ guests: ClosedRange<UInt16>) throws {
        for domain in guests {
            guard machine.makeGuest(domain) else {
                throw StubFailure("no guest \(domain): \(machine.console)")
            }
            try feed(machine, domain, [Message(.watch, Array("memory/target\0t\0".utf8)).bytes])
            try feed(machine, 0, Self.writes(domain))
        }
    }

    /// Figures of a domain whose RAM is `memory` MiB with so many guests of 118 nodes, in MiB in use.
    @Test(arguments: [(6, 100), (24, 1000)])
    func guestsFit(memory: Int, guests: Int) throws {
        if guests > 100 && !Self.isThorough { return }
        let machine = try StubMachine(memory: memory)
        let empty = try machine.takeFigures()
        try populate(machine, 1...UInt16(guests))
        let full = try machine.takeFigures()
        let list = try #require(machine.ask(0, .control, ["memreport"]))
        let used = (empty.free - full.free) / guests
        print(
            "stubdom: \(guests) guests in \(memory) MiB: \(used) bytes a guest, free \(full.free >> 10) KiB")
        #expect(!machine.console.contains("memory is short"), "\(machine.console)")
        #expect(list.contains("nodes, number"))
        // All guests' nodes are there, and the last can be written to.
        #expect(machine.ask(0, .write, ["/local/domain/\(guests)/name"]) == "OK\0")
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// An idle guest: introduced, its page aside (which is the guest's own).
    @Test func anIdleGuestCostsLittle() throws {
        let machine = try StubMachine()
        let empty = try machine.takeFigures()
        for domain in UInt16(1)...200 { #expect(machine.makeGuest(domain)) }
        let full = try machine.takeFigures()
        // Under Xen the page is none of ours; here the guest's side lives in the same memory.
        let pages = 200 * 4096
        let each = (empty.free - full.free - pages) / 200
        print("stubdom: an idle guest: \(each) bytes")
        #expect(each <= 4096)
    }

    @Test func birthsAndDeathsLeaveNothing() throws {
        let machine = try StubMachine(memory: 8)
        let rounds = Self.isThorough ? 2000 : 30
        func live(_ domain: UInt16) throws {
            try populate(machine, domain...domain)
            // The toolstack removes what it made.
            let tops = [
                "/local/domain/\(domain)", "/local/domain/0/backend/vbd/\(domain)",
                "/local/domain/0/backend/vif/\(domain)", "/vm/\(domain)", "/libxl/\(domain)",
            ]
            try feed(machine, 0, tops.map { Message(.remove, [UInt8](strings: [$0])).bytes })
            machine.send(.flags, domain, [2])
            machine.send(.domainEvent)
            machine.send(.destroy, domain)
            machine.settle()
        }
        for round in 0..<10 { try live(UInt16(1 + round)) }
        let before = try machine.takeFigures()
        for round in 0..<rounds { try live(UInt16(1 + (round + 10) % 20_000)) }
        let after = try machine.takeFigures()
        print("stubdom: \(rounds) guests came and went: \(before.free - after.free) bytes less are free")
        // Tables by domain number grow with the highest number.
        #expect(before.free - after.free <= 64 << 10 + rounds * 24)
        #expect(machine.ask(0, .directory, ["/local/domain"]) == "0\0")
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// From the entry to the first turn, in instructions: at a nanosecond each, 50 ms are 50 million.
    @Test func theStartIsShort() throws {
        let machine = try StubMachine(counting: true)
        let figures = try machine.takeFigures()
        print("stubdom: \(figures.start) instructions from the entry to the first turn")
        #expect(figures.start < 50_000_000)
    }

    /// Guests that write all they may until nothing is left: they are refused, and nobody is lost.
    @Test func guestsCannotUseUpTheMemory() throws {
        let machine = try StubMachine(memory: 4)
        var refused = 0
        for domain in UInt16(1)...8 {
            #expect(machine.makeGuest(domain))
            let home = "/local/domain/\(domain)"
            #expect(machine.ask(0, .makeDirectory, [home]) == "OK\0")
            #expect(machine.ask(0, .setPermissions, [home, "n\(domain)"]) == "OK\0")
            // In lots, for what waits to be said takes memory here that is a guest's own under Xen.
            for lot in 0..<30 {
                for number in 0..<10 {
                    let payload = Array("n\(lot * 10 + number)\0".utf8)
                    let message = Message(.write, payload + [UInt8](repeating: 0x78, count: 2000))
                    machine.send(.bytes, domain, message.bytes)
                }
                for _ in 0..<10 {
                    guard let reply = machine.receive(domain) else {
                        throw StubFailure("guest \(domain), lot \(lot): \(machine.console)")
                    }
                    if reply.errorName == "ENOSPC" { refused += 1 }
                }
            }
        }
        #expect(refused > 0)
        #expect(machine.console.contains("memory is short"), "\(machine.console)")
        // The control domain goes on, removing makes room, and that room can be used.
        #expect(machine.ask(0, .write, ["/control-still-writes"]) == "OK\0")
        for domain in UInt16(1)...7 { #expect(machine.ask(0, .release, ["\(domain)"]) == "OK\0") }
        let payload = Array("again\0".utf8) + [UInt8](repeating: 0x78, count: 2000)
        machine.send(.bytes, 8, Message(.write, payload).bytes)
        #expect(machine.receive(8)?.errorName == nil)
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }
}
