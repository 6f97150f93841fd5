// Bad configuration files: the exact lines that are printed about them.

import Testing

@testable import XenStoreHost

@Suite struct ConfigurationMistakeTests {
    /// A file and every line that is printed about it.
    struct Bad: Sendable, CustomTestStringConvertible {
        var text: String
        var lines: [String]
        var testDescription: String { text }

        init(_ text: String, _ lines: String...) {
            self.text = text
            self.lines = lines
        }
    }

    static let topKeys =
        "hypervisor, xen, simulated, sockets, store, modules, policies, quotas, transactions, log, pid-file, "
        + "domain, privileged-domain"
    static let socketKeys = "path, mode, owner, group, read-only"
    static let bytes = "such as 2048, 64KiB, 10MiB or 1GiB"

    static let structure: [Bad] = [
        Bad(
            "a: [b",
            "f:1:6: found broken YAML: did not find expected ',' or ']', while parsing a flow "
                + "sequence that starts at line 1, column 4"),
        Bad(
            "hypervisor: none\n\tx: 1\n",
            "f:2:1: found broken YAML: found a tab character that violates indentation, while scanning a "
                + "plain scalar that starts at line 1, column 13"),
        Bad(
            "domain: 1\nlog",
            "f:2:4: found broken YAML: could not find expected ':', while scanning a simple key that starts "
                + "at line 2, column 1"),
        Bad(
            "log:\n  level: info\n   trace: []\n",
            "f:3:9: found broken YAML: mapping values are not allowed in this context"),
        Bad(
            "hypervisor: none\nhypervisor: none\n",
            "f:2:1: found the key \"hypervisor\" again, expected it once (line 1)"),
        Bad(
            "log: {level: info, level: info}",
            "f:1:20: found the key \"level\" again, expected it once (line 1)"),
        Bad(
            "hypervisor: none\n---\nhypervisor: none\n",
            "f:2:1: found a second document, expected one document in a file"),
        Bad("domain: &d 1\n", "f:1:9: found an anchor (&d), expected a value without one"),
        Bad("domain: 1\nprivileged-domain: *d\n", "f:2:20: found an alias (*d), expected the value itself"),
        Bad(
            "domain: !!int 1\n",
            "f:1:9: found the tag \"tag:yaml.org,2002:int\", expected a value without one"),
        Bad("log: !x {}\n", "f:1:6: found the tag \"!x\", expected a value without one"),
        Bad("? [a]\n: b\n", "f:1:3: found a list as a key, expected a word"),
        Bad("? {a: b}\n: b\n", "f:1:3: found a mapping as a key, expected a word"),
        Bad("? \n: b\n", "f:1:2: found nothing as a key, expected a word"),
        Bad("'': b\n", "f:1:1: found an empty string as a key, expected a word"),
        Bad("- a\n", "f:1:1: found a list, expected a mapping of: \(topKeys)"),
        Bad("hello", "f:1:1: found \"hello\", expected a mapping of: \(topKeys)"),
        Bad("''", "f:1:1: found an empty string, expected a mapping of: \(topKeys)"),
        Bad(
            "log: \u{7}\n",
            "f:1:6: found bytes that are not text (control characters are not allowed), "
                + "expected UTF-8 without control characters"),
        Bad(
            String(repeating: "[", count: 33),
            "f:1:33: found more than 32 lists and mappings inside each other, expected fewer"),
    ]

