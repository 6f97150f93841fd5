// The command line (specification, section H): every option that earlier daemons take, and ours.
//
// Exit status: 0 after --help, --version, a good --check-config and an answer about modules; 2 where the
// command line or the configuration is wrong, after one line on stderr for each mistake and with nothing
// started; else the daemon's.

import AppendLogStore
import ArgumentParser
import AuditTrail
import Glibc
import MemoryStore
import PathRulesFile
import RateLimitOptions
import TypeLabelsFile
import XenStore
import XenStoreHost
import XenStoreTypes

struct XenstoredCommand: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "xenstored",
        abstract: "The XenStore daemon.",
        discussion: """
            Options are set over the configuration file. Long names may be cut short as long as they are \
            unique. Taken and ignored, as earlier daemons' options: -D (--no-domain-init), \
            -P (--output-pid), -V (--verbose), -R (--no-recovery), -I (--internal-db).
            """,
        version: "xenstored \(version)",
        helpNames: [.short, .customShort("H"), .long])

    // MARK: The configuration

    @Option(
        name: .customLong("config"),
        help: ArgumentHelp(
            "The configuration (\(DaemonOptions.defaultFile) if that exists).", valueName: "file"))
    var configurationFile: String?

    @Flag(name: .customLong("check-config"), help: "Say what is wrong with the configuration, start nothing.")
    var checkConfiguration = false

    @Option(
        name: .customLong("compile-config"),
        help: ArgumentHelp(
            "Write the configuration as the stub domain's kernel reads it, start nothing.", valueName: "file")
    )
    var compiledFile: String?

    @Option(
        help: ArgumentHelp("Whose domains to serve: auto, xen, simulated or none.", valueName: "name"),
        transform: OptionValue.hypervisor)
    var hypervisor: Configuration.Hypervisor?

    // MARK: Modules

    @Flag(name: .customLong("list-modules"), help: "Say which modules there are, start nothing.")
    var listModules = false

    @Option(
        name: .customLong("describe-module"),
        help: ArgumentHelp("Say what a module is and which options it has, start nothing.", valueName: "name")
    )
    var describedModule: String?

    // MARK: The process

    @Option(
        name: [.customShort("F"), .customLong("pid-file")],
        help: ArgumentHelp("Write the daemon's pid to this file.", valueName: "file"))
    var pidFile: String?

    @Flag(name: [.customShort("N"), .customLong("no-fork")], help: "Stay in the foreground.")
    var noFork = false

    @Flag(
        name: [.customShort("U"), .customLong("live-update")],
        help: "Take over from a running daemon (refused: not possible yet).")
    var liveUpdate = false

    @Flag(
        name: [.customShort("K"), .customLong("keep-orphans")],
        help: "Taken and ignored: the nodes of a domain that has ended always go.")
    var keepOrphans = false

    // MARK: The trace

    @Option(
        name: [.customShort("T"), .customLong("trace-file")],
        help: ArgumentHelp(
            "Trace to this file (io and obj unless the configuration says what).", valueName: "file"))
    var traceFile: String?

    @Option(
        name: .customLong("trace-control"),
        help: ArgumentHelp(
            "Switch a trace on or off: io, obj, wrl, acc. May be repeated.", valueName: "+|-switch"),
        transform: TraceChange.init(parsing:))
    var traceControl: [TraceChange] = []

    // MARK: Quotas

    @Option(
        name: [.customShort("Q"), .customLong("quota")],
        help: ArgumentHelp(
            "Limit what a guest may use, 0 for no limit. May be repeated; goes before the six below.",
            valueName: "what=n"),
        transform: QuotaSetting.init(parsing:))
    var quotas: [QuotaSetting] = []

    @Option(
        name: [.customShort("q"), .customLong("quota-soft")],
        help: ArgumentHelp("Log when a guest uses more: memory=BYTES.", valueName: "what=n"),
        transform: OptionValue.softMemory)
    var softMemory: UInt32?

    @Option(
        name: [.customShort("E"), .customLong("entry-nb")],
        help: ArgumentHelp("--quota nodes=n", valueName: "n"), transform: limit)
    var nodes: UInt32?

    @Option(
        name: [.customShort("S"), .customLong("entry-size")],
        help: ArgumentHelp("--quota node-size=n", valueName: "n"), transform: limit)
    var nodeSize: UInt32?

    @Option(
        name: [.customShort("W"), .customLong("watch-nb")],
        help: ArgumentHelp("--quota watches=n", valueName: "n"), transform: limit)
    var watches: UInt32?

    @Option(
        name: [.customShort("t"), .customLong("transaction")],
        help: ArgumentHelp("--quota transactions=n", valueName: "n"), transform: limit)
    var transactions: UInt32?

    @Option(
        name: [.customShort("A"), .customLong("perm-nb")],
        help: ArgumentHelp("--quota node-permissions=n", valueName: "n"), transform: limit)
    var nodePermissions: UInt32?

    @Option(
        name: [.customShort("M"), .customLong("path-max")],
        help: ArgumentHelp("--quota path-max=n", valueName: "n"), transform: limit)
    var pathMax: UInt32?

    @Option(
        name: [.customShort("w"), .customLong("timeout")],
        help: ArgumentHelp(
            "How long a guest may leave an event unread: watch-event=SECONDS.", valueName: "what=sec"),
        transform: OptionValue.watchEventSeconds)
    var watchEventSeconds: UInt32?

    // MARK: Domains

    @Option(
        name: .customLong("event"),
        help: ArgumentHelp(
            "The port of the control domain, for a daemon that has a domain of its own.", valueName: "port"),
        transform: OptionValue.number(in: 1...131_071))
    var event: UInt32?

    @Option(
        name: .customLong("master-domid"),
        help: ArgumentHelp(
            "The domain that the sockets speak for; with --event, the control domain.", valueName: "domid"),
        transform: OptionValue.domain)
    var masterDomain: DomainID?

    @Option(
        name: .customLong("priv-domid"),
        help: ArgumentHelp("The domain that may do everything.", valueName: "domid"),
        transform: OptionValue.domain)
    var privilegedDomain: DomainID?

    /// The modules that need no file.
    static let builtIn = [memoryStore, appendLogStore, pathRules, typeLabels, rateLimit, auditTrail].map {
        BuiltInModule($0.pointer)
    }

    /// The policies that the stub domain's kernel has (stubdom/Sources/Policies.swift).
    static let linkedIntoKernel = ["path-rules", "type-labels", "rate-limit"]

    private static let limit = OptionValue.number(in: 0...UInt32.max)
}

