// A simulated host in a directory of its own, and the real daemon on it, which can be killed and started.

import Foundation
import Glibc
import Testing
import XenStoreHost
import XenStoreTestKit
import XenStoreTypes

/// Nanoseconds on a clock that only goes forward.
func instant() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Where a daemon runs, with all its files.
final class TortureHost {
    let directory: String
    private(set) var host: SimulatedHost
    private(set) var process: pid_t = 0
    /// Daemons that were started so far.
    private(set) var starts = 0
    /// What goes before the daemon's command line: a tracer's.
    var before: [String] = []

    var socket: String { directory + "/run/socket" }
    var journal: String { directory + "/run/sessions" }

    /// Makes the host. `store`: lines of YAML below `store:`, with DIR for the directory.
    init(store: [String]) throws {
        var template = Array("/tmp/xenstored-torture.XXXXXX".utf8CString)
        directory = String(cString: try #require(mkdtemp(&template)))
        mkdir(directory + "/run", 0o700)
        try SimulatedHost.make(directory + "/host")
        host = try SimulatedHost(directory + "/host")
        let lines = ["store:"] + store.map { "  " + $0.replacing("DIR", with: directory) }
        try (lines.joined(separator: "\n") + "\n").write(
            toFile: directory + "/configuration.yaml", atomically: false, encoding: .utf8)
    }

    deinit { kill() }

    /// Everything that the host is forgotten, as by a reboot. No daemon may be running.
    func reboot() throws {
        try SimulatedHost.make(directory + "/host")
        host = try SimulatedHost(directory + "/host")
    }

    func removeDirectory() { try? FileManager.default.removeItem(atPath: directory) }

    /// The last lines that the daemons have logged.
    var logEnd: String {
        let text = (try? String(contentsOfFile: directory + "/log", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").suffix(12).joined(separator: "\n")
    }

    var isRunning: Bool { process != 0 }

    /// Starts a daemon, which is not ready yet. Its stderr is added to `log`.
    func start() throws {
        starts += 1
        let arguments =
            before + [
                try Self.executable(), "-N", "--hypervisor", "simulated", "--config",
                directory + "/configuration.yaml",
            ]
        let environment = [
            "SIMXEN_DIR=\(directory)/host", "XENSTORED_RUNDIR=\(directory)/run", "PATH=/usr/bin:/bin",
            "SWIFT_BACKTRACE=enable=no",
        ]
        let log = open(directory + "/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(log) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, log, 1)
        posix_spawn_file_actions_adddup2(&actions, log, 2)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for text in argv + envp { free(text) } }
        let code = posix_spawn(&process, argv[0]!, &actions, nil, &argv, &envp)
        if code != 0 {
            process = 0
            throw Broken("cannot start \(arguments[0]): errno \(code)")
        }
    }

    /// SIGKILL, at once.
    func kill() {
        if process == 0 { return }
        Glibc.kill(process, SIGKILL)
        waitpid(process, nil, 0)
        process = 0
    }

    /// SIGTERM. Throws unless the daemon ends well.
    func stop() throws {
        Glibc.kill(process, SIGTERM)
        guard let status = wait(20) else { throw Broken("the daemon does not end at SIGTERM") }
        if status != 0 { throw Broken("at SIGTERM the daemon ended with status \(status)") }
    }

    /// The daemon's status as of waitpid(2), once it has ended by itself, for which it may take so many
    /// seconds.
    func wait(_ seconds: Double) -> Int32? {
        let deadline = instant() + UInt64(seconds * 1e9)
        repeat {
            var status: Int32 = 0
            if waitpid(process, &status, WNOHANG) == process {
                process = 0
                return status
            }
            usleep(500)
        } while instant() < deadline
        return nil
    }

    /// Throws if the daemon has ended without being asked to.
    func checkAlive() throws {
        if let status = wait(0) { throw Broken("the daemon has ended by itself, status \(status)") }
    }

    /// A connected socket, as soon as the daemon listens.
    func connect() throws -> SocketEnd {
        let deadline = instant() + 30_000_000_000
        while instant() < deadline {
            if let end = SocketEnd(socket) { return end }
            try checkAlive()
            usleep(1000)
        }
        throw Broken("the daemon does not listen")
    }

    /// The built executable, beside this test's own, or what XENSTORED names.
    static func executable() throws -> String {
        if let named = ProcessInfo.processInfo.environment["XENSTORED"] { return named }
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let path = URL(filePath: own).deletingLastPathComponent().appending(path: "xenstored").path
        try #require(access(path, X_OK) == 0, "\(path) is not built")
        return path
    }
}
