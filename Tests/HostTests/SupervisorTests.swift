// Is a daemon in the background started again when it dies, where its store outlives it?

import Foundation
import Glibc
import Testing
import XenStoreTypes

@testable import XenStoreHost

/// The children of a process.
private func children(of process: pid_t) -> [pid_t] {
    contents("/proc/\(process)/task/\(process)/children").split(separator: " ").compactMap { pid_t($0) }
}

@Suite(.timeLimit(.minutes(10)))
struct SupervisorTests {
    private let directory = TestDirectory()

    /// Starts the executable as launch-xenstore does. Answers its status.
    private func launch(store: String) throws -> Int32 {
        let file = directory / "c.yaml"
        try """
        hypervisor: none
        log: {destination: \(directory / "log")}
        store: {backend: append-log, options: {path: \(store)}}
        """.write(toFile: file, atomically: true, encoding: .utf8)
        let program = try builtExecutable()
        let arguments = "--pid-file \(directory / "pid") --config \(file)"
        let status = system("XENSTORED_RUNDIR=\(directory / "") \(program) \(arguments) 2>/dev/null >&2")
        return status >> 8 & 0xFF
    }

    private var supervisor: pid_t { pid_t(contents(directory / "pid").dropLast()) ?? -1 }

    @Test func aWorkerThatDiesIsStartedAgainAndTheTreeIsThere() throws {
        try #require(try launch(store: directory / "store.log") == 0)
        let supervisor = supervisor
        defer { kill(supervisor, SIGTERM) }
        var worker = try #require(children(of: supervisor).first)
        for round in 0..<3 {
            #expect(answer(directory / "socket", .write, "/round\0\(round)") == "OK\0")
            kill(worker, SIGKILL)
            #expect(
                eventually {
                    let serving = contents(directory / "log").components(separatedBy: " serves ").count - 1
                    return serving == round + 2
                })
            worker = children(of: supervisor).first ?? -1
            #expect(answer(directory / "socket", .read, "/round\0") == "\(round)")
            #expect(self.supervisor == supervisor)
        }
        kill(supervisor, SIGTERM)
        #expect(eventually { access(directory / "pid", F_OK) != 0 })
        #expect(eventually { kill(worker, 0) != 0 || contents("/proc/\(worker)/stat").contains(") Z ") })
        #expect(contents(directory / "log").contains("notice: stopping with"))
    }

    @Test func aWorkerEndsWithItsSupervisor() throws {
        try #require(try launch(store: directory / "store.log") == 0)
        let worker = try #require(children(of: supervisor).first)
        kill(supervisor, SIGKILL)
        #expect(eventually { contents(directory / "log").contains("notice: stopping with") })
        #expect(eventually { kill(worker, 0) != 0 || contents("/proc/\(worker)/stat").contains(") Z ") })
        // Nothing is in the way of the next one.
        #expect(try launch(store: directory / "store.log") == 0)
        kill(supervisor, SIGTERM)
        #expect(eventually { access(directory / "pid", F_OK) != 0 })
    }

    @Test func aDaemonThatCannotStartIsNotTriedAgain() throws {
        #expect(try launch(store: directory / "absent/store.log") == 1)
        #expect(access(directory / "pid", F_OK) != 0)
    }
}
