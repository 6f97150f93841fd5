// Is everything there that commit has returned from, whenever the process is killed?

import CLinux
import Foundation
import Glibc
import Testing
import XenStoreTestKit

@testable import TDBFileStore

/// How many times: more with XENSTORE_KILLS.
private let kills = ProcessInfo.processInfo.environment["XENSTORE_KILLS"].flatMap(Int.init) ?? 150

/// Goes on with the history that the store holds, until it is killed. Says in `word` what is acknowledged,
/// and in the next one that it has begun.
private func commitUntilKilled(_ path: String, _ word: UnsafeMutablePointer<UInt32>, seed: UInt64) -> Never {
    do {
        var choices = SplitMix64(seed: seed)
        let modes = ["never", "never", "interval", "always"]
        let listener = Listener()
        let store = try TDBFileStore(
            path, listener, sync: choices.one(of: modes), every: 1 + choices.below(8))
        let (model, sequence) = try store.recovered()
        var history = History(seed: 99)
        while history.sequence < sequence { _ = history.next() }
        guard model == history.model, listener.lines.isEmpty else {
            FileHandle.standardError.write(Data("at batch \(sequence): \(listener.lines)\n".utf8))
            _exit(1)
        }
        shared_store(word + 1, UInt32(seed + 1))
        while true {
            let batch = history.next()
            if try store.commit(history.sequence, batch) == .final {
                shared_store(word, UInt32(history.sequence))
            } else {
                shared_store(word, UInt32(listener.committed))
            }
            if choices.chance(1) { usleep(2000) }
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
                guard round % 10 == 9 else { continue }

                let listener = Listener()
                let store = try TDBFileStore(path, listener)
                let (model, sequence) = try store.recovered()
                var history = History(seed: 99)
                while history.sequence < sequence { _ = history.next() }
                try #require(model == history.model, "round \(round)")
                try #require(listener.lines == [], "round \(round)")
                try #require(sequence >= UInt64(shared_load(word)) && sequence >= stands, "round \(round)")
                stands = sequence
                store.close()
            }
            try #require(stands > UInt64(kills))
            let found = try contents(of: path)
            var history = History(seed: 99)
            while history.sequence < stands { _ = history.next() }
            try #require(found.model == history.model && found.children == history.model.children)
        }
    }
}
