// All that a configuration file can say, as values. `Configuration()` is the daemon without a file.
//
// What each key means to the user stands in config/xenstored.yaml, which a test holds equal to this.

import XenStore
import XenStoreTypes
@_exported import XenStoreYAML

/// What the daemon is to do. Where it comes from, each over the one before: the defaults here, the
/// environment (two defaults only), the file, the command line.
public struct Configuration: Equatable, Sendable {
    /// Which hypervisor's domains the daemon serves (design, "Choosing Xen").
    public enum Hypervisor: String, CaseIterable, Sendable {
        case auto, xen, simulated, none
    }

    /// A Unix socket to listen on.
    public struct Socket: Equatable, Sendable {
        /// Absolute; at most 107 bytes.
        public var path: String
        /// The socket file's permission bits. None for group and others unless there are policies
        /// (specification, end of section A).
        public var mode = Placed<UInt32>(0o600)
        /// The uid to give the socket file to; nil leaves it with the daemon's.
        public var owner: UInt32?
        /// The gid to give the socket file to; nil leaves it with the daemon's.
        public var group: UInt32?
        /// Every changing request on it gets EROFS (specification, section A).
        public var readOnly = false

        public init(path: String) { self.path = path }
    }

    /// Where log lines go.
    public enum LogDestination: Equatable, Sendable {
        /// `stderr` with `--no-fork`, else `syslog`.
        case auto
        case stderr, syslog, journal
        /// Appended to; opened again at SIGHUP. An absolute path.
        case file(String)
    }

    public struct Log: Equatable, Sendable {
        /// Lines graver than this, and of this, are written.
        public var level = LogLevel.info
        public var destination = LogDestination.auto
        /// What is traced from the start; CONTROL `log` changes it (specification, section F).
        public var trace: TraceSwitches = []
        /// Where the trace goes; nil: nowhere until CONTROL `logfile` names a file. An absolute path.
        public var traceFile: String?
    }

    public struct Store: Equatable, Sendable {
        /// What becomes of the store's promise while the backend has no room, or fails (design, "Backends").
        public enum OnFull: String, CaseIterable, Sendable {
            case refuse
            case continueInMemory = "continue-in-memory"
        }

        /// A module's name, or the absolute path of a shared object.
        public var backend = Placed("memory")
        /// The backend's own, each with its place. Only the module knows what they mean.
        public var options: [ModuleOption] = []
        public var onFull = OnFull.refuse
        /// Absolute paths of nodes that outlive a reboot of the host, with all below them.
        public var keep: [String] = []
        /// The session journal's file. An absolute path.
        public var sessions = defaultSessions
    }

    public struct Modules: Equatable, Sendable {
        /// Where modules are looked for first; nil: nowhere of its own. An absolute path.
        public var directory: String? = "/usr/lib/xenstored"
        /// XENSTORED_PLUGIN_PATH counts under root too.
        public var allowEnvironment = false
    }

    public struct Transactions: Equatable, Sendable {
        /// Bytes of old versions kept for open transactions; past it the oldest is doomed
        /// (specification, section C).
        public var snapshotMemory = 64 << 20
    }

    /// Where this machine's kernel keeps what the daemon needs of its own domain; the defaults are Linux's.
    public struct Xen: Equatable, Sendable {
        /// A file to map for the ring of the daemon's own domain; nil: there is none. An absolute path.
        public var kva: String? = "/proc/xen/xsd_kva"
        public var port = Port.file("/proc/xen/xsd_port")

        /// The event channel's port of that ring.
        public enum Port: Equatable, Sendable {
            case number(UInt32)
            /// A file that holds it in decimal digits. An absolute path.
            case file(String)
        }
    }

    public struct Simulated: Equatable, Sendable {
        /// The directory that stands for the host (docs/simulated-xen.md); nil: none. An absolute path.
        public var directory: String?
    }

    public static let defaultSocket = "/run/xenstored/socket"
    public static let defaultSessions = "/run/xenstored/sessions"

    public var hypervisor = Hypervisor.auto
    public var xen = Xen()
    /// Where the simulated Xen is, for `hypervisor: simulated`.
    public var simulated = Simulated()
    /// At least one, no two with the same path.
    public var sockets = [Socket(path: defaultSocket)]
    public var store = Store()
    public var modules = Modules()
    /// In the order in which they are asked; none: node permissions decide alone.
    public var policies: [PolicyChoice] = []
    /// Unprivileged domains' limits (specification, section E).
    public var quotas = QuotaLimits()
    public var transactions = Transactions()
    public var log = Log()
    /// Nil: none is written. An absolute path.
    public var pidFile: String?
    /// The domain that the daemon's sockets speak for.
    public var domain = DomainID.zero
    /// The domain that may do everything.
    public var privilegedDomain = DomainID.zero

    public init() {}

    /// What of it the core is told.
    ///
    /// - Parameter hashSeed: random, so that guests cannot choose names that collide.
    public func serverConfiguration(hashSeed: (UInt64, UInt64)) -> ServerConfiguration {
        var core = ServerConfiguration()
        core.quotas = quotas
        core.domain = domain
        core.privilegedDomain = privilegedDomain
        core.hashSeed = hashSeed
        core.snapshotMemory = transactions.snapshotMemory
        core.tracing = log.trace
        return core
    }
}

extension TraceSwitches {
    /// The core's names for the switches, as files and `--trace-control` use them.
    static let choices = named.map { (name: $0.name.description, value: $0.value) }
}
