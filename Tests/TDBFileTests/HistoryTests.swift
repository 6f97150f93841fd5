// Is the tree what was committed, in the module's memory and in the file, over restarts and at every boundary
// of a group?

import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit

@testable import TDBFileStore

@Suite(.timeLimit(.minutes(10)))
struct HistoryTests {
    /// Groups of one batch to thirty, each in a transaction of its own.
    @Test(arguments: 0..<40)
    func `the file is the tree at every group's end`(seed: UInt64) throws {
        let directory = TestDirectory()
        var choices = SplitMix64(seed: seed ^ 0x5EED)
        var history = History(seed: seed)
        let group = Group()
        for _ in 0..<8 {
            let file = try TDBFile(
                directory / "tdb", creating: history.sequence == 0, syncing: false)
            for _ in 0..<3 {
                for _ in 0...choices.below(30) {
                    var batch = ByteBuffer()
                    history.next().withUnsafeBytes { batch.append($0) }
                    group.take(&batch, through: history.sequence)
                }
                if choices.chance(30) { group.compact() }
                let outcome = try file.transaction { () throws(PluginFailure) in
                    try group.apply(to: file)
                    try Applied.write(group.last, to: file)
                }
                #expect(outcome == .done)
                group.removeAll()
            }
            withExtendedLifetime(file) {}
        }
        let found = try contents(of: directory / "tdb")
        #expect(found.model == history.model)
        #expect(found.children == history.model.children)
        #expect(found.applied == history.sequence)
    }

    @Test(arguments: 0..<12)
    func `restarts`(seed: UInt64) throws {
        let directory = TestDirectory()
        let listener = Listener()
        var choices = SplitMix64(seed: seed ^ 0xABC)
        var history = History(seed: seed)
        for _ in 0..<5 {
            let modes = ["always", "interval", "never"]
            let store = try TDBFileStore(
                directory / "tdb", listener, sync: choices.one(of: modes), every: 1 + choices.below(20))
            let found = try store.recovered()
            #expect(found.model == history.model)
            #expect(found.sequence == history.sequence)
            for _ in 0..<choices.below(300) {
                let batch = history.next()
                try store.commit(history.sequence, batch)
                if choices.chance(2) { usleep(3000) }
            }
            store.close()
            withExtendedLifetime(store) {}
        }
        let found = try contents(of: directory / "tdb")
        #expect(found.model == history.model)
        #expect(found.children == history.model.children)
        #expect(listener.lines == [])
        #expect(directory.names == ["tdb", "tdb.wal", "tdb.wal2"])
    }

    /// The two logs take turns many times over, and neither grows for ever.
    @Test func `the log does not grow`() throws {
        let directory = TestDirectory()
        let listener = Listener()
        let store = try TDBFileStore(directory / "tdb", listener, every: 1)
        _ = try store.recovered()
        var value = [UInt8](repeating: 0, count: 60_000)
        for sequence in UInt64(1)...2000 {
            var batch: [UInt8] = []
            value[0] = UInt8(truncatingIfNeeded: sequence)
            packed(.put, sequence, [], "/a", value, &batch)
            try store.commit(sequence, batch)
            if sequence % 100 == 0 { try store.waitUntilApplied(sequence) }
        }
        let bytes = store.report().split(separator: "\n").first { $0.hasPrefix("tdb-file log bytes: ") }
        let count = try #require(bytes?.split(separator: " ").last.flatMap { Int($0) })
        #expect(count < 3 * WriteAhead.limit)
        store.close()
    }

    @Test func `sync: always tells of every batch, in order`() throws {
        let directory = TestDirectory()
        let listener = Listener()
        let store = try TDBFileStore(directory / "tdb", listener, sync: "always")
        _ = try store.recovered()
        var history = History(seed: 1)
        for _ in 0..<200 {
            let batch = history.next()
            #expect(try store.commit(history.sequence, batch) == .submitted)
        }
        for _ in 0..<1000 where listener.committed < 200 { usleep(5000) }
        #expect(listener.committed == 200)
        store.close()
    }

    @Test func `a batch of the wrong number is refused, and kept under the right one`() throws {
        let directory = TestDirectory()
        let store = try TDBFileStore(directory / "tdb", Listener())
        _ = try store.recovered()
        var history = History(seed: 1)
        let batch = history.next()
        try store.commit(7, batch)
        #expect(throws: PluginFailure.self) { try store.commit(9, batch) }
        try store.commit(8, batch)
        store.close()
    }
}
