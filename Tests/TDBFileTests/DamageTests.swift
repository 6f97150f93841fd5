// Is what can be proved good of a damaged file kept, the rest told of and set aside, and is what must not be
// touched left alone?

import Foundation
import Glibc
import Testing
import XenStoreLog
import XenStorePlugin
import XenStoreTestKit

@testable import TDBFileStore

/// A store of so many batches at `path`, closed, and the tree that it holds.
@discardableResult
private func filled(_ path: String, seed: UInt64, batches: Int = 200) throws -> History {
    var history = History(seed: seed)
    let store = try TDBFileStore(path, Listener())
    _ = try store.recovered()
    for _ in 0..<batches {
        let batch = history.next()
        try store.commit(history.sequence, batch)
    }
    store.close()
    return history
}

private func change(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    try #require(pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count)
    close(descriptor)
}

private func bytes(_ path: String) -> Data { FileManager.default.contents(atPath: path) ?? Data() }

/// Why it does not open.
private func refusal(_ path: String) throws -> PluginFailure {
    do throws(PluginFailure) {
        let store = try TDBFileStore(path, Listener())
        withExtendedLifetime(store) {}
    } catch { return error }
    Issue.record("it opens")
    throw PluginFailure("")
}

@Suite(.timeLimit(.minutes(10)))
struct DamageTests {
    /// Bytes anywhere behind the chains' heads, a few at a time: what comes back was all committed.
    @Test(arguments: 0..<25)
    func `a damaged file`(seed: UInt64) throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let history = try filled(path, seed: seed)
        for log in [".wal", ".wal2"] { unlink(path + log) }
        var choices = SplitMix64(seed: seed)
        let start = TDBHeader.size + 4 * (Int(TDBFile.chains) + 1)
        let size = bytes(path).count
        for _ in 0..<40 {
            try change(path, at: start + 4 * choices.below((size - start) / 4), [0xFF, 0x13, 0x00, 0x80])
        }
        let damaged = bytes(path)
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        let (model, _) = try store.recovered()
        store.close()
        let aside = bytes(path + ".damaged-1")
        if aside.isEmpty {
            // What was hit was nobody's.
            #expect(listener.lines == [])
        } else {
            #expect(aside == damaged)
            #expect(listener.lines.count == 2)
        }
        // What a record says has no checksum in this format: what is told apart is records.
        for key in model.keys { #expect(history.model[key] != nil, "\(key) was never there") }
        let found = try contents(of: path)
        #expect(found.model == model)
        // The lists are the old tools' affair; they are made anew with the file.
        if !aside.isEmpty { #expect(found.children == model.children) }
    }

    @Test(arguments: [0, 4, 36])
    func `a header that is lost`(offset: Int) throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let history = try filled(path, seed: 4)
        try change(path, at: offset, [0xEE, 0xEE, 0xEE, 0xEE])
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        let (model, sequence) = try store.recovered()
        #expect(model == history.model)
        #expect(sequence == history.sequence)
        #expect(listener.lines.contains { $0.contains("damaged-1") })
        store.close()
        #expect(directory.names.contains("tdb.damaged-1"))
    }

    /// What the file has lost, the log may still have.
    @Test func `the log fills what the file has lost`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let history = try filled(path, seed: 5)
        try change(path, at: 0, [UInt8](repeating: 0, count: bytes(path).count))
        let store = try TDBFileStore(path, Listener())
        let (model, sequence) = try store.recovered()
        #expect(model == history.model)
        #expect(sequence == history.sequence)
        store.close()
        #expect(try contents(of: path).children == history.model.children)
    }

    @Test func `a file from before its log`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        let early = try filled(path, seed: 6, batches: 20)
        try FileManager.default.copyItem(atPath: path, toPath: directory / "copy")
        for log in [".wal", ".wal2"] { unlink(path + log) }
        // A log that begins later.
        let log = try WriteAhead(beside: path, syncing: false)
        _ = try log.replay(after: 0, all: false)
        let batch = ByteBuffer()
        try log.append(40, batch.bytes)
        log.close()
        let listener = Listener()
        let store = try TDBFileStore(path, listener)
        let (model, sequence) = try store.recovered()
        #expect(model == early.model && sequence == 20)
        #expect(listener.lines.contains { $0.contains("goes on with batch 40, expected 21") })
        #expect(directory.names.contains("tdb.wal.damaged-1"))
        store.close()
    }

    // MARK: What is left alone

    @Test func `Xen's own version of tdb`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        try filled(path, seed: 1)
        try change(path, at: 32, [0x6E, 0x19, 0x01, 0x26])
        let before = bytes(path)
        #expect(try refusal(path).reason.contains("the libtdb that Xen 4.17 and earlier had a copy of"))
        #expect(bytes(path) == before)
    }

    @Test func `a newer daemon's file`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        try filled(path, seed: 1)
        let file = try TDBFile(path, syncing: false)
        let value = ByteBuffer()
        value.append(UInt32(2))
        value.append(UInt32(0))
        let key = ByteBuffer()
        key.append(byte: 1)
        for byte in "tdb-file".utf8 { key.append(byte: byte) }
        #expect(
            try file.transaction { () throws(PluginFailure) in
                try file.store(key.bytes, value.bytes, isNew: false)
            } == .done)
        let failure = try refusal(path + "")
        #expect(failure.code == EBUSY || failure.code == EPROTO || failure.code == EIO)
        withExtendedLifetime(file) {}
    }

    @Test func `a newer log`() throws {
        let directory = TestDirectory()
        let path = directory / "tdb"
        try filled(path, seed: 1)
        unlink(path + ".wal")
        let log = try RecordLog(path + ".wal", kind: "tdb-wal9")
        log.close()
        let before = bytes(path)
        #expect(try refusal(path).reason.contains(path + ".wal"))
        #expect(bytes(path) == before)
    }

    @Test func `a symbolic link, a directory, a file that others may write`() throws {
        let directory = TestDirectory()
        try filled(directory / "real", seed: 1)
        symlink(directory / "real", directory / "link")
        #expect(try refusal(directory / "link").reason.hasSuffix("link: this is a symbolic link"))
        mkdir(directory / "folder", 0o700)
        #expect(try refusal(directory / "folder").reason.contains("folder"))
        chmod(directory / "real", 0o666)
        #expect(try refusal(directory / "real").reason.contains("its mode is 666"))
        #expect(!directory.names.contains { $0.hasPrefix("link.") || $0.hasPrefix("folder.") })
    }

    @Test func `a second daemon`() throws {
        let directory = TestDirectory()
        let first = try TDBFileStore(directory / "tdb", Listener())
        #expect(try refusal(directory / "tdb").code == EWOULDBLOCK)
        first.close()
    }

    @Test func `a directory that is not there`() throws {
        let directory = TestDirectory()
        #expect(try refusal(directory / "no/tdb").reason.contains("no"))
    }

    @Test(arguments: [
        ("path", "tdb", "an absolute path of a file"), ("sync", "often", "always, interval or never"),
        ("apply-interval", "0", "milliseconds from 1 to 60000"),
    ])
    func `options that are wrong`(key: String, value: String, expected: String) {
        let option = PluginOption(key: key, value: value, place: "xenstored.yaml:7:9")
        do throws(PluginFailure) {
            _ = try Settings([option])
            Issue.record("taken")
        } catch {
            #expect(error.reason == "xenstored.yaml:7:9: found \"\(value)\", expected \(expected)")
        }
    }
}