    static let keys: [Bad] = [
        Bad(
            "sokets: []",
            "f:1:1: found the unknown key \"sokets\" (did you mean \"sockets\"?), expected one of: \(topKeys)"
        ),
        Bad("policy: []", "f:1:1: found the unknown key \"policy\", expected one of: \(topKeys)"),
        Bad("policies: 1", "f:1:11: found \"1\", expected a list of 0 to 16 mappings"),
        Bad(
            "policies: [{module: a, option: {}}]",
            "f:1:24: found the unknown key \"option\" (did you mean \"options\"?), "
                + "expected one of: module, options"),
        Bad(
            "\"a\\u001b[2J\\\"\": 1",
            "f:1:1: found the unknown key \"a\\u{1B}[2J\\\"\", expected one of: \(topKeys)"),
        Bad(
            "\(String(repeating: "x", count: 80)): 1",
            "f:1:1: found the unknown key \"\(String(repeating: "x", count: 60))...\", expected one of: "
                + topKeys),
        Bad(
            "log: {lvl: info}",
            "f:1:7: found the unknown key \"lvl\", expected one of: level, destination, trace, trace-file"),
        Bad("log:\n", "f:1:5: found nothing, expected a mapping of: level, destination, trace, trace-file"),
        Bad(
            "store: {options: []}",
            "f:1:18: found a list, expected a mapping of the module's options, or {}"),
        Bad(
            "store: {options: {a: [], b: }}",
            "f:1:22: found a list, expected a single value of \"a\", without NUL",
            "f:1:29: found nothing, expected a single value of \"b\", without NUL"),
        Bad(
            "store: {options: {a: \"x\\0\", \"b\\0\": 1}}",
            "f:1:22: found \"x\\u{0}\" in quotes, expected a single value of \"a\", without NUL",
            "f:1:29: found the key \"b\\u{0}\", expected one without NUL"),
        Bad(
            "quotas: {permissions: 1, node-permissions: 1}",
            "f:1:26: found \"node-permissions\" beside \"permissions\", expected one of them: "
                + "they name the same"
        ),
    ]

