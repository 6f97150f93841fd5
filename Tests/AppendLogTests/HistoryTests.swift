// Is what comes back what was committed, over restarts and compactions?

import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import AppendLogStore

@Suite(.timeLimit(.minutes(10)))
struct HistoryTests {
    let directory = TestDirectory()
    let host = TestHost()
    private var path: String { directory / "store.log" }

    private func open(_ more: [(String, String)] = []) throws -> AppendLogStore {
        try AppendLogStore(host: host.host, options: options([("path", path)] + more))
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>, SyncMode.allCases)
    func `a history comes back`(seed: UInt64, sync: SyncMode) throws {
        var last: UInt64 = 0
        var choices = SplitMix64(seed: seed)
        let settings = [
            ("sync", sync.rawValue), ("interval", "2"), ("compact-at", "0"), ("compact-growth", "10"),
            ("reserve", "64KiB"),
        ]
        var compactions = 0
        for _ in 0..<6 {
            let store = try open(settings)
            let (kept, newest) = try store.recovered()
            #expect(newest == last)
            #expect(kept == history(upTo: last, seed: seed))
            for _ in 0..<choices.below(300) {
                last += 1
                let batch = packed(changes(last, seed: seed), generation: last)
                #expect(try store.commit(last, batch) == (sync == .always ? .submitted : .final))
                if choices.chance(5) { usleep(1000) }
                if choices.chance(2) { try store.flush() }
            }
            if choices.chance(50) { usleep(20_000) }
            compactions += store.compactions
            store.close()
            #expect(directory.names == ["store.log"])
        }
        let store = try open()
        #expect(try store.recovered().kept == history(upTo: last, seed: seed))
        store.close()
        #expect(compactions > 0)
        #expect(host.lines == [])
        let committed = host.committed
        #expect(committed == committed.sorted())
        #expect(sync == .always ? committed.last == last : committed == [])
    }

    @Test func `a compacted log has its tree's size`() throws {
        let store = try open([("compact-at", "1MiB"), ("compact-growth", "50")])
        _ = try store.recovered()
        let value = [UInt8](repeating: 7, count: 100)
        var last: UInt64 = 0
        for round in 0..<5 {
            for node in 0..<5000 {
                last += 1
                let change = Change(key: "/n/\(node)", value: round == 4 && node >= 2000 ? nil : value)
                _ = try store.commit(last, packed([change], generation: last))
            }
        }
        let tree = 2000 * packed([Change(key: "/n/1000", value: value)], generation: 1).count
        // Until the next compaction has begun and ended; one may be under way.
        let before = store.compactions + 1
        let more = [Change(key: "/m", value: [UInt8](repeating: 1, count: 2000))]
        #expect(
            eventually {
                last += 1
                _ = try? store.commit(last, packed(more, generation: last))
                return store.compactions > before
            })
        #expect(store.logBytes < tree * 3 / 2)
        store.close()
        let again = try open()
        let (kept, newest) = try again.recovered()
        #expect(newest == last)
        #expect(kept.count == 2001)
        again.close()
    }

    @Test func `an emptied store keeps its number`() throws {
        let store = try open([("compact-at", "0"), ("compact-growth", "10")])
        _ = try store.recovered()
        _ = try store.commit(1, packed([Change(key: "/a", value: [1])], generation: 1))
        var newest: UInt64 = 1
        // A compaction may have begun before a batch that it should have had.
        #expect(
            eventually {
                newest += 1
                _ = try? store.commit(newest, packed([Change(key: "/a", value: nil)], generation: newest))
                return eventually(milliseconds: 100) { store.logBytes <= 64 }
            })
        store.close()
        let again = try open()
        let (kept, last) = try again.recovered()
        #expect(kept == [:])
        #expect(last == newest)
        again.close()
    }

    @Test func `numbers that go back are refused`() throws {
        let store = try open()
        #expect(throws: PluginFailure.self) { _ = try store.commit(1, []) }
        _ = try store.recovered()
        _ = try store.commit(5, packed([Change(key: "/a", value: [1])], generation: 5))
        #expect(throws: PluginFailure.self) { _ = try store.commit(5, []) }
        store.close()
    }

    @Test func `damage is reported and set aside`() throws {
        let store = try open()
        _ = try store.recovered()
        for sequence in 1...20 as ClosedRange<UInt64> {
            _ = try store.commit(sequence, packed(changes(sequence, seed: 3), generation: sequence))
        }
        let bytes = store.logBytes
        store.close()
        let file = try FileHandle(forUpdating: URL(filePath: path))
        try file.seek(toOffset: UInt64(4096 + bytes / 2))
        let byte = try #require(try file.read(upToCount: 1))
        try file.seek(toOffset: UInt64(4096 + bytes / 2))
        file.write(Data([byte[0] ^ 0x40]))
        try file.close()
        let again = try open()
        let (kept, last) = try again.recovered()
        #expect(last > 0 && last < 20)
        #expect(kept == history(upTo: last, seed: 3))
        again.close()
        #expect(directory.names == ["store.log", "store.log.damaged-1"])
        #expect(host.lines.count == 1)
        #expect(
            host.lines[0].hasPrefix("0 append-log: \(path): damaged: the first \(last) batches are good, "))
    }

    @Test func `two daemons on one file`() throws {
        let store = try open()
        let failure = #expect(throws: PluginFailure.self) { _ = try open() }
        #expect(failure?.code == EWOULDBLOCK)
        store.close()
    }

    @Test(arguments: [
        ("path", "store.log", "the absolute path of a file"),
        ("path", "/tmp/", "the absolute path of a file"),
        ("sync", "often", "always, interval or never"), ("interval", "0", "a number from 1 to 3600000"),
        ("interval", "1s", "a number from 1 to 3600000"),
        ("compact-at", "16 MB", "a size from 0 to 1024GiB, as 4096, 64KiB or 4MiB"),
        ("compact-growth", "-1", "a number from 10 to 10000"),
        ("reserve", "1KiB", "a size from 64KiB to 1GiB, as 4096, 64KiB or 4MiB"),
        ("reserve", "99999999999GiB", "a size from 64KiB to 1GiB, as 4096, 64KiB or 4MiB"),
        ("reserve", "", "a size from 64KiB to 1GiB, as 4096, 64KiB or 4MiB"),
    ])
    func `options that are wrong`(key: String, value: String, expected: String) {
        let failure = #expect(throws: PluginFailure.self) {
            _ = try AppendLogStore(host: host.host, options: options([("path", path), (key, value)]))
        }
        #expect(failure?.reason == "x.yaml:2:5: found \"\(value)\", expected \(expected)")
        #expect(directory.names == [])
    }

    @Test func `the options' defaults are what is described`() throws {
        let described = try Settings(
            Settings.descriptions.map { PluginOption(key: $0.name, value: $0.fallback ?? "", place: "") })
        let plain = try Settings([])
        #expect("\(described)" == "\(plain)")
    }
}
