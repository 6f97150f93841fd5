// Is everything there that was acknowledged, whenever the process dies, and during a compaction too?

import CLinux
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import AppendLogStore

/// How many times: more with XENSTORE_KILLS.
private let kills = ProcessInfo.processInfo.environment["XENSTORE_KILLS"].flatMap(Int.init) ?? 40

private func settings(_ path: String, _ sync: String) -> [PluginOption] {
    options([
        ("path", path), ("sync", sync), ("interval", "1"), ("compact-at", "0"), ("compact-growth", "10"),
        ("reserve", "64KiB"),
    ])
}

/// Commits one batch after another until it is killed, and says in `word` what it was told is final.
private func commitUntilKilled(
    _ path: String, _ word: UnsafeMutablePointer<UInt32>, seed: UInt64, sync: String
) -> Never {
    do throws(PluginFailure) {
        let host = TestHost()
        let store = try AppendLogStore(host: host.host, options: settings(path, sync))
        var last = try store.recover { _ in }
        // A test that is ended itself leaves nobody behind.
        while getppid() != 1 {
            last += 1
            let outcome = try store.commit(last, packed(changes(last, seed: seed), generation: last))
            let final = outcome == .final ? last : host.committed.last ?? 0
            if final > shared_load(word) { shared_store(word, UInt32(final)) }
        }
    } catch {
        FileHandle.standardError.write(Data("\(error)\n".utf8))
    }
    _exit(1)
}

private func killAgainAndAgain(sync: String) throws {
    let directory = TestDirectory()
    defer { directory.remove() }
    let path = directory / "store.log"
    let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    try #require(page != MAP_FAILED)
    let word = page!.assumingMemoryBound(to: UInt32.self)
    var choices = SplitMix64(seed: 78)
    var stands: UInt64 = 0
    var expected: Kept = [:]
    for round in 0..<kills {
        let child = linux_fork()
        if child == 0 { commitUntilKilled(path, word, seed: 9, sync: sync) }
        let waits = !choices.chance(10)
        for _ in 0..<10_000 where waits && UInt64(shared_load(word)) <= stands { usleep(100) }
        usleep(UInt32(choices.below(3000)))
        kill(child, SIGKILL)
        var status: Int32 = 0
        waitpid(child, &status, 0)
        try #require(status == SIGKILL, "round \(round): ended by itself")
        let host = TestHost()
        let store = try AppendLogStore(host: host.host, options: settings(path, "never"))
        let (kept, last) = try store.recovered()
        store.close()
        let acknowledged = UInt64(shared_load(word))
        try #require(last >= acknowledged && last >= stands, "round \(round)")
        try #require(sync == "always" || last <= acknowledged + 1, "round \(round)")
        follow(&expected, after: stands, upTo: last, seed: 9)
        try #require(kept == expected, "round \(round)")
        let isDamaged = host.lines.contains { $0.contains("damaged") }
        try #require(!isDamaged && directory.names == ["store.log"], "round \(round)")
        stands = last
    }
    try #require(stands > UInt64(kills))
}

/// Each in a process that has one thread, so that it can fork.
@Suite(.timeLimit(.minutes(10)))
struct CrashTests {
    @Test func `kill -9 during compactions`() async {
        await #expect(processExitsWith: .success) { try killAgainAndAgain(sync: "interval") }
    }

    @Test func `kill -9 with every batch synced`() async {
        await #expect(processExitsWith: .success) { try killAgainAndAgain(sync: "always") }
    }
}
