// Does the daemon behave as a process should: in the background, under signals, out of descriptors?
//
// Each test runs in a process of its own (an exit test), since it forks, takes signals or lowers limits.

import Foundation
import Glibc
import Testing
import XenStore
import XenStoreTypes

@testable import XenStoreHost

/// Starts a daemon in the background and returns what its caller's process would end with. The daemon's own
/// process ends here.
private func serveInBackground(
    _ options: HostOptions, reload: @escaping Daemon.Reload
) -> Int32 {
    let caller = getpid()
    let status = Daemon.serve(options, reload: reload)
    if getpid() != caller { _exit(status) }
    return status
}

private func backgroundOptions(_ directory: TestDirectory) -> HostOptions {
    var options = testOptions(directory)
    options.background = true
    options.pidFile = directory / "pid"
    return options
}

private func processNumber(_ directory: TestDirectory) -> pid_t {
    pid_t(contents(directory / "pid").dropLast()) ?? -1
}

@Suite(.timeLimit(.minutes(10)))
struct ProcessTests {
    @Test func `the background serves before its caller returns, and stops at SIGTERM`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            let options = backgroundOptions(directory)
            #expect(serveInBackground(options) { () throws(StartFailure) in options } == 0)

            let process = processNumber(directory)
            #expect(process > 1 && process != getpid())
            #expect(getsid(process) == process)
            #expect(answer(directory / "socket") == "n0\0")

            kill(process, SIGTERM)
            #expect(eventually { access(directory / "pid", F_OK) != 0 })
            #expect(access(directory / "socket", F_OK) != 0)
            #expect(eventually { contents(directory / "log").contains("notice: stopping with") })
        }
    }

    @Test func `the caller of a background that fails sees the failure`() async {
        let result = await #expect(processExitsWith: .exitCode(1), observing: [\.standardErrorContent]) {
            let directory = TestDirectory()
            let options = backgroundOptions(directory)
            let first = serveInBackground(options) { () throws(StartFailure) in options }
            let process = processNumber(directory)
            let second = serveInBackground(options) { () throws(StartFailure) in options }
            let served = answer(directory / "socket") == "n0\0"
            kill(process, SIGTERM)
            _ = eventually { access(directory / "pid", F_OK) != 0 }
            directory.remove()
            exit(first == 0 && served ? second : 99)
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("xenstored: pid file"))
        #expect(text.contains("another daemon is running (process "))
    }

    @Test func `SIGHUP opens the logs anew and reads the configuration again`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            let options = backgroundOptions(directory)
            let status = serveInBackground(options) { () throws(StartFailure) in
                if access(directory / "broken", F_OK) == 0 {
                    throw StartFailure("file:3:7: first\nfile:4:1: second")
                }
                var fresh = options
                fresh.server.quotas[.nodes] = 7
                fresh.pidFile = directory / "other-pid"
                return fresh
            }
            #expect(status == 0)
            let process = processNumber(directory)
            let log = directory / "log"
            rename(log, log + ".1")
            kill(process, SIGHUP)
            #expect(eventually { contents(log).contains("the configuration was read again") })
            #expect(contents(log).contains("the new pid file will be in force after a restart"))
            #expect(!contents(log + ".1").contains("read again"))
            #expect(answer(directory / "socket", .getQuota, "nodes\0") == "7\0")

            _ = FileManager.default.createFile(atPath: directory / "broken", contents: Data())
            kill(process, SIGHUP)
            #expect(eventually { contents(log).contains("error: file:4:1: second\n") })
            #expect(contents(log).contains("error: file:3:7: first\n"))
            #expect(answer(directory / "socket", .getQuota, "nodes\0") == "7\0")
            kill(process, SIGINT)
            #expect(eventually { access(directory / "pid", F_OK) != 0 })
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can be somebody else"))
    func `other users are not privileged`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            chmod(directory.path, 0o755)
            var options = testOptions(directory)
            options.sockets[0].mode = 0o666
            let daemon = try DaemonThread(options)
            #expect(answer(directory / "socket", .write, "/a\0x") == "OK\0")
            seteuid(65534)
            #expect(answer(directory / "socket", .read, "/a\0") == "EACCES\0")
            #expect(answer(directory / "socket", .control, "print\0x\0") == "EACCES\0")
            seteuid(0)
            #expect(answer(directory / "socket", .read, "/a\0") == "x")
            daemon.stop()
        }
    }

    @Test(arguments: [false, true])
    func `the supervisor hears that it serves, and that it stops`(abstract: Bool) async {
        await #expect(processExitsWith: .success) { [abstract] in
            let directory = TestDirectory()
            let name = abstract ? "@" + directory.path : directory / "notify"
            var path = Array(name.utf8)
            if abstract { path[0] = 0 }
            let listener = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            let length = path.count + (abstract ? 0 : 1)
            #expect(withSocketAddress(socketAddress(path), length: length) { bind(listener, $0, $1) } == 0)
            setenv("NOTIFY_SOCKET", name, 1)

            let daemon = try DaemonThread(testOptions(directory))
            daemon.stop()
            let buffer = ReadBuffer(capacity: 1000)
            for expected in ["READY=1\nMAINPID=\(getpid())\n", "STOPPING=1\n"] {
                guard case .moved(let count) = buffer.fill(from: listener) else { continue }
                var text = ""
                buffer.with(first: count) { span in
                    span.withUnsafeBufferPointer { text = String(decoding: $0, as: UTF8.self) }
                }
                #expect(text == expected)
            }
        }
    }

    @Test func `out of descriptors, clients are served and the loop does not spin`() async {
        await #expect(processExitsWith: .success) {
            let directory = TestDirectory()
            let options = backgroundOptions(directory)
            let status = serveInBackground(options) { () throws(StartFailure) in options }
            #expect(status == 0)
            let process = processNumber(directory)
            try lowerDescriptorLimit(process, to: 64)

            var clients = try (0..<100).map { _ in try RawClient(directory / "socket") }
            #expect(clients[0].ask(.getPermissions, "/\0")?.text == "n0\0")
            #expect(
                eventually {
                    contents(directory / "log").contains("cannot accept a connection: Too many open files")
                })
            let before = processorTime(process)
            for _ in 0..<20 {
                #expect(clients[0].ask(.getPermissions, "/\0")?.text == "n0\0")
                usleep(50_000)
            }
            // A loop that spins would have used most of this second.
            #expect(processorTime(process) - before <= 20)

            // Those who wait are served when others have gone.
            let last = clients.removeLast()
            last.send(RawClient.message(.getPermissions, "/\0"))
            clients.removeFirst(80)
            #expect(last.reply()?.text == "n0\0")
            #expect(contents(directory / "log").split(separator: "cannot accept").count == 2)
            kill(process, SIGTERM)
            #expect(eventually { access(directory / "pid", F_OK) != 0 })
        }
    }
}

/// Swift's Glibc hides prlimit(2); util-linux has it as a command.
private func lowerDescriptorLimit(_ process: pid_t, to limit: Int) throws {
    let command = try Process.run(
        URL(fileURLWithPath: "/usr/bin/prlimit"),
        arguments: ["--pid", "\(process)", "--nofile=\(limit):\(limit)"])
    command.waitUntilExit()
    try #require(command.terminationStatus == 0)
}

/// A process's CPU time in hundredths of a second, from /proc.
private func processorTime(_ process: pid_t) -> Int {
    let fields = contents("/proc/\(process)/stat").split(separator: ") ").last?.split(separator: " ") ?? []
    return fields.count > 12 ? (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0) : 0
}
