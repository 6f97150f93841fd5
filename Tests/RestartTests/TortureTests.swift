// Is everything that was acknowledged still there, and is every request carried out once, whenever the daemon
// is killed?

import Foundation
import Glibc
import Testing

@Suite(.serialized) struct TortureTests {
    /// What is set from outside: `make torture`.
    private static let environment = ProcessInfo.processInfo.environment
    private static let seconds = environment["TORTURE_SECONDS"].flatMap(Double.init) ?? 5

    /// The seeds to run, of which each gets its part of the time.
    private static let seeds: [UInt64] =
        environment["SEED"].flatMap(UInt64.init).map { [$0] } ?? [UInt64(getpid()) &* 0x9E37_79B9]

    @Test(.timeLimit(.minutes(600)), arguments: seeds)
    func nothingAcknowledgedIsLost(seed: UInt64) throws {
        let deadline = instant() + UInt64(Self.seconds * 1e9)
        var (kills, checks, replies, run) = (0, 0, 0, seed)
        repeat {
            let left = Double(max(deadline, instant()) - instant()) / 1e9
            let torture = try Torture(seed: run, store: Self.store(run))
            defer { torture.host.kill() }
            do {
                try torture.run(seconds: min(left, 30))
            } catch {
                torture.host.kill()
                torture.writeTraces()
                Issue.record(
                    """
                    \(error)
                    its log ends:
                    \(torture.host.logEnd)
                    after \(torture.kills) kills, \(torture.reboots) reboots; files: \(torture.host.directory)
                    again: SEED=\(run) make torture
                    """)
                return
            }
            torture.host.removeDirectory()
            #expect(torture.journalMax < 16 << 20, "the journal of sessions grows, seed \(run)")
            kills += torture.kills
            checks += torture.checks
            replies += torture.replies
            run &+= 1
        } while instant() < deadline
        print(
            "torture: seeds \(seed) to \(run - 1): \(kills) kills, \(checks) comparisons, \(replies) replies")
        #expect(kills > 0 && checks > 0)
    }

    /// What the store is configured as in a run.
    static func store(_ seed: UInt64) -> [String] {
        let keep = ["keep: [/torture/kept]", "sessions: DIR/run/sessions"]
        if let named = environment["TORTURE_STORE"] {
            return ["backend: \(named)", "options: {path: DIR/store}"] + keep
        }
        let sync = ["never", "interval", "always"][Int(seed % 3)]
        return [
            "backend: append-log",
            "options: {path: DIR/store, sync: \(sync), compact-at: 64KiB, compact-growth: 50}",
        ] + keep
    }
}
