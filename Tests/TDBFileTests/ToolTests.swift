// Do tdb-tools work on the file while a daemon has it, does an earlier xenstored's file open, and does a tool
// that locks the file delay nobody?

import CTDB
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

@testable import TDBFileStore

@Suite(.timeLimit(.minutes(10)))
struct ToolTests {
    @Test func `tdbdump, tdbtool and tdbbackup on a live file`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let store = try TDBFileStore(path, Listener())
        _ = try store.recovered()
        var history = History(seed: 3)
        for _ in 0..<200 {
            let batch = history.next()
            try store.commit(history.sequence, batch)
        }
        try store.waitUntilApplied(history.sequence)
        let keys = try run("/usr/bin/tdbdump", ["-k", "/", path])
        #expect(keys.status == 0 && !keys.text.isEmpty)
        let dump = try run("/usr/bin/tdbdump", [path])
        #expect(dump.status == 0)
        for key in history.model.keys where key.utf8.first == 0x2F {
            #expect(dump.text.contains("key(\(key.utf8.count)) = \"\(key)\"\n"))
        }
        let check = try run("/usr/bin/tdbtool", [path, "check"])
        #expect(check.text.contains("integrity is OK and has \(history.model.count + 1) records"))
        #expect(try run("/usr/bin/tdbbackup", [path]).status == 0)
        // The daemon goes on, and what was backed up stays.
        let then = history.model
        for _ in 0..<50 {
            let batch = history.next()
            try store.commit(history.sequence, batch)
        }
        try store.waitUntilApplied(history.sequence)
        store.close()
        #expect(try contents(of: path + ".bak").model == then)
        #expect(try contents(of: path).model == history.model)
    }

    /// Under load, one after another: what locks the file sees it whole.
    @Test func `tdbbackup while batches are written`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let store = try TDBFileStore(path, Listener(), every: 1)
        _ = try store.recovered()
        nonisolated(unsafe) let written = store
        let writer = Thread {
            var history = History(seed: 8)
            while !Thread.current.isCancelled {
                let batch = history.next()
                _ = try? written.commit(history.sequence, batch)
                usleep(100)
            }
        }
        writer.start()
        for _ in 0..<10 {
            #expect(try run("/usr/bin/tdbbackup", [path]).status == 0)
            let found = try contents(of: path + ".bak")
            var history = History(seed: 8)
            while history.sequence < found.applied ?? 0 { _ = history.next() }
            #expect(found.model == history.model)
            #expect(found.children == history.model.children)
        }
        writer.cancel()
        while !writer.isFinished { usleep(1000) }
        store.close()
    }

    /// Whether another process is in a transaction: libtdb locks byte 8 meanwhile.
    private func isLocked(_ descriptor: Int32) -> Bool {
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        lock.l_whence = Int16(SEEK_SET)
        lock.l_start = 8
        lock.l_len = 1
        return fcntl(descriptor, F_GETLK, &lock) == 0 && lock.l_type != Int16(F_UNLCK)
    }

    @Test func `a foreign lock delays the file and nobody else`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        _ = try store.recovered()
        var history = History(seed: 2)
        func commit(_ count: Int) throws {
            for _ in 0..<count {
                let batch = history.next()
                try store.commit(history.sequence, batch)
            }
        }
        try commit(20)
        try store.waitUntilApplied(20)

        let tool = Process()
        tool.executableURL = URL(filePath: "/usr/bin/tdbtool")
        tool.arguments = [path]
        let (inward, outward) = (Pipe(), Pipe())
        tool.standardInput = inward
        tool.standardOutput = outward
        try tool.run()
        defer { tool.terminate() }
        try inward.fileHandleForWriting.write(contentsOf: Data("transaction_start\n".utf8))
        // Closed at the end: that drops the locks of this process.
        let descriptor = open(path, O_RDWR | O_CLOEXEC)
        defer { close(descriptor) }
        for _ in 0..<5000 where !isLocked(descriptor) { usleep(2000) }
        try #require(isLocked(descriptor))

        let begin = monotonicNow()
        try commit(500)
        // The lock is held for as long as this test runs.
        #expect(monotonicNow() - begin < 10_000_000_000)
        usleep(1_600_000)
        #expect(store.report().contains("batches in the file: 20\n"))
        #expect(listener.lines == ["\(path): locked by another process; changes wait in the write-ahead log"])

        try inward.fileHandleForWriting.write(contentsOf: Data("transaction_cancel\nquit\n".utf8))
        tool.waitUntilExit()
        try store.waitUntilApplied(520)
        #expect(listener.lines.last == "\(path): written again, all changes are in it")
        store.close()
        #expect(try contents(of: path).model == history.model)
    }

    // MARK: An earlier xenstored's file

    /// Writes nodes as xenstored of Xen 4.9 to 4.17 did, with libtdb alone.
    private func writeOldFile(_ path: String, _ nodes: [(path: String, value: String, children: [String])]) {
        let tdb = tdb_open(path, 7919, TDB_DEFAULT, O_RDWR | O_CREAT | O_EXCL, 0o640)!
        defer { tdb_close(tdb) }
        for (number, node) in nodes.enumerated() {
            var children: [UInt8] = []
            for child in node.children { children += Array(child.utf8) + [0] }
            var value: [UInt8] = [UInt8(number + 1), 0, 0, 0, 0, 0, 0, 0]
            value += [2, 0, 0, 0]
            value += [UInt8(node.value.utf8.count), 0, 0, 0, UInt8(children.count), 0, 0, 0]
            value += [0, 0, 0, 0, 0, 0, 0, 0] + [5, 0, 0, 0, 1, 0, 0, 0]
            value += Array(node.value.utf8) + children + [0xAA, 0xBB, 0xCC, 0xDD]
            var key = Array(node.path.utf8)
            let stored = key.withUnsafeMutableBufferPointer { key in
                value.withUnsafeMutableBufferPointer { value in
                    tdb_store(
                        tdb, TDB_DATA(dptr: key.baseAddress, dsize: key.count),
                        TDB_DATA(dptr: value.baseAddress, dsize: value.count), TDB_REPLACE)
                }
            }
            #expect(stored == 0)
        }
    }

    private let oldNodes: [(path: String, value: String, children: [String])] = [
        ("/", "", ["tool", "local"]), ("/tool", "", ["xenstored"]), ("/tool/xenstored", "x", []),
        ("/local", "", ["domain"]), ("/local/domain", "", ["0"]), ("/local/domain/0", "", ["name"]),
        ("/local/domain/0/name", "Domain-0", []), ("@introduceDomain", "", []), ("@releaseDomain", "", []),
    ]

    @Test func `an old file is read, and written in the same layout`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        writeOldFile(path, oldNodes)
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        let (model, sequence) = try store.recovered()
        #expect(sequence == 0)
        #expect(Set(model.keys) == Set(oldNodes.map(\.path)))
        let permissions = [Permission(.none, DomainID(0)), Permission(.read, DomainID(5))]
        #expect(
            model["/local/domain/0/name"]
                == Kept(generation: 7, permissions: permissions, value: Array("Domain-0".utf8)))
        var batch: [UInt8] = []
        packed(.put, 10, permissions, "/local/domain/3", [], &batch)
        packed(.remove, 11, [], "/tool/xenstored", [], &batch)
        try store.commit(1, batch)
        store.close()
        #expect(listener.lines == [])
        let found = try contents(of: path)
        #expect(found.children["/local/domain"] == ["0", "3"])
        #expect(found.children["/tool"] == [])
        #expect(found.applied == 1)
    }

    /// xenstored's own check threw away what no list of children named.
    @Test func `an old file with what a crash had left behind`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        writeOldFile(path, oldNodes + [("/local/lost", "", ["below"]), ("/local/lost/below", "", [])])
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        let (model, _) = try store.recovered()
        store.close()
        #expect(Set(model.keys) == Set(oldNodes.map(\.path)))
        #expect(listener.lines.first?.contains("no list of children names \"/local/lost\"") == true)
        #expect(directory.names.contains("tdb.damaged-1"))
        #expect(try contents(of: path).children["/local"] == ["domain"])
    }
}
