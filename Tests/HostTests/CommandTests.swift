// The executable's command line, from outside: what it prints, and its exit status.
//
// Only command lines that start nothing are tried here.

import Foundation
import Glibc
import Testing
import XenStore
import XenStoreTestKit

@testable import XenStoreHost

@Suite struct CommandTests {
    struct Outcome: Equatable {
        var status: Int32
        var output: String
        var errors: String
    }

    /// Runs it to its end, in the package's directory, with this environment only and for 20 s at most.
    func run(_ arguments: [String], environment: [String] = []) throws -> Outcome {
        let program = try builtExecutable()
        var template = Array("/tmp/xenstored-test-XXXXXX".utf8CString)
        let directory = String(cString: try #require(mkdtemp(&template)))
        let (output, errors) = ("\(directory)/output", "\(directory)/errors")
        defer {
            unlink(output)
            unlink(errors)
            rmdir(directory)
        }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT, 0o600)

        // timeout(1) ends a program that should have ended by itself.
        let words = ["env", "-C", packageRoot, "timeout", "-s", "KILL", "20", program] + arguments
        let argv = words.map { strdup($0) } + [nil]
        let envp = (environment + ["PATH=/usr/bin:/bin"]).map { strdup($0) } + [nil]
        defer { for text in argv + envp { free(text) } }
        var pid: pid_t = 0
        try #require(posix_spawnp(&pid, "env", &actions, nil, argv, envp) == 0, "env(1) cannot be started")
        var status: Int32 = 0
        try #require(waitpid(pid, &status, 0) == pid)
        let exited = status & 0x7F == 0
        return Outcome(
            status: exited ? (status >> 8) & 0xFF : -1,
            output: String(decoding: try wholeFile(output), as: UTF8.self),
            errors: String(decoding: try wholeFile(errors), as: UTF8.self))
    }

