// Configuration files on a disk: which is read, what cannot be, and reading again.

import Glibc
import Testing
import XenStore

@testable import XenStoreHost

@Suite struct ConfigurationFileTests {
    /// A directory that is there while `body` runs.
    private func inDirectory(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/xenstored-test-XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        let directory = String(cString: made)
        defer {
            for name in ["a.yaml", "b.yaml", "pipe"] { unlink("\(directory)/\(name)") }
            rmdir(directory)
        }
        try body(directory)
    }

    private func write(_ text: String, to path: String) throws {
        let file = try #require(fopen(path, "w"))
        fputs(text, file)
        fclose(file)
    }

    private func options(
        _ file: String?, in directory: String, changes: ConfigurationChanges = ConfigurationChanges(),
        noFork: Bool = false
    ) throws(ConfigurationMistakes) -> DaemonOptions {
        var flags = DaemonFlags()
        flags.noFork = noFork
        return try DaemonOptions(
            file: file, changes: changes, flags: flags,
            environment: Configuration.Environment(workingDirectory: directory),
            defaultFile: "\(directory)/b.yaml")
    }

    @Test func theNamedFileElseTheDefaultOneElseNoneIsRead() throws {
        try inDirectory { directory in
            #expect(try options(nil, in: directory).configuration == Configuration())
            #expect(try options(nil, in: directory).file == nil)

            try write("domain: 2", to: "\(directory)/b.yaml")
            #expect(try options(nil, in: directory).configuration.domain.rawValue == 2)
            #expect(try options(nil, in: directory).file == "\(directory)/b.yaml")

            try write("domain: 1", to: "\(directory)/a.yaml")
            #expect(try options("a.yaml", in: directory).configuration.domain.rawValue == 1)
            #expect(try options("a.yaml", in: directory).file == "\(directory)/a.yaml")
        }
    }

    @Test func whatCannotBeReadIsTold() throws {
        try inDirectory { directory in
            func text(_ file: String) -> String {
                do {
                    _ = try options(file, in: directory)
                    return "ok"
                } catch {
                    return error.description
                }
            }
            #expect(text("a.yaml") == "a.yaml: cannot be read: No such file or directory")
            #expect(
                text(directory) == "\(directory): found a directory, expected a file with the configuration")
            #expect(mkfifo("\(directory)/pipe", 0o600) == 0)
            #expect(text("pipe") == "pipe: found a special file, expected a file with the configuration")
            #expect(text("/dev/null") == "ok")
            try write("domain: x\n", to: "\(directory)/a.yaml")
            #expect(text("a.yaml") == "a.yaml:1:9: found \"x\", expected a domain id from 0 to 32751")
            // Endless, and bounded all the same.
            #expect(text("/dev/zero") == "/dev/zero: found more than 262144 bytes, expected a configuration")
        }
    }

    @Test func readingAgainKeepsTheCommandLine() throws {
        try inDirectory { directory in
            let file = "\(directory)/a.yaml"
            try write("quotas: {nodes: 5, watches: 6}", to: file)
            var changes = ConfigurationChanges()
            changes.quotas = [QuotaSetting(quota: .nodes, limit: 99)]
            let first = try options("a.yaml", in: directory, changes: changes)
            #expect(first.configuration.quotas[.nodes] == 99 && first.configuration.quotas[.watches] == 6)

            try write("quotas: {nodes: 7, watches: 8}", to: file)
            let second = try first.reloaded()
            #expect(second.configuration.quotas[.nodes] == 99 && second.configuration.quotas[.watches] == 8)
            #expect(second.flags == first.flags)

            try write("quotas: {nodes: x}", to: file)
            #expect(throws: ConfigurationMistakes.self) { try second.reloaded() }
        }
    }

    @Test func logsGoToTheTerminalOnlyInTheForeground() throws {
        try inDirectory { directory in
            #expect(try options(nil, in: directory, noFork: true).logDestination == .stderr)
            #expect(try options(nil, in: directory).logDestination == .syslog)
            try write("log: {destination: /l}", to: "\(directory)/b.yaml")
            #expect(try options(nil, in: directory, noFork: true).logDestination == .file("/l"))
        }
    }

    @Test func theMachinesAccountsAreFound() {
        #expect(Accounts.machine.user("root") == 0)
        #expect(Accounts.machine.group("root") == 0)
        #expect(Accounts.machine.user("no such user") == nil)
        #expect(Accounts.machine.group("no such group") == nil)
    }
}
