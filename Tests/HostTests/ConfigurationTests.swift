// Good configuration files: what they mean, and that the shipped ones say what the daemon does.

import Testing
import XenStore
import XenStoreTypes

@testable import XenStoreHost

@Suite struct ConfigurationTests {
    /// A file, and what it changes of the defaults.
    struct Good: Sendable, CustomTestStringConvertible {
        var text: String
        var change: @Sendable (inout Configuration) -> Void
        var testDescription: String { text }

        init(_ text: String, _ change: @escaping @Sendable (inout Configuration) -> Void) {
            self.text = text
            self.change = change
        }
    }

    static let good: [Good] = [
        Good("") { _ in },
        Good("# nothing but a comment\n") { _ in },
        Good("---\n") { _ in },
        Good("--- {}\n...\n") { _ in },
        Good("\u{FEFF}hypervisor: none\r\n") { $0.hypervisor = .none },
        Good("%YAML 1.1\n---\nhypervisor: none\n") { $0.hypervisor = .none },
        Good("hypervisor: xen") { $0.hypervisor = .xen },
        Good("xen: {kva: /dev/xsd_kva, port: /kern/xen/xsd_port}") {
            $0.xen.kva = "/dev/xsd_kva"
            $0.xen.port = .file("/kern/xen/xsd_port")
        },
        Good("xen: {kva: none, port: 131071}") {
            $0.xen.kva = nil
            $0.xen.port = .number(131_071)
        },
        Good("hypervisor: \"simulated\"") { $0.hypervisor = .simulated },
        Good("simulated: {directory: /a b}") { $0.simulated.directory = "/a b" },
        Good("simulated: {directory: none}") { _ in },
        Good("sockets: [{path: /s}, {path: /r, read-only: true}]") {
            $0.sockets = [.init(path: "/s"), .init(path: "/r")]
            $0.sockets[1].readOnly = true
        },
        Good("sockets:\n- path: \"/a b\"\n  mode: '0400'\n  owner: alice\n  group: 4294967294\n") {
            $0.sockets = [.init(path: "/a b")]
            $0.sockets[0].mode = Placed(0o400)
            $0.sockets[0].owner = 1001
            $0.sockets[0].group = 4_294_967_294
        },
        Good("sockets: [{path: /s, mode: \"0660\"}]\npolicies: [{module: path-rules}]") {
            $0.sockets = [Configuration.Socket(path: "/s")]
            $0.sockets[0].mode = Placed(0o660)
            $0.policies = [PolicyChoice(Placed("path-rules"))]
        },
        Good("sockets: [{path: /s, mode: \"600\", owner: '7', group: staff}]") {
            $0.sockets = [.init(path: "/s")]
            $0.sockets[0].owner = 7
            $0.sockets[0].group = 50
        },
        Good("store: {backend: memory}") { _ in },
        Good("store: {backend: /a/b.so, options: {path: /x, size: '3'}}") {
            $0.store.backend = Placed("/a/b.so")
            $0.store.options = [
                ModuleOption(Placed("path"), Placed("/x")), ModuleOption(Placed("size"), Placed("3")),
            ]
        },
        Good("store: {on-full: continue-in-memory, keep: [/a/b-_@9], sessions: /s}") {
            $0.store.onFull = .continueInMemory
            $0.store.keep = ["/a/b-_@9"]
            $0.store.sessions = "/s"
        },
        Good("modules: {directory: none, allow-environment: true}") {
            $0.modules.directory = nil
            $0.modules.allowEnvironment = true
        },
        Good("quotas: {nodes: 0, watches: 4294967295, memory: 3MiB, soft-memory: 1KiB, path-max: 100}") {
            $0.quotas[.nodes] = 0
            $0.quotas[.watches] = .max
            $0.quotas[.memory] = 3 << 20
            $0.quotas.softMemory = 1024
            $0.quotas[.pathMax] = 100
        },
        Good("quotas: {transactions: 1, outstanding: 2, transaction-nodes: 3, node-size: 4, permissions: 5}")
        {
            $0.quotas[.transactions] = 1
            $0.quotas[.outstanding] = 2
            $0.quotas[.transactionNodes] = 3
            $0.quotas[.nodeSize] = 4
            $0.quotas[.nodePermissions] = 5
        },
        Good("quotas: {node-permissions: 9}") { $0.quotas[.nodePermissions] = 9 },
        Good("transactions: {snapshot-memory: 1GiB}") { $0.transactions.snapshotMemory = 1 << 30 },
        Good("transactions: {snapshot-memory: 65536}") { $0.transactions.snapshotMemory = 65536 },
        Good("log: {level: debug, destination: journal, trace: [io, acc], trace-file: /t}") {
            $0.log.level = .debug
            $0.log.destination = .journal
            $0.log.trace = [.io, .acc]
            $0.log.traceFile = "/t"
        },
        Good("log: {destination: /var/log/x, trace: [io, obj, wrl, acc]}") {
            $0.log.destination = .file("/var/log/x")
            $0.log.trace = .all
        },
        Good("log: {level: error, destination: stderr}") {
            $0.log.level = .error
            $0.log.destination = .stderr
        },
        Good("log: {level: warning, destination: syslog}") {
            $0.log.level = .warning
            $0.log.destination = .syslog
        },
        Good("pid-file: /run/é.pid\ndomain: 32751\nprivileged-domain: 1\n") {
            $0.pidFile = "/run/é.pid"
            $0.domain = DomainID(32751)
            $0.privilegedDomain = DomainID(1)
        },
    ]