    static let values: [Bad] = [
        Bad("hypervisor: kvm", "f:1:13: found \"kvm\", expected auto, xen, simulated or none"),
        Bad(
            "xen: {port: 0}",
            "f:1:13: found \"0\", "
                + "expected a port from 1 to 131071 or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "xen: {port: '7'}",
            "f:1:13: found \"7\" in quotes, "
                + "expected a port from 1 to 131071 or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "xen: {port: 131072}",
            "f:1:13: found \"131072\", "
                + "expected a port from 1 to 131071 or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "xen: {port: []}",
            "f:1:13: found a list, "
                + "expected a port from 1 to 131071 or the absolute path of a file (at most 4095 bytes)"),
        Bad("hypervisor: [xen]", "f:1:13: found a list, expected auto, xen, simulated or none"),
        Bad("hypervisor:", "f:1:12: found nothing, expected auto, xen, simulated or none"),
        Bad(
            "store: {backend: TDB}",
            "f:1:18: found \"TDB\", expected a module's name (lower-case letters, digits and -) "
                + "or the absolute path of a shared object"),
        Bad(
            "store: {on-full: stop}",
            "f:1:18: found \"stop\", expected refuse or continue-in-memory"),
        Bad(
            "store: {keep: [/a, a/b, /a, /, /a//b, '/a b']}",
            "f:1:20: found \"a/b\", expected a node's absolute path, such as /local/pool",
            "f:1:25: found \"/a\" again, expected it once",
            "f:1:29: found \"/\", expected a node's absolute path, such as /local/pool",
            "f:1:32: found \"/a//b\", expected a node's absolute path, such as /local/pool",
            "f:1:39: found \"/a b\" in quotes, expected a node's absolute path, such as /local/pool"),
        Bad(
            "store: {sessions: none}",
            "f:1:19: found \"none\", expected the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "modules: {directory: lib}",
            "f:1:22: found \"lib\", expected none or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "quotas: {nodes: 010}",
            "f:1:17: found \"010\", expected a whole number from 0 to 4294967295"),
        Bad(
            "quotas: {nodes: 4294967296}",
            "f:1:17: found \"4294967296\", expected a whole number from 0 to 4294967295"),
        Bad("quotas: {nodes: -1}", "f:1:17: found \"-1\", expected a whole number from 0 to 4294967295"),
        Bad("quotas: {nodes: 1e3}", "f:1:17: found \"1e3\", expected a whole number from 0 to 4294967295"),
        Bad(
            "quotas: {nodes: '12'}",
            "f:1:17: found \"12\" in quotes, expected a whole number from 0 to 4294967295"),
        Bad(
            "quotas: {nodes: 1KiB}",
            "f:1:17: found \"1KiB\", expected a whole number from 0 to 4294967295"),
        Bad(
            "quotas: {memory: 64MB}",
            "f:1:18: found \"64MB\", expected a number of bytes from 0 to 4294967295, \(bytes)"),
        Bad(
            "quotas: {memory: 4GiB}",
            "f:1:18: found \"4GiB\", expected a number of bytes from 0 to 4294967295, \(bytes)"),
        Bad(
            "quotas: {memory: KiB}",
            "f:1:18: found \"KiB\", expected a number of bytes from 0 to 4294967295, \(bytes)"),
        Bad(
            "transactions: {snapshot-memory: 65535}",
            "f:1:33: found \"65535\", expected a number of bytes from 65536 to 1099511627776, \(bytes)"),
        Bad(
            "transactions: {snapshot-memory: 9999999999999GiB}",
            "f:1:33: found \"9999999999999GiB\", expected a number of bytes from 65536 to 1099511627776, "
                + bytes),
        Bad("log: {level: loud}", "f:1:14: found \"loud\", expected error, warning, notice, info or debug"),
        Bad(
            "log: {destination: stdout}",
            "f:1:20: found \"stdout\", expected auto, stderr, syslog, journal or "
                + "the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "log: {trace: io}",
            "f:1:14: found \"io\", expected a list of switches (io, obj, wrl, acc), or []"),
        Bad(
            "log: {trace: [io, tdb, io]}", "f:1:19: found \"tdb\", expected io, obj, wrl or acc",
            "f:1:24: found \"io\" again, expected it once"),
        Bad(
            "log: {trace-file: t}",
            "f:1:19: found \"t\", expected none or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "pid-file: /run/",
            "f:1:11: found \"/run/\", expected none or the absolute path of a file (at most 4095 bytes)"),
        Bad(
            "pid-file: \"/a\\0b\"",
            "f:1:11: found \"/a\\u{0}b\" in quotes, expected none or the absolute path "
                + "of a file (at most 4095 bytes)"),
        Bad("domain: 32752", "f:1:9: found \"32752\", expected a domain id from 0 to 32751"),
        Bad("privileged-domain: dom0", "f:1:20: found \"dom0\", expected a domain id from 0 to 32751"),
    ]

