// Is everything there that commit has returned from, whenever the process is killed?

import CLinux
import Foundation
import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import TDBFileStore

/// How many times: more with XENSTORE_KILLS.
private let kills = ProcessInfo.processInfo.environment["XENSTORE_KILLS"].flatMap(Int.init) ?? 40

/// A batch for each number, so that whoever knows the number knows the tree: nodes that are written again and
/// again, and pairs of nodes that come and go.
private func batch(_ sequence: UInt64) -> [UInt8] {
    let owner = [Permission(.read, DomainID(UInt16(sequence % 7)))]
    let value = Array("\(sequence)".utf8)
    var batch: [UInt8] = []
    if sequence == 1 {
        for path in ["/", "/k", "/t"] { packed(.put, 1, owner, path, [], &batch) }
    }
    packed(.put, sequence, owner, "/k/\(sequence % 97)", value, &batch)
    let pair = "/t/\(sequence / 2)"
    if sequence % 2 == 0 {
        packed(.put, sequence, owner, pair, value, &batch)
        packed(.put, sequence, owner, pair + "/c", value, &batch)
    } else if sequence > 60 {
        for path in ["/t/\(sequence / 2 - 20)", "/t/\(sequence / 2 - 20)/c"] {
            packed(.remove, sequence, [], path, [], &batch)
        }
    }
    return batch
}

/// Goes on from what the store holds, until it is killed. Says in `word` what is acknowledged, and in the
/// next one that it has begun.
private func commitUntilKilled(_ path: String, _ word: UnsafeMutablePointer<UInt32>, seed: UInt64) -> Never {
    do {
        var choices = SplitMix64(seed: seed)
        let modes = ["never", "never", "interval", "always"]
        let listener = Listener()
        let store = try TDBFileStore(
            path, listener, sync: choices.one(of: modes), every: 1 + choices.below(8))
        var sequence = try store.recover { _ in }
        shared_store(word + 1, UInt32(seed + 1))
        while true {
            sequence += 1
            let outcome = try store.commit(sequence, batch(sequence))
            if outcome == .final || listener.committed > 0 {
                shared_store(word, UInt32(outcome == .final ? sequence : listener.committed))
            }
            if choices.chance(5) { usleep(2000) }
        }
    } catch {
        FileHandle.standardError.write(Data("\(error)\n".utf8))
        _exit(1)
    }
}

@Suite(.timeLimit(.minutes(10)))
struct KillTests {
    @Test func `kill -9 at random moments`() async {
        // In a process that has one thread, so that it can fork.
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            defer { directory.remove() }
            let path = directory / "tdb"
            let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
            try #require(page != MAP_FAILED)
            let word = page!.assumingMemoryBound(to: UInt32.self)
            var choices = SplitMix64(seed: 78)
            var model: Model = [:]
            var stands: UInt64 = 0
            for round in 0..<kills {
                let child = linux_fork()
                if child == 0 { commitUntilKilled(path, word, seed: UInt64(round)) }
                // One in five while it starts, the others while it commits.
                for _ in 0..<10_000 where round % 5 > 0 && shared_load(word + 1) != round + 1 { usleep(1000) }
                usleep(UInt32(choices.below(30_000)))
                kill(child, SIGKILL)
                var status: Int32 = 0
                waitpid(child, &status, 0)
                try #require(status == SIGKILL, "round \(round): ended by itself")
                // Every third time, so that recoveries are killed too.
                guard round % 3 == 2 else { continue }
                let listener = Listener()
                let store = try TDBFileStore(path, listener)
                let (found, sequence) = try store.recovered()
                try #require(sequence >= UInt64(shared_load(word)) && sequence >= stands, "round \(round)")
                while stands < sequence {
                    stands += 1
                    _ = batch(stands).withUnsafeBytes { model.apply($0) }
                }
                try #require(found == model && listener.lines == [], "round \(round)")
                store.close()
                let kept = try contents(of: path)
                try #require(kept.model == model && kept.children == model.children, "round \(round)")
                try #require(kept.applied == sequence, "round \(round)")
            }
            try #require(stands > UInt64(kills))
        }
    }
}
