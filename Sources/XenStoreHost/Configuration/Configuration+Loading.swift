// Where a configuration comes from: the environment, then a file over it.

import Glibc

extension Configuration {
    /// What the process was started with.
    public struct Environment: Equatable, Sendable {
        /// XENSTORED_PATH: the default socket's whole path.
        public var socketPath: String?
        /// XENSTORED_RUNDIR: the directory of the default socket.
        public var runDirectory: String?
        /// SIMXEN_DIR: the directory of a simulated Xen.
        public var simulatedDirectory: String?
        /// XENSTORED_PLUGIN_PATH: directories in which modules are looked for, with colons between.
        public var pluginPath: String?
        /// What relative paths of the environment and the command line start from. Absolute.
        public var workingDirectory: String

        public init(
            socketPath: String? = nil, runDirectory: String? = nil, simulatedDirectory: String? = nil,
            pluginPath: String? = nil, workingDirectory: String = "/"
        ) {
            self.socketPath = socketPath
            self.runDirectory = runDirectory
            self.simulatedDirectory = simulatedDirectory
            self.pluginPath = pluginPath
            self.workingDirectory = workingDirectory
        }

        /// This process's. An empty variable counts as unset.
        public static var process: Environment {
            func value(_ name: String) -> String? {
                guard let text = getenv(name).map({ String(cString: $0) }), !text.isEmpty else { return nil }
                return text
            }
            var directory = "/"
            if let current = getcwd(nil, 0) {
                directory = String(cString: current)
                free(current)
            }
            return Environment(
                socketPath: value("XENSTORED_PATH"), runDirectory: value("XENSTORED_RUNDIR"),
                simulatedDirectory: value("SIMXEN_DIR"), pluginPath: value("XENSTORED_PLUGIN_PATH"),
                workingDirectory: directory)
        }

        /// `path`, made absolute, since a daemon leaves the directory that it was started in.
        public func absolute(_ path: String) -> String {
            path.utf8.first == UInt8(ascii: "/") ? path : "\(workingDirectory)/\(path)"
        }
    }

    /// The defaults, with the default socket and the simulated Xen where the environment says (specification,
    /// section H).
    ///
    /// Throws if no socket or no directory can be there.
    public init(environment: Environment) throws(ConfigurationMistakes) {
        self.init()
        if var directory = environment.simulatedDirectory.map(environment.absolute) {
            while directory.hasSuffix("/") { directory.removeLast() }
            guard isAbsoluteFilePath(directory, max: Self.directoryPathMax) else {
                throw ConfigurationMistakes(
                    file: "SIMXEN_DIR",
                    text: "found \(quoted(directory)), expected a directory's path of at most "
                        + "\(Self.directoryPathMax) bytes")
            }
            simulated.directory = directory
        }
        if let directory = environment.runDirectory.map(environment.absolute) {
            store.sessions = directory + "/sessions"
        }
        let variable: String
        let path: String
        if let whole = environment.socketPath {
            (variable, path) = ("XENSTORED_PATH", whole)
        } else if let directory = environment.runDirectory {
            (variable, path) = ("XENSTORED_RUNDIR", directory + "/socket")
        } else {
            return
        }
        let absolute = environment.absolute(path)
        guard isAbsoluteFilePath(absolute, max: socketPathMax) else {
            let expected = "a file's path of at most \(socketPathMax) bytes"
            throw ConfigurationMistakes(
                file: variable, text: "found the socket \(quoted(absolute)), expected \(expected)")
        }
        sockets = [Socket(path: absolute)]
    }

    /// PATH_MAX without its NUL and the names that a simulated host adds.
    private static let directoryPathMax = pathMax - 32

    /// Puts what the file `name` says in `bytes` over `self`.
    ///
    /// Throws every mistake in it, and then changes nothing.
    public mutating func read(
        _ bytes: [UInt8], file name: String, accounts: Accounts = .machine
    ) throws(ConfigurationMistakes) {
        var reading = Reading(mistakes: MistakeList(file: name), accounts: accounts)
        var result = self
        if bytes.count > Self.fileMax {
            reading.mistakes.add(nil, "found more than \(Self.fileMax) bytes, expected a configuration")
        } else if let root = readYAML(bytes, &reading.mistakes), root.content != .scalar("", plain: true) {
            readMapping(root, Self.keys, into: &result, &reading)
        }
        for socket in result.sockets {
            socket.checkMode(isAlone: result.policies.isEmpty, &reading.mistakes)
        }
        if let mistakes = reading.mistakes.all { throw mistakes }
        self = result
    }

    /// The most bytes that a configuration file may have.
    public static let fileMax = 256 << 10

    /// Puts the file at `path` over `self`. Mistakes call it `name`.
    ///
    /// Throws every mistake in it, or why it cannot be read, and then changes nothing.
    public mutating func read(
        file path: String, as name: String, accounts: Accounts = .machine
    ) throws(ConfigurationMistakes) {
        let bytes: [UInt8]
        do {
            bytes = try fileContents(of: path, max: Self.fileMax + 1, "a file with the configuration")
        } catch {
            throw ConfigurationMistakes(file: name, text: error.text)
        }
        try read(bytes, file: name, accounts: accounts)
    }
}
