// Does a full disk cost nothing but growth, and does the log wait for no disk?

import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import AppendLogStore

@Suite(.timeLimit(.minutes(10)))
struct FullDiskTests {
    @Test func `a full disk leaves the reserve, and room comes back`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let host = TestHost()
            let path = directory / "store.log"
            var limit = rlimit(rlim_cur: 12 << 20, rlim_max: .max)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            let store = try AppendLogStore(
                host: host.host, options: options([("path", path), ("reserve", "1MiB")]))
            _ = try store.recovered()
            #expect(store.room > 4 << 20)
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
            #expect(eventually { host.lines.contains { $0.contains("there is room again") } })
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

    @Test(.enabled(if: SmallDisk.isThere, "no file system can be mounted"))
    func `a disk that others have filled`() throws {
        let disk = try #require(SmallDisk(megabytes: 48))
        defer { disk.remove() }
        #expect(fill(disk.path + "/ballast", 28 << 20))
        let host = TestHost()
        let settings = [
            ("path", disk.path + "/store.log"), ("compact-at", "8MiB"), ("compact-growth", "10"),
            ("reserve", "1MiB"),
        ]
        let store = try AppendLogStore(host: host.host, options: options(settings))
        _ = try store.recovered()
        var last: UInt64 = 0
        var kept: Kept = [:]
        func commit(_ key: String, _ value: [UInt8]?) throws {
            let batch = packed([Change(key: key, value: value)], generation: last + 1)
            _ = try store.commit(last + 1, batch)
            last += 1
            batch.withUnsafeBytes { _ = apply($0, to: &kept) }
        }
        var nodes = 0
        while store.room > 10_000 && nodes < 40_000 {
            try commit("/n/\(nodes)", [UInt8](repeating: 1, count: 1000))
            nodes += 1
            if nodes % 500 == 0 { usleep(10_000) }
        }
        #expect(nodes > 5000 && nodes < 20_000)
        #expect(eventually { host.lines.contains { $0.contains("the disk is full") } })
        // The tree does not fit a second time.
        #expect(eventually { host.lines.contains { $0.contains("not compacted") } })
        for node in 0..<1000 { try commit("/n/\(node)", nil) }
        unlink(disk.path + "/ballast")
        #expect(eventually { store.room > 8 << 20 })
        for node in 0..<6000 { try commit("/n/\(node)", nil) }
        #expect(
            eventually {
                try? commit("/m", [UInt8](repeating: 2, count: 2000))
                return store.compactions > 0
            })
        store.close()
        let again = try AppendLogStore(host: host.host, options: options(settings))
        let (found, newest) = try again.recovered()
        #expect(newest == last)
        #expect(found == kept)
        again.close()
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

@Suite(.serialized, .timeLimit(.minutes(10)))
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
        // Some microseconds; xenstore-bench measures it. On a machine that runs other tests as well this only
        // shows that nobody waits for a compaction, which takes longer.
        #expect(high < 50_000_000, "99.9th percentile \(high) ns, longest \(times.last ?? 0) ns")
    }
}
