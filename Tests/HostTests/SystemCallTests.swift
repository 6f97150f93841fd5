// Does a request on an idle socket cost exactly three system calls?

import Foundation
import Glibc
import Testing

@testable import XenStoreHost

private let strace = "/usr/bin/strace"

/// The kernel's number of the daemon's thread in this process, which must have only one daemon.
private func daemonThread() -> String? {
    let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")
    return threads?.first { contents("/proc/self/task/\($0)/comm") == "xenstored\n" }
}

/// How many reads and writes a thread has done.
private func readsAndWrites(_ thread: String) -> [Int] {
    contents("/proc/self/task/\(thread)/io").split(separator: "\n")
        .filter { $0.hasPrefix("syscr") || $0.hasPrefix("syscw") }
        .compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }
}

@Suite(.timeLimit(.minutes(10)))
struct SystemCallTests {
    @Test(.enabled(if: contents("/proc/self/io") != "", "the kernel does not count"))
    func `a request is one read and one write`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            let daemon = try DaemonThread(testOptions(directory))
            let thread = try #require(daemonThread())
            let client = try RawClient(directory / "socket")
            #expect(client.ask(.getPermissions, "/\0")?.text == "n0\0")
            let before = readsAndWrites(thread)
            for _ in 0..<1000 { _ = client.ask(.getPermissions, "/\0") }
            #expect(readsAndWrites(thread) == before.map { $0 + 1000 })
            daemon.stop()
        }
    }

    @Test(.enabled(if: access(strace, X_OK) == 0, "strace is not installed"))
    func `a request is epoll_wait, read and write`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            let daemon = try DaemonThread(testOptions(directory))
            let thread = try #require(daemonThread())
            let client = try RawClient(directory / "socket")
            let tracer = Process()
            tracer.executableURL = URL(fileURLWithPath: strace)
            tracer.arguments = ["-q", "-p", thread, "-o", directory / "calls"]
            try tracer.run()
            #expect(
                eventually {
                    contents("/proc/self/task/\(thread)/status").contains(
                        "TracerPid:\t\(tracer.processIdentifier)\n")
                })
            for _ in 0..<100 { #expect(client.ask(.getPermissions, "/\0")?.text == "n0\0") }
            kill(tracer.processIdentifier, SIGKILL)
            tracer.waitUntilExit()
            let calls = contents(directory / "calls").split(separator: "\n").map { $0.prefix { $0 != "(" } }
            var counts: [Substring: Int] = [:]
            for call in calls { counts[call, default: 0] += 1 }
            #expect(counts["read"] == 100)
            #expect(counts["write"] == 100)
            // The first was interrupted by the tracer, or the last is unfinished.
            #expect(100...102 ~= counts["epoll_wait", default: 0])
            #expect(Set(counts.keys).isSubset(of: ["read", "write", "epoll_wait", "restart_syscall"]))
            daemon.stop()
        }
    }
}
