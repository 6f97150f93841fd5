// What access policies cost: the first target has them, the second is the same daemon without.

import Glibc

extension Scenario {
    static let policedRead = Scenario(
        name: "policed-read", title: "synchronous read, policed", isSpecial: true
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        let reads = try ReadLoad(on: connection)
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let load = try daemon.run(size, on: connection, request: reads.add)
        return figures(of: load, cpu: .ratioAtMost(1.15))
    }

    static let policedWrite = Scenario(
        name: "policed-write", title: "synchronous write, policed", isSpecial: true
    ) { (daemon, scale) throws(Failure) in
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let load = try daemon.run(size, on: try daemon.connect(), request: WriteLoad().add)
        return figures(of: load, cpu: .ratioAtMost(1.15))
    }

    static let policedRingWrite = Scenario(
        name: "policed-ring-write", title: "synchronous write through a ring, policed", isSpecial: true
    ) { (daemon, scale) throws(Failure) in
        let connection = try daemon.connect()
        try daemon.introduce(1, on: connection)
        _ = try ReadLoad(on: connection, for: 1)
        let guest = Connection(try daemon.guest(of: 1))
        let size = LoadSize(requests: scale.requests, seconds: scale.seconds)
        let load = try daemon.run(size, on: guest, request: WriteLoad().add)
        return figures(of: load, cpu: .ratioAtMost(1.15))
    }
}

/// Rules of every kind: most are about other domains and other places than the scenarios', and none of them
/// decides about the scenarios' requests but the last.
enum PolicyRules {
    static let count = 1000

    static var text: String {
        var text = "# \(count) rules, by xenstore-bench --write-rules\nrules:\n"
        for number in 0..<count - 1 {
            text += "  - {effect: deny, subjects: \(subject(number)), operations: \(operations(number)), "
            text += "paths: \"\(path(number))\"}\n"
        }
        return text + "  - {effect: abstain, subjects: any, operations: all, paths: \(Daemon.root)/**}\n"
    }

    private static func subject(_ number: Int) -> String {
        switch number % 4 {
        case 0: "[guest, user]"
        case 1: "\(1000 + number)"
        case 2: "\(1000 + number)-\(1010 + number)"
        default: "uid \(5000 + number)"
        }
    }

    private static func operations(_ number: Int) -> String {
        ["read", "change", "[read, WRITE]", "all"][number / 4 % 4]
    }

    private static func path(_ number: Int) -> String {
        switch number / 16 % 5 {
        case 0: "/local/domain/\(number)/**"
        case 1: "\(Daemon.root)/domain/*/device/other-\(number)/**"
        case 2: "/**/secret-\(number)"
        case 3: "/local/domain/{domid}/data/\(number)"
        default: number % 4 == 0 ? "/vm/\(number)/*" : "\(Daemon.root)/**"
        }
    }

    static func write(to path: String) throws(Failure) {
        let bytes = Array(text.utf8)
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw .call("open \(path)") }
        defer { close(file) }
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else { throw .call("write \(path)") }
    }
}
