// A daemon under measurement: found running, or started for it.

import Glibc

/// A daemon that answers on a socket. One that we started ends with `stop`.
final class Daemon {
    /// All nodes that we make are below this one.
    static let root = "/bench"

    private(set) var process: Process
    let socket: String
    /// The CPU that it runs on, where it was bound to one.
    let cpu: Int?
    /// The simulated host whose domains' rings it serves, if it has one.
    private let host: SimulatedHost?
    /// The shell command and the run directory that we started it with.
    private let started: (command: String, directory: String)?
    /// It was our child, and its id may be another's by now.
    private var isReaped = false

    /// Takes the daemon as it runs, or starts it and waits until it listens.
    ///
    /// A daemon of our own runs with XENSTORED_RUNDIR naming an empty directory (but for a simulated host in
    /// it, which SIMXEN_DIR names), must put `socket` there within ten seconds, and must not go into the
    /// background. Either runs on `cpu` from then on, if one is named. `store` is the backend that keeps the
    /// tree of a daemon of our own, if it takes such a configuration: in the file `store` of that directory.
    init(_ source: TargetArgument.Source, cpu: Int?, store: String? = nil) throws(Failure) {
        self.cpu = cpu
        switch source {
        case .running(let pid, let path, let simulated):
            process = Process(pid: pid)
            socket = path
            started = nil
            if let simulated { host = try SimulatedHost(at: simulated) } else { host = nil }
            // What a run that was interrupted left there.
            try connect().call(.remove, Daemon.root + "\0")
        case .command(var command):
            let directory = try Daemon.emptyDirectory()
            if let store {
                try Daemon.write(
                    "store: {backend: \(store), options: {path: \(directory)/store}}\n",
                    to: directory + "/store.yaml")
                command += " --config \(directory)/store.yaml"
            }
            started = (command, directory)
            socket = directory + "/socket"
            host = try SimulatedHost.make(at: directory + "/sim")
            process = Process(pid: try Daemon.spawn(command, directory))
        }
        do throws(Failure) {
            if started != nil { try waitForAnswer() }
            if let cpu { try process.pin(to: cpu) }
        } catch {
            stop()
            throw error
        }
    }

    func connect() throws(Failure) -> Connection { try Connection(to: socket) }

    func cpuTime() throws(Failure) -> UInt64 { try process.cpuTime() }

    /// The simulated host; fails where there is none.
    func simulatedHost() throws(Failure) -> SimulatedHost {
        guard let host else { throw Failure("rings need a simulated host: name=pid:socket:directory") }
        return host
    }

    /// Makes a domain, and its ring known to the daemon.
    func introduce(_ domain: UInt32, on connection: Connection) throws(Failure) {
        try simulatedHost().create(domain)
        try connection.call(.introduce, "\(domain)\01\03\0")
    }

    /// The guest of an introduced domain.
    func guest(of domain: UInt32) throws(Failure) -> RingTransport {
        try RingTransport(of: domain, on: simulatedHost())
    }

    /// The same command with a store that keeps its tree, for what must be measured beside this daemon.
    func beside(store: String) throws(Failure) -> Daemon {
        guard let started else { throw Failure("a store is measured where the target is a command") }
        // Ours, but for what `init` adds to it.
        return try Daemon(.command(started.command), cpu: cpu, store: store)
    }

    /// Kills a daemon of our own and starts it again where it was. Returns the nanoseconds from its start to
    /// its first answer.
    func restart() throws(Failure) -> UInt64 {
        guard let started else { throw Failure("only a daemon that is given as a command is killed") }
        kill(process.pid, SIGKILL)
        guard hasEnded(within: 10) else { throw Failure("the daemon does not die") }
        let start = now()
        process = Process(pid: try Daemon.spawn(started.command, started.directory))
        isReaped = false
        if let cpu { try process.pin(to: cpu) }
        try waitForAnswer()
        return now() - start
    }

    /// The size of the file that keeps the tree, in bytes.
    func storeSize() throws(Failure) -> UInt64 {
        var status = stat()
        guard let started, stat(started.directory + "/store", &status) == 0 else { throw .call("stat store") }
        return UInt64(status.st_size)
    }

    /// Leaves a daemon without our nodes and domains, or ends it if it is ours: by SIGTERM, and SIGKILL two
    /// seconds later.
    func stop() {
        guard let directory = started?.directory else { return leave() }
        if !isReaped { kill(process.pid, SIGTERM) }
        if !hasEnded(within: 2) {
            kill(process.pid, SIGKILL)
            _ = hasEnded(within: 10)
        }
        host?.erase()
        for name in fileNames(in: directory) { unlink(directory + "/" + name) }
        rmdir(directory)
    }

    /// Removes what we made in a daemon that goes on running.
    private func leave() {
        guard let connection = try? connect() else { return }
        _ = try? connection.call(.remove, Daemon.root + "\0")
        for domain in host?.domains ?? [] {
            _ = try? connection.call(.release, "\(domain)\0")
            for top in VirtualMachine(domain: domain).tops { _ = try? connection.call(.remove, top + "\0") }
            host?.remove(domain)
        }
    }

    private func waitForAnswer() throws(Failure) {
        guard let started else { return }
        for _ in 0..<10_000 {
            if let connection = try? connect() {
                try connection.call(.getDomainPath, "0\0")
                return
            }
            if hasEnded(within: 0) { break }
            usleep(1000)
        }
        let said = readFile(started.directory + "/bench-output") ?? ""
        throw Failure("'\(started.command)' does not listen on $XENSTORED_RUNDIR/socket\n\(said)")
    }

    /// Whether the child is gone (it is reaped here), waiting for it for some seconds.
    private func hasEnded(within seconds: Int) -> Bool {
        for step in 0...(seconds * 100) where !isReaped {
            if step > 0 { usleep(10_000) }
            isReaped = waitpid(process.pid, nil, WNOHANG) != 0
        }
        return isReaped
    }

    private static func write(_ text: String, to path: String) throws(Failure) {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
        guard file >= 0 else { throw .call(path) }
        defer { close(file) }
        let bytes = Array(text.utf8)
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else { throw .call(path) }
    }

    private static func emptyDirectory() throws(Failure) -> String {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array((parent + "/xenstore-bench.XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else { throw .call("mkdtemp in \(parent)") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Starts a shell that becomes `command`; what it prints goes to `bench-output` in the directory.
    private static func spawn(_ command: String, _ directory: String) throws(Failure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, directory + "/bench-output", O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)

        // Ours, as the process was given it: `environ` is a variable that Swift 6 lets nobody read.
        let inherited = (readFile("/proc/self/environ") ?? "").split(separator: "\0").filter { line in
            !["XENSTORED_RUNDIR=", "XENSTORED_PATH=", "SIMXEN_DIR="].contains { line.hasPrefix($0) }
        }
        let ours = ["XENSTORED_RUNDIR=" + directory, "SIMXEN_DIR=\(directory)/sim"]
        var environment = terminated(inherited.map { String($0) } + ours)
        var arguments = terminated(["sh", "-c", "exec " + command])
        defer { for string in environment + arguments { free(string) } }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, "/bin/sh", &actions, nil, &arguments, &environment)
        guard failure == 0 else {
            errno = failure
            throw .call("posix_spawn")
        }
        return pid
    }

    /// Copies for C, with a null pointer behind them; the caller frees each.
    private static func terminated(_ strings: [String]) -> [UnsafeMutablePointer<CChar>?] {
        strings.map { strdup($0) } + [nil]
    }
}
