// The command line: getopt's forms, the options' values, and what they do to a configuration.

import Testing
import XenStore
import XenStoreTypes

@testable import XenStoreHost

@Suite struct OptionTests {
    // MARK: Forms

    static let forms: [(written: [String], canonical: [String])] = [
        ([], []),
        (["-F", "f"], ["--pid-file=f"]),
        (["--pid-file", "f", "-N"], ["--pid-file=f", "--no-fork"]),
        (["-NTfile"], ["--no-fork", "--trace-file=file"]),
        (["-NT", "file"], ["--no-fork", "--trace-file=file"]),
        (["-T=file"], ["--trace-file==file"]),
        (
            ["-E1000", "-Q", "nodes=5", "-Qwatches=6"],
            ["--entry-nb=1000", "--quota=nodes=5", "--quota=watches=6"]
        ),
        (["--quota=nodes=5", "--quota", "nodes=5"], ["--quota=nodes=5", "--quota=nodes=5"]),
        (["--trace-control", "-io", "--trace-c=+obj"], ["--trace-control=-io", "--trace-control=+obj"]),
        (["-F", "-N"], ["--pid-file=-N"]),
        (["-F", "--", "-N"], ["--pid-file=--", "--no-fork"]),
        (["--priv", "3", "--mas=2", "--ev=7"], ["--priv-domid=3", "--master-domid=2", "--event=7"]),
        (["--quota-s", "memory=1"], ["--quota-soft=memory=1"]),
        (["-H", "-h", "--he"], ["--help", "--help", "--help"]),
        (["-DPVRI", "-Ioff", "--internal-db", "--internal-db=on", "--no-rec", "--verb"], []),
        (["-I", "off"], ["off"]),
        (["-DNP"], ["--no-fork"]),
        (["x", "-", "-N"], ["x", "-", "--no-fork"]),
        (["-N", "--", "-Z", "x"], ["--no-fork", "--", "-Z", "x"]),
    ]

    @Test(arguments: forms) func getoptsFormsAreTaken(_ form: (written: [String], canonical: [String])) throws
    {
        #expect(try OptionForm.canonical(form.written) == form.canonical)
    }

    static let badForms: [(written: [String], text: String)] = [
        (["-Z"], "found the unknown option \"-Z\""),
        (["-NZ"], "found the unknown option \"-Z\""),
        (["--pidfile", "x"], "found the unknown option \"--pidfile\" (did you mean --pid-file?)"),
        (["--nonsense"], "found the unknown option \"--nonsense\""),
        (["--=x"], "found the unknown option \"--\""),
        (["--trace"], "found the ambiguous option \"--trace\", expected --trace-file or --trace-control"),
        (["--ver"], "found the ambiguous option \"--ver\", expected --version or --verbose"),
        (["-F"], "found -F without a value, expected FILE"),
        (["-NQ"], "found -Q without a value, expected NAME=NUMBER"),
        (["--pid-file="], "found --pid-file without a value, expected FILE"),
        (["-F", ""], "found -F without a value, expected FILE"),
        (["--no-fork=yes"], "found --no-fork with a value (\"yes\"), expected none"),
    ]

    @Test(arguments: badForms) func otherFormsAreTold(_ form: (written: [String], text: String)) {
        #expect(throws: OptionMistake(form.text)) { try OptionForm.canonical(form.written) }
    }

    @Test func everyNameAndLetterIsTakenOnce() {
        let names = OptionForm.all.map(\.name)
        let letters = OptionForm.all.flatMap(\.letters)
        #expect(Set(names).count == names.count)
        #expect(Set(letters).count == letters.count)
        // Specification, section H.
        #expect(Set("FNHTESWtAMQqwKUDPVRI").isSubset(of: letters))
    }

    // MARK: Values

