// From the merged configuration to a running daemon.

import Glibc
import XenStore

extension DaemonOptions {
    /// Which hypervisor is to be taken, and why (design, "Choosing Xen"). Nothing of it is tried yet.
    ///
    /// Throws if the configuration names a simulated Xen and not where it is.
    public var hypervisorChoice: HypervisorChoice {
        get throws(StartFailure) {
            let asked =
                changes.hypervisor == nil ? "the configuration says so" : "--hypervisor says so"
            switch configuration.hypervisor {
            case .none: return HypervisorChoice(.none, reason: asked)
            case .xen: return xen(reason: asked)
            case .simulated:
                guard let directory = configuration.simulated.directory else {
                    throw StartFailure(
                        "found hypervisor simulated without a directory, "
                            + "expected simulated.directory in the configuration, or SIMXEN_DIR")
                }
                return HypervisorChoice(.simulated(directory: directory), reason: asked)
            case .auto: return automaticChoice
            }
        }
    }

    private func xen(reason: String) -> HypervisorChoice {
        HypervisorChoice(.xen(configuration.xen, port: flags.event), reason: reason)
    }

    /// Xen where Xen is, else none: never a simulated one.
    private var automaticChoice: HypervisorChoice {
        if flags.event != nil {
            return xen(reason: "--event names its port")
        }
        let isControlDomain =
            fileBegins("/sys/hypervisor/type", "xen") && fileBegins("/proc/xen/capabilities", "control_d")
        return isControlDomain
            ? xen(reason: "this machine is a Xen control domain")
            : HypervisorChoice(.none, reason: "this machine is no Xen control domain")
    }
}

/// The hypervisor that was chosen, opened; nil: none was. Whatever it lacks is a failure: what was asked for
/// is never replaced by something else.
func makeHypervisor(_ options: HostOptions, _ log: Log) throws(StartFailure) -> (any Hypervisor)? {
    switch options.hypervisor.kind {
    case .none: return nil
    case .simulated(let directory): return try SimulatedXen(directory, domain: options.server.domain)
    case .xen(let configuration, let port):
        let control = port.map { ControlRing(domain: options.server.domain, port: $0) }
        do throws(HypervisorFailure) {
            return try XenHypervisor(configuration, control: control, log: log)
        } catch {
            throw StartFailure("hypervisor xen (\(options.hypervisor.reason)): \(error)")
        }
    }
}

extension HostOptions {
    /// What the daemon is to do, from the configuration and the command line.
    ///
    /// Throws if there is something that no hypervisor can be chosen by.
    ///
    /// - Parameter builtIn: the modules that need no file.
    public init(_ options: DaemonOptions, builtIn: [BuiltInModule]) throws(StartFailure) {
        self.init()
        store = StoreChoice(options, builtIn: builtIn)
        policies = options.configuration.policies.map { $0.placed(in: options.file) }
        policySearch = ModuleSearch(options, builtIn: builtIn)
        hypervisor = try options.hypervisorChoice
        let configuration = options.configuration
        sockets = configuration.sockets.map {
            SocketOptions(
                path: $0.path, readOnly: $0.readOnly, mode: $0.mode.value, owner: $0.owner, group: $0.group)
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
        // Outside the control domain --master-domid names that one.
        if case .xen(_, port: .some) = hypervisor.kind, options.changes.privilegedDomain == nil,
            let control = options.changes.domain
        {
            server.privilegedDomain = control
        }
        if let seconds = options.flags.watchEventSeconds {
            server.unreadMax = UInt64(seconds) * 1_000_000_000
        }
    }
}

/// Serves until a signal stops it; reads the configuration again at SIGHUP. The status is what the process
/// must end with.
///
/// - Parameter builtIn: the modules that need no file.
public func runDaemon(_ options: DaemonOptions, builtIn: [BuiltInModule]) -> Int32 {
    let start: HostOptions
    do throws(StartFailure) {
        start = try HostOptions(options, builtIn: builtIn)
    } catch {
        printError("xenstored: \(error)")
        return 1
    }
    return Daemon.serve(start) { () throws(StartFailure) in
        let reloaded: DaemonOptions
        do throws(ConfigurationMistakes) {
            reloaded = try options.reloaded()
        } catch {
            throw StartFailure(error.description)
        }
        return try HostOptions(reloaded, builtIn: builtIn)
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
