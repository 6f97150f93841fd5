// Is everything there that append has returned from, whenever the process is killed?

import CLinux
import Foundation
import Glibc
import Testing
import XenStoreLog
import XenStoreTestKit

/// How many times: more with XENSTORE_KILLS.
private let kills = ProcessInfo.processInfo.environment["XENSTORE_KILLS"].flatMap(Int.init) ?? 100

/// A word that a child and we share.
private func sharedWord() throws -> UnsafeMutablePointer<UInt32> {
    let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    try #require(page != MAP_FAILED)
    return page!.assumingMemoryBound(to: UInt32.self)
}

/// The payload of frame `sequence`, so that a reader can tell.
private func expected(_ sequence: UInt64) -> [UInt8] {
    var choices = SplitMix64(seed: sequence)
    let length = choices.chance(3) ? choices.below(40_000) : choices.below(300)
    return (0..<length).map { _ in UInt8(truncatingIfNeeded: choices.next()) }
}

/// Opens the log, appends until it is killed, and says in `word` what it has appended. Some of the time
/// through successors.
private func appendUntilKilled(_ path: String, _ word: UnsafeMutablePointer<UInt32>, seed: UInt64) -> Never {
    do {
        var choices = SplitMix64(seed: seed)
        let log = try RecordLog(path, kind: testKind, chunk: 1 << (12 + choices.below(6)))
        var last: UInt64 = 0
        try log.replay { sequence, _ in last = sequence }
        // A test that is ended itself leaves nobody behind.
        while getppid() != 1 {
            last += 1
            try log.append(Entry(sequence: last, payload: expected(last)))
            shared_store(word, UInt32(last))
            if choices.chance(2) { try log.prepare(choices.below(50_000)) }
            if choices.chance(2) {
                let next = try log.successor()
                try log.forEach(from: 0, to: log.count) { sequence, payload throws(LogFailure) in
                    if sequence + 50 > last { try next.append(sequence, payload) }
                }
                try log.replace(by: next, durably: false)
            }
        }
    } catch {
        printError("\(error)")
    }
    _exit(1)
}

private func printError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

@Suite(.timeLimit(.minutes(10)))
struct KillTests {
    @Test func `kill -9 at random moments`() async {
        // In a process that has one thread, so that it can fork.
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let path = directory / "log"
            let word = try sharedWord()
            var choices = SplitMix64(seed: 77)
            var stands: UInt64 = 0
            for round in 0..<kills {
                let child = linux_fork()
                if child == 0 { appendUntilKilled(path, word, seed: UInt64(round)) }
                // One in eight does not even get to append.
                let waits = !choices.chance(12)
                for _ in 0..<10_000 where waits && shared_load(word) == UInt32(stands) { usleep(100) }
                usleep(UInt32(choices.below(2000)))
                kill(child, SIGKILL)
                var status: Int32 = 0
                waitpid(child, &status, 0)
                try #require(status == SIGKILL, "round \(round): ended by itself")
                var next: UInt64?
                let log = try RecordLog(path, kind: testKind)
                let replay = try log.replay { sequence, payload throws(LogFailure) in
                    let isNext = sequence == next ?? sequence
                    guard isNext, payload.elementsEqual(expected(sequence)) else {
                        throw LogFailure(EINVAL, "frame \(sequence) where \(next ?? 0) should be")
                    }
                    next = sequence + 1
                }
                log.close()
                let last = (next ?? 1) - 1
                let acknowledged = UInt64(shared_load(word))
                try #require(last == acknowledged || last == acknowledged + 1, "round \(round)")
                try #require(last >= stands && replay.setAside == nil, "round \(round)")
                stands = last
            }
            try #require(stands > UInt64(kills))
            try #require(directory.names.allSatisfy { $0 == "log" })
        }
    }
}