    static let sockets: [Bad] = [
        Bad("sockets: []", "f:1:10: found a list of 0, expected a list of 1 to 16 mappings"),
        Bad("sockets: {path: /a}", "f:1:10: found a mapping, expected a list of 1 to 16 mappings"),
        Bad("sockets: [/a]", "f:1:11: found \"/a\", expected a mapping of: \(socketKeys)"),
        Bad("sockets: [{read-only: true}]", "f:1:11: found a mapping without \"path\", expected one with it"),
        Bad(
            "sockets: [{path: a}]",
            "f:1:18: found \"a\", expected the absolute path of a file (at most 107 bytes)"),
        Bad(
            "sockets: [{path: /\(String(repeating: "é", count: 54))}]",
            "f:1:18: found \"/\(String(repeating: "é", count: 54))\", expected the absolute path of a file "
                + "(at most 107 bytes)"),
        Bad(
            "sockets: [{path: /a}, {path: /a}]",
            "f:1:23: found the socket \"/a\" again, expected another path"),
        Bad("sockets: [{path: /a, read-only: yes}]", "f:1:33: found \"yes\", expected true or false"),
        Bad(
            "sockets: [{path: /a, read-only: 'true'}]",
            "f:1:33: found \"true\" in quotes, expected true or false"),
        Bad(
            "sockets: [{path: /a, mode: 0600}]",
            "f:1:28: found \"0600\" without quotes, expected an octal "
                + "file mode in quotes, such as \"0600\""),
        Bad(
            "sockets: [{path: /a, mode: '0800'}]",
            "f:1:28: found \"0800\" in quotes, expected an octal file "
                + "mode in quotes, such as \"0600\""),
        Bad(
            "sockets: [{path: /a, mode: '4600'}]",
            "f:1:28: found \"4600\" in quotes, expected an octal file "
                + "mode in quotes, such as \"0600\""),
        Bad(
            "sockets: [{path: /a, mode: '0660'}]",
            "f:1:28: found the mode \"0660\", expected nothing for group "
                + "and others, such as \"0600\", while there are no policies: what others may do is for "
                + "policies to say"),
        Bad(
            "policies: []\nsockets:\n- path: /a\n- path: /b\n  mode: '0606'",
            "f:5:9: found the mode \"0606\", expected nothing for group and others, such as \"0600\", while "
                + "there are no policies: what others may do is for policies to say"),
        Bad(
            "sockets: [{path: /a, owner: bob}]",
            "f:1:29: found \"bob\", expected none, the name of a user of "
                + "this machine or its uid"),
        Bad(
            "sockets: [{path: /a, group: 4294967295}]",
            "f:1:29: found \"4294967295\", expected none, the name "
                + "of a group of this machine or its gid"),
    ]

    @Test(arguments: structure + keys + values + sockets)
    func aBadFileIsToldByLineAndColumn(_ bad: Bad) {
        #expect(mistakes(bad.text) == bad.lines)
    }

    @Test func allMistakesAreToldInTheFilesOrder() {
        let text = "hypervisor: a\nlog:\n  level: b\n  levle: c\nlog: {}\npid-file: &x d\n"
        #expect(
            mistakes(text).map { String($0.prefix(6)) } == [
                "f:1:13", "f:3:10", "f:4:3:", "f:5:1:", "f:6:11", "f:6:11",
            ])
    }

    @Test func bytesThatAreNotUTF8AreFoundByLineAndColumn() {
        let expected = "expected UTF-8 without control characters"
        #expect(
            mistakes(Array("log:\n  é: ".utf8) + [0xFF]) == [
                "f:2:6: found bytes that are not text (invalid leading UTF-8 octet), \(expected)"
            ])
        #expect(
            mistakes(Array("log: ".utf8) + [0xC3]) == [
                "f:1:6: found bytes that are not text (incomplete UTF-8 octet sequence), \(expected)"
            ])
        // UTF-16 with its byte order mark: no guessing.
        #expect(
            mistakes([0xFF, 0xFE, 0x61, 0x00]) == [
                "f:1:1: found bytes that are not text (invalid leading UTF-8 octet), \(expected)"
            ])
    }

    @Test func hugeFilesAreRefusedAndMistakesAreCounted() {
        #expect(
            mistakes([UInt8](repeating: 0x23, count: Configuration.fileMax + 1)) == [
                "f: found more than 262144 bytes, expected a configuration"
            ])
        let lines = mistakes((0..<1000).map { "k\($0): 1\n" }.joined())
        #expect(lines.count == 51)
        #expect(lines.last == "f: 950 more mistakes")
    }

    @Test func aBillionLaughsAreOneMistakeEach() {
        var text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
        for (name, before) in zip("bcdefghi", "abcdefgh") {
            text += "\(name): &\(name) [\((0..<9).map { _ in "*\(before)" }.joined(separator: ", "))]\n"
        }
        #expect(
            mistakes(text) == [
                "f:1:4: found an anchor (&a), expected a value without one",
                "f:2:4: found an anchor (&b), expected a value without one",
                "f:2:8: found an alias (*a), expected the value itself",
            ])
    }
}
