// Is everything there that was acknowledged, whenever the process dies, and during a compaction too?

import CLinux
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import AppendLogStore

/// How many times: more with XENSTORE_KILLS.
private let kills = ProcessInfo.processInfo.environment["XENSTORE_KILLS"].flatMap(Int.init) ?? 100

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
        while true {
            last += 1
            let outcome = try store.commit(last, packed(changes(last, seed: seed), generation: last))
            let final = outcome == .final ? last : host.committed.last ?? 0
            if final > shared_load(word) { shared_store(word, UInt32(final)) }
        }
    } catch {
        FileHandle.standardError.write(Data("\(error)\n".utf8))
        _exit(1)
    }
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
        try #require(kept == history(upTo: last, seed: 9), "round \(round)")
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

@Suite(.timeLimit(.minutes(5)))
struct FullDiskTests {
    @Test func `a full disk leaves the reserve, and room comes back`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let host = TestHost()
            let path = directory / "store.log"
            let store = try AppendLogStore(
                host: host.host, options: options([("path", path), ("reserve", "1MiB")]))
            _ = try store.recovered()
            #expect(store.room > 4 << 20)
            var limit = rlimit(rlim_cur: 12 << 20, rlim_max: .max)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            // As the daemon does: what grows the store asks for room first.
            var last: UInt64 = 0
            var kept: Kept = [:]
            var nodes = 0
            while store.room > 10_000 && nodes < 100_000 {
                let change = Change(key: "/n/\(nodes)", value: [UInt8](repeating: 1, count: 1000))
                let batch = packed([change], generation: last + 1)
                _ = try store.commit(last + 1, batch)
                last += 1
                nodes += 1
                batch.withUnsafeBytes { _ = apply($0, to: &kept) }
                if nodes % 500 == 0 { usleep(20_000) }
            }
            #expect(nodes > 4000 && nodes < 12_000)
            #expect(eventually { host.lines.contains { $0.contains("the disk is full") } })
            #expect(eventually { store.room < 10_000 })
            // The reserve takes removals, and a batch that does not fit leaves nothing behind.
            for node in 0..<1000 {
                let batch = packed([Change(key: "/n/\(node)", value: nil)], generation: last + 1)
                _ = try store.commit(last + 1, batch)
                last += 1
                batch.withUnsafeBytes { _ = apply($0, to: &kept) }
            }
            #expect(store.room == 0)
            let large = packed(
                [Change(key: "/large", value: [UInt8](repeating: 2, count: 3 << 20))], generation: last + 1)
            let failure = #expect(throws: PluginFailure.self) { _ = try store.commit(last + 1, large) }
            #expect([ENOSPC, EFBIG].contains(failure?.code))
            limit.rlim_cur = .max
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            #expect(eventually { store.room > 3 << 20 })
            #expect(host.lines.contains { $0.contains("there is room again") })
            _ = try store.commit(last + 1, large)
            last += 1
            large.withUnsafeBytes { _ = apply($0, to: &kept) }
            store.close()
            let again = try AppendLogStore(host: host.host, options: options([("path", path)]))
            let (found, newest) = try again.recovered()
            #expect(newest == last)
            #expect(found == kept)
            again.close()
        }
    }

    @Test func `a compaction that has no room changes nothing`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let host = TestHost()
            let path = directory / "store.log"
            let settings = [("path", path), ("compact-at", "1MiB"), ("compact-growth", "10")]
            let store = try AppendLogStore(host: host.host, options: options(settings))
            _ = try store.recovered()
            mkdir(path + ".new", 0o700)  // nothing can be made there
            for sequence in 1...5000 as ClosedRange<UInt64> {
                _ = try store.commit(sequence, packed(changes(sequence, seed: 4), generation: sequence))
            }
            #expect(eventually { host.lines.contains { $0.hasPrefix("1 append-log: not compacted: ") } })
            #expect(store.compactions == 0)
            rmdir(path + ".new")
            var last: UInt64 = 5000
            #expect(
                eventually {
                    last += 1
                    _ = try? store.commit(last, packed(changes(last, seed: 4), generation: last))
                    return store.compactions > 0
                })
            store.close()
            let again = try AppendLogStore(host: host.host, options: options(settings))
            #expect(try again.recovered().kept == history(upTo: last, seed: 4))
            again.close()
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can become somebody else"))
    func `a directory that cannot be written`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            chmod(directory.path, 0o555)
            let before = geteuid()
            try #require(seteuid(65534) == 0)
            let host = TestHost()
            let path = directory / "store.log"
            let failure = #expect(throws: PluginFailure.self) {
                _ = try AppendLogStore(host: host.host, options: options([("path", path)]))
            }
            #expect(failure == PluginFailure("\(path): cannot open: Permission denied", errno: EACCES))
            seteuid(before)
            directory.remove()
        }
    }
}

@Suite(.serialized, .timeLimit(.minutes(5)))
struct StallTests {
    @Test func `compaction holds no commit up`() throws {
        let directory = TestDirectory(onDisk: true)
        let host = TestHost()
        let store = try AppendLogStore(
            host: host.host,
            options: options([
                ("path", directory / "store.log"), ("compact-at", "8MiB"), ("compact-growth", "20"),
                ("interval", "100"),
            ]))
        _ = try store.recovered()
        let value = [UInt8](repeating: 3, count: 100)
        var times: [UInt64] = []
        var last: UInt64 = 0
        let end = now() + 8_000_000_000
        while now() < end && (last < 100_000 || store.compactions < 3) {
            last += 1
            let batch = packed([Change(key: "/n/\(last * 7919 % 50_000)", value: value)], generation: last)
            let start = now()
            _ = try store.commit(last, batch)
            times.append(now() - start)
            if last % 16 == 0 { usleep(50) }
        }
        #expect(store.compactions >= 1)
        store.close()
        times.sort()
        let high = times[times.count * 999 / 1000]
        // On a healthy disk it is some microseconds; the bound is the promise of 5 ms, for a machine that
        // does other things as well.
        #expect(high < 5_000_000, "99.9th percentile \(high) ns, longest \(times.last ?? 0) ns")
    }
}
