// What the kernel costs: memory by guests, and its start.
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

    /// Where a guest's nodes are: its home, both sides of its devices, what the toolstack notes of it.
    static func places(_ domain: UInt16) -> [String] {
        [
            "/local/domain/\(domain)/device/vbd/51712", "/local/domain/\(domain)/device/vif/0",
            "/local/domain/\(domain)/control", "/local/domain/\(domain)/memory",
            "/local/domain/0/backend/vbd/\(domain)/51712", "/local/domain/0/backend/vif/\(domain)/0",
            "/vm/\(domain)", "/libxl/\(domain)/device/vbd/51712",
        ]
    }

    /// Makes guests, each with a watch and `nodes` nodes: 96 in eight places, those above them, and five.
    private func populate(_ machine: StubMachine, _ guests: ClosedRange<UInt16>) throws {
        for domain in guests {
            guard machine.makeGuest(domain) else {
                throw StubFailure("no guest \(domain): \(machine.console)")
            }
            guard machine.ask(domain, .watch, ["memory/target", "t"]) == "OK\0" else {
                throw StubFailure("no watch of \(domain): \(machine.console)")
            }
            machine.forget(domain)
            for place in Self.places(domain) {
                let payload = Array("\(place)/a-node-#####\0/local/domain/0/#####".utf8)
                guard machine.makeSeries(0, 0..<12, .write, payload) else {
                    throw StubFailure("silence: \(machine.console)")
                }
            }
            machine.forget(0)
            for name in ["vm", "name", "domid", "console", "store"] {
                #expect(machine.ask(0, .write, ["/local/domain/\(domain)/\(name)"]) == "OK\0")
            }
        }
    }

    /// Whether so many guests fit into `memory` MiB. The guests' own pages are in memory besides.
    @Test(arguments: [(6, 100), (24, 1000)])
    func guestsFit(memory: Int, guests: Int) throws {
        if guests > 100 && !Self.isThorough { return }
        let machine = try StubMachine(memory: memory, guestMemory: 8, seconds: 300)
        let empty = try machine.takeFigures()
        try populate(machine, 1...UInt16(guests))
        let full = try machine.takeFigures()
        let report = try #require(machine.ask(0, .control, ["memreport"]))
        let line = try #require(report.split(separator: "\n").first { $0.hasPrefix("nodes, number") })
        let count = try #require(line.split(separator: " ").last.flatMap { Int($0) })
        #expect(count >= guests * Self.nodes)
        let used = (empty.free - full.free) / guests
        print(
            "stubdom: \(guests) guests in \(memory) MiB: \(used) bytes a guest, free \(full.free >> 10) KiB")
        #expect(!machine.console.contains("memory is short"), "\(machine.console)")
        // All guests' nodes are there, and the last can be written to.
        #expect(machine.ask(0, .write, ["/local/domain/\(guests)/name"]) == "OK\0")
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// Guests that are introduced, and do nothing.
    @Test(arguments: [200, 4000])
    func idleGuestsCostLittle(guests: Int) throws {
        if guests > 200 && !Self.isThorough { return }
        let machine = try StubMachine(memory: 8, guestMemory: 24, seconds: 300)
        let empty = try machine.takeFigures()
        for domain in UInt16(1)...UInt16(guests) {
            #expect(machine.makeGuest(domain), "guest \(domain): \(machine.console)")
        }
        let full = try machine.takeFigures()
        let each = (empty.free - full.free) / guests
        print("stubdom: \(guests) idle guests in 8 MiB: \(each) bytes each, free \(full.free >> 10) KiB")
        #expect(each <= 4096)
        #expect(machine.ask(UInt16(guests), .directory, ["/"]) != nil)
        #expect(machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// From the entry to the first turn, and to the first reply, in instructions: at a nanosecond each, 50 ms
    /// are 50 million.
    @Test func theStartIsShort() throws {
        let machine = try StubMachine(counting: true)
        #expect(machine.ask(0, .directory, ["/"]) != nil)
        let figures = try machine.takeFigures()
        print(
            "stubdom: \(figures.start) instructions from the entry to the first turn,",
            "\(figures.answer) to the first reply")
        #expect(figures.answer > figures.start && figures.answer < 50_000_000)
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
            let payload = Array("n#####\0".utf8) + [UInt8](repeating: 0x78, count: 2000)
            #expect(machine.makeSeries(domain, 0..<300, .write, payload))
            for number in 0..<300 {
                guard let reply = machine.receive(domain) else {
                    throw StubFailure("guest \(domain), write \(number): \(machine.console)")
                }
                if reply.errorName == "ENOSPC" { refused += 1 }
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
