// Does the benchmark start what it measures, say why it could not, and leave nothing behind.

import Glibc
import Testing

@testable import xenstore_bench

@Test func aCommandThatEndsIsReportedWithWhatItSaid() {
    let failure = #expect(throws: Failure.self) {
        try Daemon(.command("echo cannot serve in $XENSTORED_RUNDIR"), cpu: nil)
    }
    let text = failure?.description ?? ""
    #expect(text.contains("does not listen"))
    let directory = text.split { $0 == " " || $0 == "\n" }.last { $0.contains("/xenstore-bench.") }
    #expect(directory.map { access(String($0), F_OK) } == -1)
}

@Test func aRunningDaemonMustListen() {
    #expect(throws: Failure.self) {
        try Daemon(.running(pid: getpid(), socket: "/nonexistent/socket", simulated: nil), cpu: nil)
    }
}
