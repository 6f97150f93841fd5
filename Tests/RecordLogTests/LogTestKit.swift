// What the tests of logs share: a directory, payloads of a seed, and a log read as a list.

import Foundation
import Glibc
import XenStoreLog
import XenStoreTestKit

let testKind = "TESTLOG1"

/// A directory that goes away with this object: in memory where it can be, since these tests sync thousands
/// of times.
final class TestDirectory: Sendable {
    let path: String

    init() {
        let parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var template = Array("\(parent)/xenstored-log.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
    }

    deinit { remove() }

    /// For those who end the process, and so never see the end of its scope.
    func remove() { try? FileManager.default.removeItem(atPath: path) }

    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    static func / (directory: TestDirectory, name: String) -> String { directory.path + "/" + name }
}

struct Entry: Equatable {
    let sequence: UInt64
    let payload: [UInt8]
}

/// So many frames, mostly short, some long.
func entries(_ count: Int, seed: UInt64, max: Int = 400) -> [Entry] {
    var choices = SplitMix64(seed: seed)
    return (0..<count).map { number in
        let length = choices.chance(5) ? choices.below(20 * max) : choices.below(max)
        return Entry(
            sequence: UInt64(number + 1),
            payload: (0..<length).map { _ in UInt8(truncatingIfNeeded: choices.next()) })
    }
}

extension RecordLog {
    func append(_ entry: Entry) throws(LogFailure) {
        _ = try entry.payload.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in
            try append(entry.sequence, bytes)
        }
    }

    /// Replays it into a list.
    func entries() throws(LogFailure) -> (found: [Entry], replay: Replay) {
        var found: [Entry] = []
        let replay = try replay { found.append(Entry(sequence: $0, payload: Array($1))) }
        return (found, replay)
    }
}

/// What the log at a path replays, once.
func entries(at path: String) throws -> (found: [Entry], replay: RecordLog.Replay) {
    let log = try RecordLog(path, kind: testKind)
    defer { log.close() }
    return try log.entries()
}

/// A log with these frames in it, closed again; a small chunk makes many windows.
func makeLog(_ path: String, _ entries: [Entry], chunk: Int = 1 << 16) throws {
    let log = try RecordLog(path, kind: testKind, chunk: chunk)
    try log.replay { _, _ in }
    for entry in entries { try log.append(entry) }
    log.close()
}

func bytes(_ path: String) -> [UInt8] { FileManager.default.contents(atPath: path).map { Array($0) } ?? [] }

func store(_ bytes: [UInt8], at path: String) {
    try? FileManager.default.removeItem(atPath: path)
    _ = FileManager.default.createFile(
        atPath: path, contents: Data(bytes), attributes: [.posixPermissions: 0o600])
}

/// The bytes that frames with these payloads take.
func size(_ entries: [Entry]) -> Int { entries.reduce(0) { $0 + (16 + $1.payload.count + 7) & ~7 } }
