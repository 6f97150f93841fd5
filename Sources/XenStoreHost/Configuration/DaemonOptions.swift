// All that the daemon is started with: the configuration, the command line over it, and what only the command
// line can say.
//
// Invariants: every path in it is absolute, so the daemon may leave its directory; what the command line set
// stays set when the file is read again.

import Glibc
import XenStore
import XenStoreTypes

/// What the command line sets over the configuration file. Nil and empty: the file's value stays.
public struct ConfigurationChanges: Equatable, Sendable {
    public var hypervisor: Configuration.Hypervisor?
    public var pidFile: String?
    /// Where no switch is set in the file, a trace file turns `io` and `obj` on, as it always did.
    public var traceFile: String?
    /// In the order given; the last one about a switch counts.
    public var trace: [TraceChange] = []
    /// In the order given; the last one about a quota counts.
    public var quotas: [QuotaSetting] = []
    public var softMemory: UInt32?
    public var domain: DomainID?
    public var privilegedDomain: DomainID?

    public init() {}

    /// Relative paths start from the environment's directory.
    func apply(to configuration: inout Configuration, in environment: Configuration.Environment) {
        if let hypervisor { configuration.hypervisor = hypervisor }
        if let pidFile { configuration.pidFile = environment.absolute(pidFile) }
        if let traceFile {
            configuration.log.traceFile = environment.absolute(traceFile)
            if configuration.log.trace.isEmpty { configuration.log.trace = [.io, .obj] }
        }
        for change in trace {
            if change.on {
                configuration.log.trace.formUnion(change.switches)
            } else {
                configuration.log.trace.subtract(change.switches)
            }
        }
        for setting in quotas { configuration.quotas[setting.quota] = setting.limit }
        if let softMemory { configuration.quotas.softMemory = softMemory }
        if let domain { configuration.domain = domain }
        if let privilegedDomain { configuration.privilegedDomain = privilegedDomain }
    }
}

/// What only the command line can say (specification, section H).
public struct DaemonFlags: Equatable, Sendable {
    /// `--no-fork`: stay in the foreground.
    public var noFork = false
    /// `--event`: the control domain's port for its ring, where the daemon has a domain of its own. Means
    /// that Xen is there.
    public var event: UInt32?
    /// `--timeout watch-event=`: seconds that a ring's event may stay unread; nil: the specification's 20.
    public var watchEventSeconds: UInt32?

    public init() {}
}

/// What the daemon is started with.
public struct DaemonOptions: Equatable, Sendable {
    /// Read where it exists and `--config` names no other.
    public static let defaultFile = "/etc/xen/xenstored.yaml"

    /// The environment, the file and the command line, merged.
    public let configuration: Configuration
    /// The file that was read, absolute; nil: none, only the defaults.
    public let file: String?
    public let flags: DaemonFlags
    public let environment: Configuration.Environment
    public let changes: ConfigurationChanges

    private let namedFile: String?
    private let defaultFile: String

    /// Reads the configuration.
    ///
    /// - Parameters:
    ///   - file: `--config`. Nil: `defaultFile` if it exists, else no file.
    ///   - changes: what the command line sets over it.
    /// - Throws: every mistake in the environment or the file.
    public init(
        file: String?, changes: ConfigurationChanges, flags: DaemonFlags,
        environment: Configuration.Environment = .process, defaultFile: String = Self.defaultFile
    ) throws(ConfigurationMistakes) {
        var configuration = try Configuration(environment: environment)
        let present = Self.exists(defaultFile) ? defaultFile : nil
        if let name = file ?? present {
            let path = environment.absolute(name)
            try configuration.read(file: path, as: name)
            self.file = path
        } else {
            self.file = nil
        }
        changes.apply(to: &configuration, in: environment)
        self.configuration = configuration
        self.flags = flags
        self.environment = environment
        self.changes = changes
        self.namedFile = file
        self.defaultFile = defaultFile
    }

    /// The same command line over the file as it is now (SIGHUP).
    ///
    /// Throws as `init` does; `self` is then what goes on to hold.
    public func reloaded() throws(ConfigurationMistakes) -> DaemonOptions {
        try DaemonOptions(
            file: namedFile, changes: changes, flags: flags, environment: environment,
            defaultFile: defaultFile)
    }

    /// Where log lines go: the configured destination, `auto` decided. Never `.auto`.
    public var logDestination: Configuration.LogDestination {
        let configured = configuration.log.destination
        return configured == .auto ? (flags.noFork ? .stderr : .syslog) : configured
    }

    /// Whether there is such a file, also one that may not be read.
    private static func exists(_ path: String) -> Bool {
        access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR)
    }
}
