// Does a log give back what was appended, through windows, other threads and successors?

import CLinux
import Glibc
import Testing
import XenStoreLog
import XenStoreTestKit

@Suite(.timeLimit(.minutes(10)))
struct RecordLogTests {
    let directory = TestDirectory()

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `what is appended is replayed`(seed: UInt64) throws {
        let path = directory / "log"
        var all: [Entry] = []
        var choices = SplitMix64(seed: seed)
        for round in 0..<4 {
            let log = try RecordLog(path, kind: testKind, chunk: 4096 << choices.below(4))
            let (found, replay) = try log.entries()
            #expect(found == all)
            #expect(replay == .init(frames: all.count, bytes: size(all)))
            for entry in entries(choices.below(400), seed: seed * 10 + UInt64(round)) {
                if choices.chance(10) { try log.prepare(choices.below(100_000)) }
                if choices.chance(10) { log.warm(choices.below(100_000)) }
                try log.append(entry)
                all.append(entry)
            }
            #expect(log.count == size(all))
        }
        #expect(try entries(at: path).found == all)
    }

    @Test func `a frame may be longer than a window`() throws {
        let path = directory / "log"
        let lengths = [10, 8000, 8176, 8177, 100_000, 0, 70 << 20, 3]
        let all = lengths.enumerated().map { number, length in
            Entry(sequence: UInt64(number), payload: [UInt8](repeating: UInt8(number + 1), count: length))
        }
        try makeLog(path, all, chunk: 4096)
        #expect(try entries(at: path).found == all)
    }

    @Test func `prepare promises room`() throws {
        let log = try RecordLog(directory / "log", kind: testKind, chunk: 4096)
        try log.replay { _, _ in }
        for wanted in [1, 100, 4096, 4097, 1_000_000] {
            try log.prepare(wanted)
            #expect(log.room >= wanted)
        }
        let room = log.room
        try log.append(Entry(sequence: 1, payload: [UInt8](repeating: 7, count: room)))
        #expect(log.room == 0)
    }

    @Test func `others prepare, sync and read meanwhile`() throws {
        let path = directory / "log"
        let log = try RecordLog(path, kind: testKind, chunk: 8192)
        try log.replay { _, _ in }
        let all = entries(20_000, seed: 5)
        let stop = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
        stop.pointee = 0
        defer { stop.deallocate() }
        let side = Worker {
            var rounds = 0
            while shared_load(stop) == 0 {
                try log.prepare(20_000)
                log.warm(20_000)
                if rounds % 16 == 0 { try log.sync() }
                var next: UInt64 = 1
                try log.forEach(from: 0, to: log.count) { sequence, _ throws(LogFailure) in
                    guard sequence == next else { throw LogFailure(EINVAL, "\(sequence) at \(next)") }
                    next += 1
                }
                rounds += 1
            }
        }
        for entry in all { try log.append(entry) }
        shared_store(stop, 1)
        #expect(side.join() == nil)
        log.close()
        #expect(try entries(at: path).found == all)
    }

    @Test func `a successor takes its place`() throws {
        let path = directory / "log"
        let log = try RecordLog(path, kind: testKind, chunk: 4096)
        try log.replay { _, _ in }
        for entry in entries(300, seed: 1) { try log.append(entry) }
        for round in 0..<5 as Range<UInt64> {
            let next = try log.successor()
            let kept = entries(20, seed: 100 + round)
            for entry in kept { try next.append(entry) }
            try log.replace(by: next, durably: round % 2 == 0)
            #expect(directory.names == ["log"])
            #expect(log.count == size(kept))
            #expect(next.count != log.count)
            let more = entries(50, seed: 200 + round)
            for entry in more { try log.append(entry) }
            var found: [Entry] = []
            try log.forEach(from: 0, to: log.count) { found.append(Entry(sequence: $0, payload: Array($1))) }
            #expect(found == kept + more)
            #expect(throws: LogFailure.self) { try RecordLog(path, kind: testKind) }
        }
        let count = log.count
        log.close()
        let (found, _) = try entries(at: path)
        #expect(size(found) == count)
    }

    @Test func `a successor that a dead process left is no matter`() throws {
        let path = directory / "log"
        try makeLog(path, entries(3, seed: 1))
        store([1, 2, 3], at: path + ".new")
        #expect(try entries(at: path).found == entries(3, seed: 1))
        #expect(directory.names == ["log"])
        let log = try RecordLog(path, kind: testKind)
        try log.replay { _, _ in }
        let next = try log.successor()
        #expect(directory.names == ["log", "log.new"])
        next.abandon()
        #expect(directory.names == ["log"])
    }

    @Test func `what the receiver throws is thrown, and nothing is cut`() throws {
        let path = directory / "log"
        let all = entries(10, seed: 3)
        try makeLog(path, all)
        var torn = bytes(path)
        torn[4096 + size(all)] = 9
        store(torn, at: path)
        let log = try RecordLog(path, kind: testKind)
        #expect(throws: LogFailure.self) {
            try log.replay { _, _ throws(LogFailure) in throw LogFailure(EINVAL, "enough") }
        }
        log.close()
        #expect(bytes(path) == torn)
    }
}

@Suite struct ChecksumTests {
    @Test func `the checksum is CRC-32C`() {
        let text = Array("123456789".utf8)
        #expect(crc32c(0, text, 9) == 0xE306_9283)
        #expect(crc32c_by_tables(0, text, 9) == 0xE306_9283)
    }

    @Test func `instruction and tables agree, in pieces too`() {
        var choices = SplitMix64(seed: 9)
        for length in 0..<300 {
            let some = (0..<length).map { _ in UInt8(truncatingIfNeeded: choices.next()) }
            let start = UInt32(truncatingIfNeeded: choices.next())
            let whole = crc32c(start, some, length)
            #expect(crc32c_by_tables(start, some, length) == whole)
            let cut = choices.below(length + 1)
            #expect(crc32c(crc32c(start, some, cut), Array(some[cut...]), length - cut) == whole)
        }
    }
}

/// A thread that may fail.
final class Worker: @unchecked Sendable {
    private var thread = pthread_t()
    private let body: () throws -> Void
    private var failure: (any Error)?

    init(_ body: @escaping () throws -> Void) {
        self.body = body
        pthread_create(
            &thread, nil,
            { argument in
                let worker = Unmanaged<Worker>.fromOpaque(argument!).takeUnretainedValue()
                do { try worker.body() } catch { worker.failure = error }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Waits for its end, and says why it failed.
    func join() -> String? {
        pthread_join(thread, nil)
        return failure.map { "\($0)" }
    }
}