    @Test func quotasAreNamedAsInTheProtocol() throws {
        for quota in QuotaName.allCases {
            let setting = try QuotaSetting(parsing: "\(quota.text)=7")
            #expect(setting == QuotaSetting(quota: quota, limit: 7))
        }
        #expect(try QuotaSetting(parsing: "permissions=0") == QuotaSetting(quota: .nodePermissions, limit: 0))
        #expect(throws: OptionMistake("found \"nodes\", expected NAME=NUMBER")) {
            try QuotaSetting(parsing: "nodes")
        }
        #expect(throws: OptionMistake("found \"\", expected a whole number from 0 to 4294967295")) {
            try QuotaSetting(parsing: "nodes=")
        }
        #expect(
            throws: OptionMistake(
                "found the unknown quota \"x\", expected nodes, watches, transactions, outstanding, "
                    + "transaction-nodes, memory, node-size, path-max or node-permissions")
        ) { try QuotaSetting(parsing: "x=1") }
    }

    @Test func otherValuesAreCheckedToo() throws {
        #expect(try TraceChange(parsing: "+io") == TraceChange(switches: .io, on: true))
        #expect(try TraceChange(parsing: "-acc") == TraceChange(switches: .acc, on: false))
        for wrong in ["io", "+", "", "+all", "*io"] {
            #expect(throws: OptionMistake.self) { try TraceChange(parsing: wrong) }
        }
        #expect(try OptionValue.softMemory("memory=5") == 5)
        #expect(throws: OptionMistake("found the unknown soft quota \"nodes\", expected memory")) {
            try OptionValue.softMemory("nodes=5")
        }
        #expect(try OptionValue.watchEventSeconds("watch-event=86400") == 86400)
        #expect(throws: OptionMistake.self) { try OptionValue.watchEventSeconds("watch-event=86401") }
        #expect(throws: OptionMistake("found the unknown timeout \"x\", expected watch-event")) {
            try OptionValue.watchEventSeconds("x=1")
        }
        #expect(try OptionValue.domain("32751") == DomainID(32751))
        #expect(throws: OptionMistake.self) { try OptionValue.domain("32752") }
        #expect(try OptionValue.hypervisor("none") == .none)
        #expect(throws: OptionMistake("found \"kvm\", expected auto, xen, simulated or none")) {
            try OptionValue.hypervisor("kvm")
        }
    }

    // MARK: What they change

    @Test func theCommandLineGoesOverTheFile() throws {
        var changes = ConfigurationChanges()
        changes.hypervisor = .xen
        changes.pidFile = "pid"
        changes.traceFile = "/t"
        changes.trace = [
            TraceChange(switches: .acc, on: true), TraceChange(switches: .io, on: false),
        ]
        changes.quotas = [
            QuotaSetting(quota: .nodes, limit: 1), QuotaSetting(quota: .nodes, limit: 2),
        ]
        changes.softMemory = 3
        changes.domain = DomainID(4)
        changes.privilegedDomain = DomainID(5)
        var result = try configuration("hypervisor: none\npid-file: /p\nquotas: {nodes: 9, watches: 8}")
        changes.apply(to: &result, in: Configuration.Environment(workingDirectory: "/home"))

        var expected = Configuration()
        expected.hypervisor = .xen
        expected.pidFile = "/home/pid"
        expected.log.traceFile = "/t"
        expected.log.trace = [.obj, .acc]
        expected.quotas[.nodes] = 2
        expected.quotas[.watches] = 8
        expected.quotas.softMemory = 3
        expected.domain = DomainID(4)
        expected.privilegedDomain = DomainID(5)
        #expect(result == expected)
    }

    @Test func aTraceFileLeavesTheFilesSwitches() throws {
        var changes = ConfigurationChanges()
        changes.traceFile = "/t"
        var result = try configuration("log: {trace: [wrl]}")
        changes.apply(to: &result, in: Configuration.Environment())
        #expect(result.log.trace == .wrl)
    }

    @Test func noOptionChangesNothing() throws {
        let before = try configuration("quotas: {nodes: 9}\nlog: {trace: [wrl], level: debug}\ndomain: 4")
        var after = before
        ConfigurationChanges().apply(to: &after, in: Configuration.Environment())
        #expect(after == before)
    }

    // MARK: The environment

    /// The default socket's path there.
    private func path(_ environment: Configuration.Environment) throws -> String {
        let configuration = try Configuration(environment: environment)
        return configuration.sockets[0].path
    }

    @Test func theEnvironmentMovesTheDefaultSocketOnly() throws {
        typealias Environment = Configuration.Environment
        #expect(try path(Environment()) == "/run/xenstored/socket")
        #expect(try path(Environment(runDirectory: "/d")) == "/d/socket")
        #expect(try path(Environment(runDirectory: "d", workingDirectory: "/w")) == "/w/d/socket")
        #expect(try path(Environment(socketPath: "/p", runDirectory: "/d")) == "/p")

        var listed = try Configuration(environment: Environment(runDirectory: "/d"))
        try listed.read(Array("sockets: [{path: /s}]".utf8), file: "f")
        #expect(listed.sockets == [Configuration.Socket(path: "/s")])

        let long = "/" + String(repeating: "x", count: 101)
        let expected = ConfigurationMistake(
            file: "XENSTORED_RUNDIR",
            text:
                "found the socket \"\(("\(long)/socket").prefix(60))...\", expected a file's path of at most "
                + "107 bytes")
        #expect(throws: ConfigurationMistakes(all: [expected])) { try path(Environment(runDirectory: long)) }
        #expect(try path(Environment(runDirectory: String(long.dropLast(2)))).utf8.count == 107)
    }
}