extension XenstoredCommand {
    /// Does what `arguments` (without the program's name) ask. Returns the exit status.
    static func main(_ arguments: [String]) -> Int32 {
        if let status = policyCommand(arguments, builtIn) { return status }
        do {
            let command = try parse(try OptionForm.canonical(arguments))
            let options = try command.daemonOptions()
            do throws(StartFailure) {
                _ = try options.hypervisorChoice
            } catch {
                throw OptionMistake(error.description)
            }
            if let answer = try command.answer(options) {
                print(answer, terminator: "")
                return 0
            }
            _ = try StoreChoice(options, builtIn: builtIn).module()
            let search = ModuleSearch(options, builtIn: builtIn)
            for policy in options.configuration.policies { _ = try policy.find(search) }
            if let file = command.compiledFile {
                let kernel = try options.kernelConfiguration(search, linked: linkedIntoKernel)
                try writeNew(file, kernel.compiled)
                return 0
            }
            guard command.checkConfiguration else { return runDaemon(options, builtIn: builtIn) }
            print("\(command.configurationFile ?? options.file ?? "no configuration file, the defaults"): ok")
            return 0
        } catch let mistakes as ConfigurationMistakes {
            complain(mistakes.description)
            return 2
        } catch let failure as StartFailure {
            complain(failure.description)
            return 2
        } catch let mistake as OptionMistake {
            complain("xenstored: \(mistake) (xenstored --help lists the options)")
            return 2
        } catch {
            if exitCode(for: error) == .success {
                print(message(for: error))
                return 0
            }
            complain("xenstored: \(message(for: error)) (xenstored --help lists the options)")
            return 2
        }
    }

    /// What the command line asks about modules, nil if it asks nothing.
    ///
    /// Throws if there is no such module.
    private func answer(_ options: DaemonOptions) throws -> String? {
        let search = ModuleSearch(options, builtIn: Self.builtIn)
        if listModules { return try search.list() }
        guard let describedModule else { return nil }
        let name =
            describedModule.contains("/") ? options.environment.absolute(describedModule) : describedModule
        return try search.find(Placed(name)).longDescription
    }

    /// The configuration with this command line over it.
    ///
    /// Throws a mistake in either.
    private func daemonOptions() throws -> DaemonOptions {
        if liveUpdate {
            throw OptionMistake(
                "--live-update is not possible yet: stop the running daemon and start this one")
        }
        var flags = DaemonFlags()
        flags.noFork = noFork
        flags.event = event
        flags.watchEventSeconds = watchEventSeconds
        return try DaemonOptions(file: configurationFile, changes: changes, flags: flags)
    }

    private var changes: ConfigurationChanges {
        var changes = ConfigurationChanges()
        changes.hypervisor = hypervisor
        changes.pidFile = pidFile
        changes.traceFile = traceFile
        changes.trace = traceControl
        let older: [(QuotaName, UInt32?)] = [
            (.nodes, nodes), (.nodeSize, nodeSize), (.watches, watches), (.transactions, transactions),
            (.nodePermissions, nodePermissions), (.pathMax, pathMax),
        ]
        changes.quotas = older.compactMap { quota, limit in
            limit.map { QuotaSetting(quota: quota, limit: $0) }
        }
        changes.quotas += quotas
        changes.softMemory = softMemory
        changes.domain = masterDomain
        changes.privilegedDomain = privilegedDomain
        return changes
    }
}

/// Writes `text` and a newline to stderr.
func complain(_ text: String) {
    let line = Array((text + "\n").utf8)
    var sent = 0
    while sent < line.count {
        let count = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress! + sent, line.count - sent) }
        if count < 0, errno != EINTR { return }
        sent += max(count, 0)
    }
}
