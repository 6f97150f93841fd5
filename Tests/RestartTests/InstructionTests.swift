// Is a request carried out once, and answered once, at whichever instruction the daemon is killed?
//
// The daemon's loop is stepped through the turn that carries out one request: first to its end, to count the
// instructions, then again and again to some of them, at each of which it is killed.

import Foundation
import Glibc
import Stepper
import Testing
import XenStoreTestKit
import XenStoreTypes

@Suite(.serialized) struct InstructionTests {
    /// Kills for each kind of request, as `make torture` asks for them: stepping takes minutes.
    private static let samples =
        ProcessInfo.processInfo.environment["TORTURE_SAMPLES"].flatMap(Int.init) ?? 0

    enum Scene: String, CaseIterable, Sendable {
        case ringWrite, ringWatch, ringCommit, socketWrite, introduce, release, shutdown

        /// Sends what the daemon is to be killed at.
        func play(_ torture: Torture, _ number: Int) throws {
            let guest = try #require(torture.guests.first)
            switch self {
            case .ringWrite: guest.ask(.write("a/b", Array("\(number)".utf8)))
            case .ringWatch: guest.ask(.watch("a", token: "w\(number)"))
            case .ringCommit:
                let id = try #require(guest.model.nextTransaction)
                guest.ask(.start)
                for name in ["a", "c/d", "e"] { guest.ask(.write(name, [1, 2, 3]), transaction: id) }
                guest.ask(.end(true), transaction: id)
            case .socketWrite: torture.publisher.ask(.write("p1", Array("\(number)".utf8)))
            case .introduce, .release, .shutdown: try torture.toolstack.play(self)
            }
            for speaker in [guest, torture.publisher, torture.toolstack.speaker] {
                try speaker.step(limit: .max)
            }
        }
    }

    @Test(.enabled(if: samples > 0), .timeLimit(.minutes(60)), arguments: Scene.allCases)
    func aRequestIsCarriedOutOnce(scene: Scene) throws {
        var random = SplitMix64(seed: UInt64(scene.rawValue.utf8.count) &+ UInt64(getpid()))
        let torture = try Torture(seed: 1, store: TortureTests.store(0), domains: 2, clients: 0)
        do {
            try torture.begin()
            try torture.toolstack.createAll()
            try torture.settle()
            let whole = try Self.step(torture, scene, 0, .max)
            try Self.restart(torture)
            #expect(whole > 100)
            for sample in 1...Self.samples {
                let count = random.below(whole + whole / 20)
                do {
                    _ = try Self.step(torture, scene, sample, count)
                    try Self.restart(torture)
                } catch {
                    throw Broken("killed at instruction \(count) of \(whole): \(error)")
                }
            }
            torture.host.kill()
            torture.host.removeDirectory()
        } catch {
            torture.host.kill()
            torture.writeTraces()
            Issue.record("\(error)\nfiles: \(torture.host.directory)\n\(torture.host.logEnd)")
        }
    }

    /// Stops the daemon, plays the scene, and kills it so many instructions later, or when the turn that
    /// begins with the scene has ended. Answers how many instructions there were.
    private static func step(_ torture: Torture, _ scene: Scene, _ number: Int, _ count: Int) throws -> Int {
        let process = torture.host.process
        guard stepper_stop(process) == 0 else { throw Broken("cannot step: errno \(errno)") }
        try scene.play(torture, number)
        // Out of the waiting that we have interrupted, then through the turn, or two, that this brings.
        var done = 0
        for _ in 0..<3 where done < count {
            done += stepper_go(process, 1, -1)
            done += stepper_go(process, count - done, stepper_waiting_call())
        }
        try torture.end(isGentle: false)
        return done
    }

    private static func restart(_ torture: Torture) throws {
        try torture.host.start()
        try torture.reconnectSockets()
        try torture.check(isQuiet: false)
        try torture.toolstack.createAll()
        try torture.settle()
    }
}

extension Toolstack {
    /// Every domain that is not there is made and introduced.
    func createAll() throws {
        var random = SplitMix64(seed: 1)
        for slot in slots where !slot.isIntroduced { try renew(slot, &random) }
    }

    /// What a scene is about, for the last of the domains.
    func play(_ scene: InstructionTests.Scene) throws {
        var random = SplitMix64(seed: 1)
        guard let slot = slots.last, slot.isIntroduced else { throw Broken("the last domain is not there") }
        switch scene {
        case .introduce: try renew(slot, &random)
        case .release: release(slot, thenAgain: false, &random)
        // A domain shuts down once.
        default: slot.state == .shutDown ? try renew(slot, &random) : try shutDown(slot, isCrash: false)
        }
    }
}
