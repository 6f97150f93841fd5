// Does `xenstored convert` carry a store over whole, to and fro, and refuse what it must?

import Foundation
import Glibc
import Testing
import XenStoreTestKit

@testable import TDBFileStore

/// Beside the tests: the executable and the modules of this build.
private let built: String = {
    var directory = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    for argument in CommandLine.arguments where argument.hasSuffix(".xctest") {
        directory = URL(filePath: argument).deletingLastPathComponent()
    }
    return directory.path
}()

private func convert(_ arguments: String...) throws -> (text: String, status: Int32) {
    try run(built + "/xenstored", ["convert"] + arguments)
}

@Suite(
    .timeLimit(.minutes(10)),
    .enabled("the modules are built") {
        ["xenstored", "libxenstore-tdb-file.so", "libxenstore-append-log.so"].allSatisfy {
            access(built + "/" + $0, R_OK) == 0
        }
    })
struct ConvertTests {
    @Test func `to an append-log and back`() throws {
        let directory = TestDirectory()
        var history = History(seed: 12)
        let store = try TDBFileStore(directory / "tdb", Listener())
        _ = try store.recovered()
        for _ in 0..<300 {
            let batch = history.next()
            try store.commit(history.sequence, batch)
        }
        store.close()

        let there = try convert(
            "--from", "tdb-file:" + directory / "tdb", "--to", "append-log:" + directory / "store.log",
            "--to-option", "sync=never")
        #expect(there.status == 0, "\(there.text)")
        #expect(there.text.contains("1 notes") || there.text.contains(" notes, "))
        let back = try convert(
            "--from", "append-log:" + directory / "store.log", "--to", "tdb-file:" + directory / "again")
        #expect(back.status == 0, "\(back.text)")
        #expect(!directory.names.contains { $0.contains("converting") })

        let listener = Listener()
        let again = try TDBFileStore(directory / "again", listener)
        let (model, sequence) = try again.recovered()
        again.close()
        #expect(model == history.model && sequence == history.sequence)
        #expect(listener.lines == [])
        #expect(try contents(of: directory / "again").children == history.model.children)
        #expect(try contents(of: directory / "tdb").model == history.model)
    }

    @Test func `what is refused`() throws {
        let directory = TestDirectory()
        let store = try TDBFileStore(directory / "tdb", Listener())
        _ = try store.recovered()
        store.close()
        let from = "tdb-file:" + directory / "tdb"
        _ = FileManager.default.createFile(atPath: directory / "there", contents: Data("x".utf8))
        let cases: [([String], Int32, String)] = [
            (["--from", from, "--to", "append-log:" + directory / "there"], 1, "is there already"),
            (["--from", from, "--to", "memory:" + directory / "m"], 1, "keeps nothing"),
            (
                ["--from", "tdb-file:" + directory / "no", "--to", "append-log:" + directory / "x"], 1,
                "No such"
            ),
            (["--from", from, "--to", "append-log"], 2, "expected MODULE:FILE"),
            (["--from", from, "--to", "no-such:" + directory / "x"], 2, "found no module \"no-such\""),
            (["--from", from], 2, "--to"),
            (
                ["--from", from, "--to", "append-log:" + directory / "x", "--to-option", "speed=9"], 2,
                "unknown key \"speed\""
            ),
            (
                ["--from", from, "--to", "append-log:" + directory / "x", "--to-option", "sync=maybe"], 1,
                "found \"maybe\", expected always, interval or never"
            ),
        ]
        for (arguments, status, text) in cases {
            let outcome = try run(built + "/xenstored", ["convert"] + arguments)
            #expect(outcome.status == status && outcome.text.contains(text), "\(outcome.text)")
        }
        #expect(directory.names.sorted() == ["tdb", "tdb.wal", "tdb.wal2", "there"])
    }
}
