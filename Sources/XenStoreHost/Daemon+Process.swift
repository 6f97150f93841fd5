// A whole process as a daemon, and a daemon as one thread among others.

import Glibc
import XenStore

extension Daemon {
    /// Serves until a signal stops it. The status is what the process must end with, at once: with
    /// `options.background` both the caller's process (when the daemon serves, or has failed to start) and
    /// the daemon's own (when it has stopped) return from here.
    ///
    /// Nothing else may have started a thread. Failures to start are printed to stderr; the status is 1 then.
    public static func serve(_ options: HostOptions, reload: @escaping Reload) -> Int32 {
        do throws(StartFailure) {
            occupyStandardDescriptors()
            // The background has another working directory.
            let directory = workingDirectory()
            var resolved = options.resolved(in: directory)
            var background: Background?
            if options.background {
                switch try Background.enter() {
                case .parent(let status): return status
                case .child(let side): background = side
                }
            }
            var serving: Supervisor.Serving?
            var pidFile: PidFile?
            if let background, try resolved.store?.module().isDurable == true {
                pidFile = try resolved.pidFile.map { (path) throws(StartFailure) in try PidFile(path) }
                switch try Supervisor.run(detach: background.leave) {
                case .supervisor(let status):
                    pidFile?.remove()
                    return status
                case .worker(let side): serving = side
                }
                resolved.pidFile = nil
            }
            defer { withExtendedLifetime(pidFile) {} }
            let daemon = try Daemon(resolved, signals: true) { () throws(StartFailure) in
                try reload().resolved(in: directory)
            }
            background?.serving()
            serving?.tell()
            daemon.run()
            return 0
        } catch {
            printError("xenstored: \(error)")
            return 1
        }
    }
}

extension HostOptions {
    /// The same with absolute paths, taking relative ones from `directory`.
    func resolved(in directory: String) -> HostOptions {
        func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : directory + "/" + path }
        var result = self
        for index in sockets.indices { result.sockets[index].path = absolute(sockets[index].path) }
        result.pidFile = pidFile.map(absolute)
        result.traceFile = traceFile.map(absolute)
        if case .simulated(let path) = hypervisor.kind {
            result.hypervisor.kind = .simulated(directory: absolute(path))
        }
        if case .file(let path) = logDestination { result.logDestination = .file(absolute(path)) }
        return result
    }
}

/// A daemon on a thread of its own, for tests and programs that have other threads. It takes no signals.
public final class DaemonThread: @unchecked Sendable {
    private enum State {
        case starting
        case failed(StartFailure)
        case running(Mailbox<Daemon.Message>)
        case ended
    }

    private let monitor = Monitor()
    private var state = State.starting

    /// Returns when clients can connect. Fails as `Daemon` does.
    public init(_ options: HostOptions) throws(StartFailure) {
        try startThread("xenstored") { self.main(options) }
        let failure: StartFailure? = monitor.locked {
            while case .starting = state { monitor.wait() }
            if case .failed(let failure) = state { return failure }
            return nil
        }
        if let failure { throw failure }
    }

    /// Stops it as SIGTERM would, and returns when it has stopped.
    public func stop() {
        monitor.locked {
            if case .running(let mailbox) = state { mailbox.post(.stop) }
            while case .running = state { monitor.wait() }
        }
    }

    private func main(_ options: HostOptions) {
        do throws(StartFailure) {
            let daemon = try Daemon(options, signals: false) { () throws(StartFailure) in options }
            enter(.running(daemon.mailbox))
            daemon.run()
            enter(.ended)
        } catch {
            enter(.failed(error))
        }
    }

    private func enter(_ next: State) {
        monitor.locked {
            state = next
            monitor.wake()
        }
    }
}
