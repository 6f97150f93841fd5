// From the merged configuration to a running daemon.

import Glibc
import XenStore

extension DaemonOptions {
    /// Whether the machine says that this is a Xen control domain, or `--event` says that Xen is there.
    private var isOnXen: Bool {
        flags.event != nil
            || fileBegins("/sys/hypervisor/type", "xen") && fileBegins("/proc/xen/capabilities", "control_d")
    }

    /// Why the wanted hypervisor cannot be had, or nil if it can. `auto` on a machine without Xen is `none`.
    public var hypervisorRefusal: String? {
        switch configuration.hypervisor {
        case .none: nil
        case .auto:
            isOnXen
                ? "this is a Xen control domain, but this release serves sockets only: "
                    + "say --hypervisor none to go without domains" : nil
        case .xen, .simulated:
            "found hypervisor \(configuration.hypervisor.rawValue), expected auto or none: "
                + "this release serves sockets only"
        }
    }
}

extension HostOptions {
    /// What the daemon is to do, from the configuration and the command line.
    public init(_ options: DaemonOptions) {
        self.init()
        let configuration = options.configuration
        sockets = configuration.sockets.map {
            SocketOptions(
                path: $0.path, readOnly: $0.readOnly, mode: $0.mode, owner: $0.owner, group: $0.group)
        }
        pidFile = configuration.pidFile
        background = !options.flags.noFork
        logLevel = configuration.log.level
        logDestination =
            switch options.logDestination {
            case .auto, .stderr, .journal: .standardError
            case .syslog: .syslog
            case .file(let path): .file(path)
            }
        traceFile = configuration.log.traceFile
        server = configuration.serverConfiguration(hashSeed: (0, 0))
        if let seconds = options.flags.watchEventSeconds {
            server.unreadMax = UInt64(seconds) * 1_000_000_000
        }
    }
}

/// Serves until a signal stops it; reads the configuration again at SIGHUP. The status is what the process
/// must end with.
public func runDaemon(_ options: DaemonOptions) -> Int32 {
    Daemon.serve(HostOptions(options)) { () throws(StartFailure) in
        do throws(ConfigurationMistakes) {
            return HostOptions(try options.reloaded())
        } catch {
            throw StartFailure(error.description)
        }
    }
}

/// Whether the file can be read and begins with `text`.
private func fileBegins(_ path: String, _ text: StaticString) -> Bool {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return false }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(descriptor, &bytes, bytes.count)
    return count > 0 && String(decoding: bytes[..<count], as: UTF8.self).hasPrefix(text.description)
}
