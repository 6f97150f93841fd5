// What the daemon is told before it starts: the outcome of the command line, the environment and the
// configuration file, with nothing left to look up.

import XenStore

/// A socket to listen on.
public struct SocketOptions: Equatable, Sendable {
    /// Where in the file system; at most `SocketPath.lengthMax` bytes.
    public var path: String
    /// Every changing request is answered EROFS.
    public var readOnly: Bool
    /// The permission bits of the socket's file. The daemon's own user, and root, may always connect.
    public var mode: UInt32
    /// The file's owner and group; nil: the daemon's own.
    public var owner: UInt32?
    public var group: UInt32?

    public init(
        path: String, readOnly: Bool = false, mode: UInt32 = 0o600, owner: UInt32? = nil, group: UInt32? = nil
    ) {
        self.path = path
        self.readOnly = readOnly
        self.mode = mode
        self.owner = owner
        self.group = group
    }
}

/// Where log lines go.
public enum LogDestination: Equatable, Sendable {
    /// With journald's `<N>` prefixes where stderr is the journal. A daemon in the background has no
    /// stderr: there this means `syslog`.
    case standardError
    /// Appended; created with mode 0600; opened anew at SIGHUP.
    case file(String)
    case syslog
}

/// Whose domains are served, decided.
public struct HypervisorChoice: Equatable, Sendable {
    public enum Kind: Equatable, Sendable {
        case none
        case simulated(directory: String)
        /// `port`: the control domain's, where the daemon has a domain of its own.
        case xen(Configuration.Xen, port: UInt32?)
    }

    public var kind = Kind.none
    /// Why it is this one, for the log: "since ...".
    public var reason = "nothing else was asked for"

    public init(_ kind: Kind = .none, reason: String? = nil) {
        self.kind = kind
        if let reason { self.reason = reason }
    }
}

/// Everything that the daemon needs to start.
public struct HostOptions: Sendable {
    public var hypervisor = HypervisorChoice()
    public var sockets: [SocketOptions] = []
    /// Nil: no pid file.
    public var pidFile: String?
    /// Leave the terminal: the caller's process ends as soon as the daemon serves.
    public var background = false
    /// What keeps the tree when the process ends; nil: nothing, and no module is asked.
    public var store: StoreChoice?
    /// The access policies in their order, and where their modules are looked for.
    public var policies: [PolicyChoice] = []
    public var policySearch = ModuleSearch()
    /// Lines above this level are not logged.
    public var logLevel = LogLevel.info
    public var logDestination = LogDestination.standardError
    /// Where the requests go that `server.tracing` switches on; nil: nowhere until CONTROL `logfile` names
    /// a file.
    public var traceFile: String?
    /// `hashSeed` is not used: the daemon draws its own from the kernel.
    public var server = ServerConfiguration()

    public init() {}
}

/// Why the daemon cannot start, as one line for the person who started it: what was tried, on what, and why
/// it failed.
public struct StartFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }

    /// `what`, and the meaning of the system call's `errno`.
    public init(_ what: String, errno code: Int32) { description = what + ": " + errorText(code) }
}
