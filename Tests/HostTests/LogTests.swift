// Does the log say what happened, and never hold anybody up?

import Foundation
import Glibc
import Testing
import XenStore
import XenStoreTypes

@testable import XenStoreHost

@Suite(.timeLimit(.minutes(10)))
struct LogTests {
    let directory = TestDirectory()

    @Test func `lines carry time, level and harmless text`() throws {
        let path = directory / "log"
        let log = try Log(.file(path), level: .info)
        log.write(.warning, "first\nforged\u{1B}[2J")
        log.write(.debug, "not this one")
        log.write(.info, "last")
        log.close()
        let lines = contents(path).split(separator: "\n")
        #expect(lines.count == 2)
        let stamp = /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (.*)/
        #expect(try lines.first.map { try stamp.wholeMatch(in: $0)?.1 } == "warning: first?forged?[2J")
        #expect(try lines.last.map { try stamp.wholeMatch(in: $0)?.1 } == "info: last")
        var status = stat()
        #expect(lstat(path, &status) == 0 && status.st_mode & 0o7777 == 0o600)
    }

    @Test func `trace lines begin with date and time`() throws {
        let log = try Log(.file(directory / "log"), level: .info, traceFile: directory / "trace")
        log.trace(Array("IN c7 READ (/a )".utf8).span)
        log.close()
        let line = contents(directory / "trace")
        let form = #/\d{8} \d\d:\d\d:\d\d\.\d{3} IN c7 READ \(/a \)\n/#
        #expect(try form.wholeMatch(in: line) != nil)
    }

    @Test func `the trace can go to another file, and stays where it was if it cannot`() throws {
        let log = try Log(.file(directory / "log"), level: .info, traceFile: directory / "one")
        let world = HostWorld(log: log)
        log.trace(Array("a".utf8).span)
        try world.setTraceFile(Array((directory / "two").utf8).span)
        log.trace(Array("b".utf8).span)
        try world.setTraceFile(Array((directory / "none/three").utf8).span)
        log.trace(Array("c".utf8).span)
        #expect(throws: ErrorName.inval) { try world.setTraceFile(Array("relative".utf8).span) }
        log.close()
        #expect(contents(directory / "one").split(separator: "\n").count == 1)
        #expect(contents(directory / "two").split(separator: "\n").count == 2)
        #expect(contents(directory / "log").contains("none/three: No such file or directory"))
    }

    @Test func `reports are written, but not through links`() throws {
        let log = try Log(.file(directory / "log"), level: .info)
        let world = HostWorld(log: log)
        symlink(directory / "target", directory / "link")
        try world.writeReport(Array((directory / "report").utf8).span, Array("figures\n".utf8).span)
        try world.writeReport(Array((directory / "link").utf8).span, Array("figures\n".utf8).span)
        let bad = Array("/a\0b".utf8)
        #expect(throws: ErrorName.inval) { try world.writeReport(bad.span, bad.span) }
        log.close()
        #expect(contents(directory / "report") == "figures\n")
        #expect(access(directory / "target", F_OK) != 0)
        #expect(contents(directory / "log").contains("link: Too many levels of symbolic links"))
    }

    @Test func `reopening goes on in a new file`() throws {
        let path = directory / "log"
        let log = try Log(.file(path), level: .info)
        log.write(.info, "old")
        // What waits is written to the file that was open when it was logged.
        #expect(eventually { contents(path).contains("old") })
        rename(path, path + ".1")
        log.write(.info, "still old")
        log.reopen()
        log.write(.info, "new")
        log.close()
        #expect(contents(path + ".1").contains("still old"))
        #expect(contents(path).hasSuffix("info: new\n"))
    }

    @Test func `a sink that blocks holds nobody up, and what is lost is counted`() throws {
        let path = directory / "fifo"
        mkfifo(path, 0o600)
        #expect(throws: StartFailure.self) { try Log(.file(path), level: .info) }
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        let log = try Log(.file(path), level: .info, capacity: 64 << 10)
        let line = String(repeating: "x", count: 100)
        let start = monotonicNow()
        for _ in 0..<20_000 { log.write(.info, line) }
        #expect(monotonicNow() - start < 10_000_000_000)

        // Now somebody reads again: each line is there, or is counted as missing.
        var text = [UInt8]()
        let buffer = ReadBuffer(capacity: 1 << 20)
        let accountedFor = {
            if case .moved(let count) = buffer.fill(from: reader) {
                buffer.with(first: count) { span in
                    span.withUnsafeBufferPointer { text.append(contentsOf: $0) }
                }
            }
            let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
            let missing = lines.compactMap { line in
                line.split(separator: "warning: ").last.flatMap {
                    $0.firstMatch(of: /^(\d+) lines of the log/)
                }
            }
            return lines.count { $0.hasSuffix(line) } + missing.compactMap { Int($0.1) }.reduce(0, +)
        }
        #expect(eventually { accountedFor() == 20_000 })
        log.close()
        close(reader)
    }

    @Test func `a stop does not wait for a blocked sink for ever`() throws {
        let path = directory / "fifo"
        mkfifo(path, 0o600)
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        let log = try Log(.file(path), level: .info)
        let line = String(repeating: "x", count: 1000)
        for _ in 0..<500 { log.write(.info, line) }
        let start = monotonicNow()
        log.close()
        let took = monotonicNow() - start
        #expect(took > 1_500_000_000 && took < 30_000_000_000)
        close(reader)
    }

    @Test func `a blocked log does not stall the loop`() throws {
        mkfifo(directory / "log", 0o600)
        let reader = open(directory / "log", O_RDONLY | O_NONBLOCK)
        var options = testOptions(directory)
        options.traceFile = directory / "log"
        options.server.tracing = .all
        let daemon = try DaemonThread(options)
        let client = try RawClient(directory / "socket")
        // Two trace lines a request: more than the pipe's 64 KiB and the queue's 1 MiB take.
        for id in 0..<20_000 {
            guard client.ask(.getPermissions, "/\0", id: UInt32(id))?.requestID == UInt32(id) else {
                Issue.record("no reply")
                break
            }
        }
        close(reader)
        daemon.stop()
    }
}
