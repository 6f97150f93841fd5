// Is a file that is not ours refused, and left as it is?

import CLinux
import Foundation
import Glibc
import Testing
import XenStoreLog
import XenStoreTestKit

@Suite(.timeLimit(.minutes(10)))
struct RefusalTests {
    let directory = TestDirectory()
    private var path: String { directory / "log" }

    private func refusal(_ path: String? = nil, kind: String = testKind) -> LogFailure? {
        do throws(LogFailure) {
            _ = try RecordLog(path ?? self.path, kind: kind)
            return nil
        } catch { return error }
    }

    @Test func `what is no file of ours`() throws {
        try makeLog(directory / "real", entries(3, seed: 1))
        symlink(directory / "real", path)
        #expect(refusal()?.code == ELOOP)
        unlink(path)
        mkdir(path, 0o700)
        #expect(refusal()?.code == EISDIR)
        rmdir(path)
        mkfifo(path, 0o600)
        #expect(refusal()?.description == "\(path): expected a regular file")
        unlink(path)
        #expect(refusal(directory / "none/log")?.code == ENOENT)
        #expect(refusal(directory / "")?.code == EINVAL)
        #expect(refusal("")?.code == EINVAL)
        chmod(directory / "real", 0o620)
        #expect(refusal(directory / "real")?.code == EPERM)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give files away"))
    func `somebody else's file`() throws {
        try makeLog(path, entries(3, seed: 1))
        let before = bytes(path)
        chown(path, 12345, 0)
        #expect(refusal()?.code == EPERM)
        #expect(refusal()?.description.contains("user 12345") == true)
        #expect(bytes(path) == before)
    }

    @Test func `other formats`() throws {
        try makeLog(path, entries(3, seed: 1))
        let whole = bytes(path)
        #expect(refusal(kind: "OTHERLOG")?.description == "\(path): it holds 'TESTLOG1', expected 'OTHERLOG'")
        for (change, expected) in [
            ((8, [2, 0, 0, 0]), "is of format version 2, expected 1 at most"),
            ((12, [1, 2, 3, 4]), "was written by a machine of the other byte order"),
            ((24, [0, 0, 0, 0]), "both copies of its head are damaged; it is left as it is"),
            ((0, [0]), "is no log (no magic number at its start)"),
        ] as [((Int, [UInt8]), String)] {
            var other = whole
            for copy in [0, 2048] {
                other.replaceSubrange((copy + change.0)..<(copy + change.0 + change.1.count), with: change.1)
            }
            store(other, at: path)
            #expect(refusal()?.description == "\(path): \(expected)")
            #expect(bytes(path) == other)
        }
        store(Array("# a configuration\n".utf8), at: path)
        #expect(refusal()?.code == EINVAL)
        #expect(bytes(path) == Array("# a configuration\n".utf8))
    }

    @Test(arguments: [0, 1, 4095, 4096, 5000, 1 << 20])
    func `a file of zeros is a new one`(count: Int) throws {
        store([UInt8](repeating: 0, count: count), at: path)
        #expect(try entries(at: path).replay == .init())
    }

    @Test func `a second user is refused`() throws {
        let log = try RecordLog(path, kind: testKind)
        #expect(refusal()?.code == EWOULDBLOCK)
        #expect(refusal()?.description == "\(path): another process has it open")
        log.close()
        #expect(refusal() == nil)
    }

    @Test func `the file is for its owner alone`() throws {
        let before = umask(0)
        try makeLog(path, [])
        umask(before)
        var file = stat()
        #expect(stat(path, &file) == 0)
        #expect(file.st_mode & 0o777 == 0o600)
    }

    @Test func `a working directory that changes is no matter`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            try #require(chdir(directory.path) == 0)
            let log = try RecordLog("log", kind: testKind)
            try log.replay { _, _ in }
            try #require(chdir("/") == 0)
            try log.replace(by: log.successor(), durably: true)
            #expect(directory.names == ["log"])
        }
    }
}

/// Each in a process of its own: limits and signals are the whole process's.
@Suite(.timeLimit(.minutes(10)))
struct FullDiskTests {
    @Test func `a limit of the file's size is a full disk, not a signal`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let log = try RecordLog(directory / "log", kind: testKind, chunk: 8192)
            try log.replay { _, _ in }
            var limit = rlimit(rlim_cur: 50_000, rlim_max: .max)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            var kept: [Entry] = []
            var failure: LogFailure?
            for entry in entries(1000, seed: 4, max: 200) {
                do throws(LogFailure) { try log.append(entry) } catch {
                    failure = error
                    break
                }
                kept.append(entry)
            }
            #expect(failure?.isFull == true)
            #expect(kept.count > 100)
            // What fits still does, to the last byte; and more when there is room again.
            let last = Entry(sequence: 5000, payload: [UInt8](repeating: 1, count: log.room))
            try log.append(last)
            #expect(throws: LogFailure.self) { try log.prepare(4096) }
            limit.rlim_cur = .max
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            try log.append(last)
            log.close()
            #expect(try entries(at: directory / "log").found == kept + [last, last])
        }
    }

    @Test func `a file that is cut short under us is an error, not a signal`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let log = try RecordLog(directory / "log", kind: testKind, chunk: 1 << 20)
            try log.replay { _, _ in }
            for entry in entries(100, seed: 4) { try log.append(entry) }
            try #require(truncate(directory / "log", 4096) == 0)
            let entry = Entry(sequence: 9, payload: [UInt8](repeating: 3, count: 5000))
            #expect(throws: LogFailure.self) { try log.append(entry) }
            #expect(throws: LogFailure.self) { try log.append(entry) }
            #expect(throws: LogFailure.self) { try log.sync() }
            #expect(throws: LogFailure.self) { try log.forEach(from: 0, to: log.count) { _, _ in } }
        }
    }
}
