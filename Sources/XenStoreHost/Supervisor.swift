// The parent that starts the daemon again, where nobody else would: in the background, under launch-xenstore
// or SysV scripts, with a store that outlives the daemon (specification, section H).
//
//     caller ── background process: supervisor, whose number is in the pid file
//                  └── worker: the daemon; another one after each that was killed
//
// The supervisor has one thread, and does nothing but wait for signals: SIGTERM, SIGINT and SIGHUP go on to
// the worker. A worker that ends by itself ends it all, with its status, unless an earlier one has served:
// then something has changed under it, and it is tried again. A worker dies with its supervisor.

import CLinux
import Glibc

/// What a supervisor knows of its worker.
final class Supervisor {
    enum Side {
        /// The supervisor's own process: it has nothing left to do but to end with this status.
        case supervisor(status: Int32)
        /// A worker's process, which is to serve.
        case worker(Serving)
    }

    /// A worker's way to say that it serves.
    struct Serving {
        fileprivate let pipeEnd: Int32

        func tell() {
            let byte: [UInt8] = [1]
            _ = writeSome(pipeEnd, byte.span)
            close(pipeEnd)
        }
    }

    /// Milliseconds from a worker's death to the next one: more, the sooner it died.
    private static let pauses = [100, 200, 400, 1000]

    private var worker: pid_t = 0
    private var hasServed = false
    private var isStopping = false
    private var deathsInARow = 0

    private static var signals: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] { sigaddset(&set, number) }
        return set
    }

    /// Returns in the supervisor's process once all is over, and in each worker's at its beginning. No other
    /// thread may exist. `detach` is called when the supervisor has its first worker.
    ///
    /// Fails if the first worker cannot be forked.
    static func run(detach: () -> Void) throws(StartFailure) -> Side {
        var set = signals
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let supervisor = Supervisor()
        var isFirst = true
        while true {
            guard let reading = try supervisor.fork(mayFail: !isFirst) else {
                usleep(1_000_000)
                continue
            }
            if case .worker(let serving) = reading { return .worker(serving) }
            if isFirst { detach() }
            isFirst = false
            let started = monotonicNow()
            let status = supervisor.wait(reading)
            if let end = supervisor.verdict(status) { return .supervisor(status: end) }
            supervisor.rest(since: started, status)
        }
    }

    private enum Forked {
        case worker(Serving)
        /// The end at which the worker tells that it serves.
        case supervisor(Int32)
    }

    /// Nil: there is no process to be had now.
    private func fork(mayFail: Bool) throws(StartFailure) -> Forked? {
        var ends: [Int32] = [-1, -1]
        guard linux_pipe(&ends) == 0 else { throw StartFailure("cannot create a pipe", errno: errno) }
        fflush(nil)
        let child = linux_fork()
        if child < 0 {
            let code = errno
            close(ends[0])
            close(ends[1])
            if mayFail { return nil }
            throw StartFailure("cannot fork", errno: code)
        }
        if child == 0 {
            linux_die_with_parent(SIGTERM)
            close(ends[0])
            var set = Self.signals
            pthread_sigmask(SIG_UNBLOCK, &set, nil)
            return .worker(Serving(pipeEnd: ends[1]))
        }
        close(ends[1])
        worker = child
        return .supervisor(ends[0])
    }

    /// Waits until the worker has ended, and hands signals on to it. Answers its status as wait(2) has it.
    private func wait(_ forked: Forked) -> Int32 {
        guard case .supervisor(let pipeEnd) = forked else { return 0 }
        var set = Self.signals
        var status: Int32 = 0
        while waitpid(worker, &status, WNOHANG) != worker {
            var signal: Int32 = 0
            guard sigwait(&set, &signal) == 0 else { continue }
            if signal == SIGCHLD { continue }
            if signal != SIGHUP { isStopping = true }
            kill(worker, signal)
        }
        var byte: UInt8 = 0
        if read(pipeEnd, &byte, 1) == 1 { hasServed = true }
        close(pipeEnd)
        return status
    }

    /// With what to end; nil: the worker is to be started again.
    private func verdict(_ status: Int32) -> Int32? {
        let isExit = status & 0x7F == 0
        let code = status >> 8 & 0xFF
        if isStopping { return isExit ? code : 1 }
        if isExit && (code == 0 || !hasServed) { return code }
        return hasServed ? nil : 1
    }

    private func rest(since started: UInt64, _ status: Int32) {
        deathsInARow = monotonicNow() - started < 10_000_000_000 ? deathsInARow + 1 : 0
        let how = status & 0x7F == 0 ? "with status \(status >> 8 & 0xFF)" : "by signal \(status & 0x7F)"
        linux_syslog(
            LOG_DAEMON | LOG_ERR, "xenstored: process \(worker) has ended \(how); it is started again")
        let pause = Self.pauses[min(deathsInARow, Self.pauses.count - 1)]
        usleep(useconds_t(pause * 1000))
    }
}