    /// The shipped file says what holds without it, and has to be right about that.
    @Test func theKernelsConfigurationIsCompiled() throws {
        var template = Array("/tmp/xenstored-test-XXXXXX".utf8CString)
        let directory = String(cString: try #require(mkdtemp(&template)))
        let blob = "\(directory)/blob"
        defer {
            unlink(blob)
            rmdir(directory)
        }
        let outcome = try run(["--config", "config/stubdom.yaml", "--compile-config", blob])
        #expect(outcome == Outcome(status: 0, output: "", errors: ""))
        #expect(try wholeFile(blob) == KernelConfiguration().compiled)
        let refused = try run(["--trace-file", "/tmp/x", "--compile-config", blob])
        #expect(refused.status == 2)
        #expect(refused.errors.contains("found log.trace-file, expected none"), "\(refused.errors)")
        let lost = try run(["--compile-config", "\(directory)/none/blob"])
        #expect(lost.status == 2)
        #expect(lost.errors.contains("cannot write \(directory)/none/blob"), "\(lost.errors)")
    }

    private func compile(_ module: String, _ options: String, in scratch: TestDirectory) throws -> Outcome {
        let text = "policies:\n  - module: \(module)\n    options: {\(options)}\n"
        try text.write(toFile: scratch / "c.yaml", atomically: false, encoding: .utf8)
        return try run(["--config", scratch / "c.yaml", "--compile-config", scratch / "blob"])
    }

    /// Policies go into it with what their files say.
    @Test func policiesAreCompiled() throws {
        let scratch = TestDirectory()
        let rules = "\(packageRoot)/config/policies/hardened-guests.yaml"
        let outcome = try compile("path-rules", "file: \"\(rules)\"", in: scratch)
        #expect(outcome == Outcome(status: 0, output: "", errors: ""))
        let blob = try wholeFile(scratch / "blob")
        let kernel = try KernelConfiguration(compiled: blob.span)
        #expect(kernel.policies.map(\.module) == [Array("path-rules".utf8)])
        let text = String(decoding: kernel.policies[0].form, as: UTF8.self)
        #expect(text.contains("rule own-home (\(rules):"))
    }

    /// What no kernel has is refused by its place.
    @Test(arguments: [
        ("audit-trail", "path: /tmp/x", "2:13: found the module \"audit-trail\" (built in), expected one"),
        ("path-rules", "mode: record, record-to: /tmp/x", "3:21: found \"record\", expected enforce"),
        ("path-rules", "mode: non", "3:21: found \"non\", expected enforce, permissive or record"),
        ("type-labels", "file: none", "/none: "),
    ])
    func policiesThatNoKernelHasAreRefused(module: String, options: String, reason: String) throws {
        let scratch = TestDirectory()
        let refused = try compile(module, options, in: scratch)
        #expect(refused.status == 2)
        #expect(refused.errors.contains(reason), "\(refused.errors)")
        #expect(access(scratch / "blob", F_OK) != 0)
    }

    @Test func theShippedFilesAreOK() throws {
        for file in ["config/xenstored.yaml", "config/demo.yaml", "config/stubdom.yaml"] {
            let outcome = try run(["--check-config", "--config", file])
            #expect(outcome == Outcome(status: 0, output: "\(file): ok\n", errors: ""))
        }
    }

    /// Every option of the field beside a check: taken, and nothing is started.
    @Test func everyOptionOfTheFieldIsTaken() throws {
        let words = """
            -F pid --pid-file=pid -N --no-fork -T trace --trace-file trace --trace-control=+io \
            --trace-control -obj -E 1 --entry-nb=1 -S 1 --entry-size=1 -W1 --watch-nb 1 -t 1 --transaction=1 \
            -A 1 --perm-nb=1 -M 100 --path-max=100 -Q nodes=5 --quota=outstanding=6 --quota permissions=7 \
            -q memory=1 --quota-soft=memory=1 -w watch-event=30 --timeout=watch-event=0 -K --keep-orphans \
            --event 3 --master-domid 0 --priv-domid=0 -D --no-domain-init -P --output-pid -V --verbose \
            -R --no-recovery -I -Ioff --internal-db --internal-db=off --hypervisor none -NKT/tmp/x
            """
        let arguments = words.split(separator: " ").map(String.init)
        let outcome = try run(arguments + ["--check-config", "--config=/dev/null"])
        #expect(outcome == Outcome(status: 0, output: "/dev/null: ok\n", errors: ""))
    }

    @Test func modulesAreListedAndDescribed() throws {
        let listed = try run(["--list-modules", "--config", "/dev/null"])
        #expect(listed.status == 0 && listed.errors == "")
        #expect(listed.output.hasPrefix("memory          1.0     backend  Keeps nothing"))
        let described = try run(["--describe-module", "memory", "--config", "/dev/null"])
        #expect(described.status == 0 && described.errors == "")
        #expect(described.output.hasPrefix("name: memory\nversion: 1.0\ninterface: 1.1\n"))
        let missing = try run(["--describe-module=memroy", "--config", "/dev/null"])
        #expect(missing.status == 2 && missing.output == "")
        #expect(missing.errors.hasPrefix("found no module \"memroy\" (did you mean \"memory\"?), expected "))
    }

    /// The daemon does not start, and --check-config says the same.
    @Test(arguments: [["--check-config"], ["-N"]]) func aWrongModuleIsTwo(flags: [String]) throws {
        let directory = TestDirectory()
        let file = directory / "x.yaml"
        func failure(_ text: String) throws -> String {
            try text.write(toFile: file, atomically: false, encoding: .utf8)
            let outcome = try run(flags + ["--config", file])
            #expect(outcome.status == 2 && outcome.output == "")
            return outcome.errors
        }
        #expect(
            try failure("store:\n  backend: none-such\n")
                .hasPrefix("\(file):2:12: found no module \"none-such\", expected "))
        #expect(
            try failure("store:\n  backend: /none/x.so\n") == "\(file):2:12: the module /none/x.so "
                + "cannot be opened: No such file or directory\n")
        #expect(
            try failure("store:\n  options:\n    path: /x\n")
                == "\(file):3:5: found the key \"path\", expected none here (module memory)\n")
    }

    /// The module's own reason, behind the place of its name.
    @Test func aModuleThatDoesNotOpenStopsTheStart() throws {
        let scratch = ModuleScratch()
        let source = """
            #include <xenstore_plugin.h>
            static void *broken_open(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
                const struct xenstore_option *options, size_t count, struct xenstore_failure *failure)
            {
                xenstore_fail(failure, 5, "the moon is in the wrong quarter");
                return NULL;
            }
            static int none(void) { return 0; }
            static const struct xenstore_backend backend = { sizeof(backend), XENSTORE_BACKEND_DURABLE,
                broken_open, (void *)none, (void *)none, (void *)none };
            static const struct xenstore_plugin plugin = { XENSTORE_PLUGIN_HEAD, XENSTORE_KIND_BACKEND,
                "broken", "1", "Fails.", NULL, 0, &backend, NULL };
            XENSTORE_PLUGIN_EXPORT(plugin)
            """
        let file = scratch / "x.yaml"
        let module = try scratch.build("broken", source)
        let text =
            "log: {level: error}\nsockets: [{path: \(scratch / "socket")}]\nstore:\n  backend: \(module)\n"
        try text.write(toFile: file, atomically: false, encoding: .utf8)
        let outcome = try run(["-N", "--hypervisor", "none", "--config", file])
        let reason = "\(file):4:12: store backend broken: the moon is in the wrong quarter"
        #expect(outcome == Outcome(status: 1, output: "", errors: "xenstored: \(reason)\n"))
    }

    /// Which directories count, and in which order.
    @Test func theEnvironmentsModulesCountWhereTheyMay() throws {
        let scratch = TestDirectory()
        let file = scratch / "x.yaml"
        for name in ["a", "b"] {
            try FileManager.default.createDirectory(
                atPath: scratch / name, withIntermediateDirectories: false)
            try "no module".write(
                toFile: scratch / "\(name)/x.so", atomically: false, encoding: .utf8)
        }
        func failure(_ text: String) throws -> String {
            try text.write(toFile: file, atomically: false, encoding: .utf8)
            return try run(
                ["--describe-module", "x", "--config", file],
                environment: ["XENSTORED_PLUGIN_PATH=\(scratch.path)/none:\(scratch / "b")"]
            ).errors
        }
        let first = try failure("modules: {directory: \(scratch / "a"), allow-environment: true}")
        #expect(first.hasPrefix("the module \(scratch / "a")/x.so cannot be loaded: "))
        let second = try failure("modules: {directory: none, allow-environment: true}")
        #expect(second.hasPrefix("the module \(scratch / "b")/x.so cannot be loaded: "))
        let third = try failure("modules: {directory: none}")
        if geteuid() == 0 {
            let builtIn = "memory, append-log, path-rules, type-labels, rate-limit, audit-trail"
            #expect(
                third.hasPrefix(
                    "found no module \"x\", expected \(builtIn), libxenstore-x.so or x.so in /"))
            #expect(
                third.hasSuffix(
                    "; XENSTORED_PLUGIN_PATH does not count under root unless modules.allow-environment "
                        + "is true\n"))
        } else {
            #expect(third == second)
        }
    }

    @Test func aWrongFileIsTwo() throws {
        let missing = try run(["-N", "--config", "config/none.yaml"])
        let text = "config/none.yaml: cannot be read: No such file or directory\n"
        #expect(missing == Outcome(status: 2, output: "", errors: text))
        let source = try run(["-N", "--config", "Package.swift"])
        #expect(source.status == 2)
        #expect(source.errors.hasPrefix("Package.swift:"))
        let variable = try run(
            ["--check-config", "--config", "/dev/null"],
            environment: ["XENSTORED_PATH=/" + String(repeating: "x", count: 107)])
        #expect(variable.status == 2)
        #expect(variable.errors.hasPrefix("XENSTORED_PATH: found the socket "))
    }

    static let wrong: [(arguments: [String], errors: String)] = [
        (["--bogus"], "xenstored: found the unknown option \"--bogus\""),
        (["stray"], "xenstored: Unexpected argument 'stray'"),
        (["-Q", "nodes"], "found \"nodes\", expected NAME=NUMBER"),
        (["-E", "x"], "found \"x\", expected a whole number from 0 to 4294967295"),
        (["--event", "131072"], "found \"131072\", expected a whole number from 1 to 131071"),
        (["--hypervisor", "kvm"], "found \"kvm\", expected auto, xen, simulated or none"),
        (["--trace-control", "io"], "found \"io\", expected + or - and one of io, obj, wrl or acc"),
        (["--live-update"], "xenstored: --live-update is not possible yet"),
    ]

    @Test(arguments: wrong) func aWrongCommandLineIsTwo(_ wrong: (arguments: [String], errors: String)) throws
    {
        let outcome = try run(wrong.arguments + ["-N"])
        #expect(outcome.status == 2)
        #expect(outcome.output == "")
        #expect(outcome.errors.contains(wrong.errors), "\(outcome.errors)")
        #expect(outcome.errors.hasSuffix("\n") && outcome.errors.count { $0 == "\n" } == 1)
    }

    @Test func helpNamesEveryOption() throws {
        let help = try run(["--help"])
        #expect(help.status == 0 && help.errors == "")
        for option in OptionForm.all {
            #expect(help.output.contains("--\(option.name)"))
            for letter in option.letters { #expect(help.output.contains("-\(letter)")) }
        }
        #expect(try run(["-H"]) == help)
        #expect(try run(["-h"]) == help)
        let version = try run(["--version"])
        #expect(version.status == 0 && version.output.hasPrefix("xenstored "))
    }
}