    @Test(arguments: good) func aGoodFileMeansWhatItSays(_ good: Good) throws {
        var expected = Configuration()
        good.change(&expected)
        #expect(try configuration(good.text) == expected)
    }

    @Test func theCoreIsToldAllThatConcernsIt() throws {
        let core = try configuration(
            """
            quotas: {nodes: 7, soft-memory: 8}
            transactions: {snapshot-memory: 2MiB}
            log: {trace: [wrl]}
            domain: 3
            privileged-domain: 4
            """
        ).serverConfiguration(hashSeed: (1, 2))
        #expect(core.quotas[.nodes] == 7 && core.quotas.softMemory == 8)
        #expect(core.snapshotMemory == 2 << 20)
        #expect(core.tracing == .wrl)
        #expect(core.domain == DomainID(3) && core.privilegedDomain == DomainID(4))
        #expect(core.hashSeed == (1, 2))
    }

    // MARK: The shipped files

    @Test func theShippedFileHasEveryKeyAndNoOther() throws {
        let bytes = try packageFile("config/xenstored.yaml")
        var list = MistakeList(file: "xenstored.yaml")
        let root = try #require(readYAML(bytes, &list))
        // A list that is empty shows its keys in the comment above it.
        let shown = Configuration.keyPaths.filter { !$0.hasPrefix("policies[]") }
        #expect(keyPaths(root).sorted() == shown.sorted())
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.contains("#     - module: ") && text.contains("#       options: "))
    }

    @Test func theShippedFileSaysTheDefaults() throws {
        var result = Configuration()
        result.hypervisor = .simulated
        result.sockets = []
        result.quotas[.nodes] = 1
        result.quotas.softMemory = 1
        result.log.level = .debug
        result.pidFile = "/p"
        try result.read(packageFile("config/xenstored.yaml"), file: "xenstored.yaml")
        #expect(result == Configuration())
    }

    @Test func everyKeyOfTheShippedFileIsExplainedAboveIt() throws {
        let text = String(decoding: try packageFile("config/xenstored.yaml"), as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var keys = 0
        for (index, line) in lines.enumerated() where line.contains(":") {
            let bare = line.drop { $0 == " " }
            if bare.hasPrefix("#") { continue }
            keys += 1
            #expect(index > 0 && lines[index - 1].contains("#"), "line \(index + 1) has no comment: \(line)")
        }
        #expect(keys == Configuration.keyPaths.filter { !$0.hasPrefix("policies[]") }.count)
    }

    @Test func theDemoIsGoodAndLeavesTheSocketToTheEnvironment() throws {
        let environment = Configuration.Environment(runDirectory: "/tmp/demo")
        var result = try Configuration(environment: environment)
        try result.read(packageFile("config/demo.yaml"), file: "demo.yaml")
        #expect(result.sockets == [Configuration.Socket(path: "/tmp/demo/socket")])
        #expect(result.hypervisor == .none)
        #expect(result.log.destination == .stderr)
    }

    @Test func theManualNamesEveryKeyVariableAndOption() throws {
        let text = String(decoding: try packageFile("docs/configuration.md"), as: UTF8.self)
        for path in Configuration.keyPaths { #expect(text.contains("`\(path)`"), "\(path)") }
        for option in OptionForm.all { #expect(text.contains("`--\(option.name)"), "--\(option.name)") }
        for variable in ["XENSTORED_RUNDIR", "XENSTORED_PATH", "SIMXEN_DIR"] {
            #expect(text.contains("`\(variable)`"))
        }
    }

    private func keyPaths(_ node: YAMLNode) -> [String] {
        guard case .mapping(let entries) = node.content else { return [] }
        return entries.flatMap { entry in
            if case .list(let items) = entry.value.content {
                return [entry.key] + items.flatMap { keyPaths($0).map { "\(entry.key)[].\($0)" } }
            }
            return [entry.key] + keyPaths(entry.value).map { "\(entry.key).\($0)" }
        }
    }
}
