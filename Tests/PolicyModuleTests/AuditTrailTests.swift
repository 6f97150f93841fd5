// Does the audit trail tell what happened, all of it or how much it does not, in files of their size?

import AuditTrail
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

/// The lines of a file, each as JSON.
private func lines(_ path: String) -> [[String: Any]] {
    let text = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").map { line in
        let value = try? JSONSerialization.jsonObject(with: Data(line.utf8))
        return value as? [String: Any] ?? ["broken": String(line)]
    }
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

@Suite(.timeLimit(.minutes(10))) struct AuditTrailTests {
    let scratch = ModuleScratch()
    private var path: String { scratch / "audit" }

    private func tester(_ options: (String, String)...) throws -> PolicyTester {
        try PolicyTester(auditTrail, [("path", path)] + options)
    }

    @Test func aLineSaysWhoDidWhatAndHowItWent() throws {
        let audit = try tester(("values", "4"), ("operations", "all"))
        var write = Asked(.write, "/local/domain/7/data/x")
        write.value = Array("ab\"\n!".utf8)
        write.isInTransaction = true
        audit.observe(write)
        var permissions = Asked(.setPermissions, "/a", domain: 0)
        permissions.peer = (1000, 50, 321)
        permissions.after = [Permission(.none, DomainID(7)), Permission(.both, DomainID(0))]
        audit.observe(permissions, error: EACCES, verdict: 2, policy: "path-rules")
        var introduce = Asked(.introduce, domain: 0)
        introduce.object = 9
        introduce.arguments = ["9", "1", "a\u{1}\u{7F}é"]
        audit.observe(introduce, error: 99)
        audit.close()
        let found = scratch.contents("audit").split(separator: "\n").map { line in
            line.replacing(#/^\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",/#, with: "{")
        }
        try #require(found.count == 3)
        let write7 = #"{"domain":7,"connection":3,"operation":"WRITE","transaction":true,"#
        #expect(
            found[0] == write7
                + #""path":"/local/domain/7/data/x","value":"ab\"\u000a","value-bytes":5,"result":"ok"}"#)
        let set = #"{"domain":0,"uid":1000,"gid":50,"pid":321,"connection":3,"operation":"SET_PERMS","#
        #expect(
            found[1] == set + #""path":"/a","permissions":["n7","b0"],"result":"EACCES","#
                + #""verdict":"deny","policy":"path-rules"}"#)
        let introduced = #"{"domain":0,"connection":3,"operation":"INTRODUCE","object":9,"#
        #expect(found[2] == introduced + #""arguments":["9","1","a\u0001\u007fé"],"result":99}"#)
        #expect(lines(path).allSatisfy { $0["broken"] == nil })
    }

    @Test func theTimeIsNow() throws {
        let audit = try tester()
        let before = Date()
        audit.observe(Asked(.write, "/a"))
        audit.close()
        let formatter = ISO8601DateFormatter()
        formatter.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
        let time = try #require(lines(path).first?["time"] as? String)
        let told = try #require(formatter.date(from: time))
        #expect(abs(told.timeIntervalSince(before)) < 5)
    }

    @Test(arguments: [
        [0xFF], [0xC0, 0x80], [0xC3], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
        [0x61, 0x80],
        [0xF0, 0x8F, 0xBF, 0xBF], [0xE0, 0x9F, 0xBF],
    ])
    func valuesThatAreNoTextAreHexadecimal(value: [UInt8]) throws {
        #expect(String(validating: value, as: UTF8.self) == nil)
        let audit = try tester(("values", "4096"))
        var write = Asked(.write, "/a")
        write.value = value
        audit.observe(write)
        audit.close()
        let hex = hexadecimal(value)
        #expect(lines(path).first?["value"] as? [String: String] == ["hex": hex])
    }

    /// Every value of two bytes, and the longest there can be.
    @Test func everyLineIsJSONAndKeepsTheValue() throws {
        let audit = try tester(("values", "4096"), ("queue", "16MiB"))
        var values: [[UInt8]] = [[]]
        for number in stride(from: 0, to: 65536, by: 7) {
            values.append([UInt8(number >> 8), UInt8(number & 255)])
        }
        for byte: UInt8 in [1, 0xFF] { values.append([UInt8](repeating: byte, count: 4096)) }
        for value in values {
            var write = Asked(.write, "/a")
            write.value = value
            audit.observe(write)
        }
        audit.close()
        let found = lines(path)
        try #require(found.count == values.count)
        for (line, value) in zip(found, values) {
            if let text = line["value"] as? String {
                #expect(Array(text.utf8) == value)
            } else {
                let hex = (line["value"] as? [String: String])?["hex"]
                #expect(hex == hexadecimal(value))
            }
        }
    }

    @Test func onlyWhatTheFiltersAdmitIsWritten() throws {
        let audit = try tester(
            ("operations", "change, INTRODUCE"), ("subjects", "guest 3-4"),
            ("paths", "/local/domain/*/data, @releaseDomain"), ("results", "refused"))
        let wanted = audit.interest
        #expect(wanted.decides == 0 && wanted.values == 0)
        #expect(
            wanted.observes
                == PolicyOperations(.write, .makeDirectory, .remove, .setPermissions, .introduce).rawValue)
        func tell(_ path: String, domain: UInt16 = 7, error: Int32 = EACCES, dry: Bool = false) {
            var asked = Asked(.write, path, domain: domain)
            asked.isDryRun = dry
            audit.observe(asked, error: error)
        }
        tell("/local/domain/7/data")  // written
        tell("/local/domain/9/data/x/y")  // written
        tell("/local/domain/7/database")
        tell("/local/domain/7")
        tell("/local/domain/7/data", error: 0)
        tell("/local/domain/7/data", dry: true)
        tell("/local/domain/7/data", domain: 0)
        tell("@releaseDomain")  // written
        tell("/@releaseDomain")
        audit.observe(Asked(.read, "/local/domain/7/data"), error: EACCES)
        var user = Asked(.write, "/local/domain/7/data", domain: 0x7FF4)
        user.peer = (1000, 50, 321)
        audit.observe(user, error: EACCES)
        user.domain = 4
        audit.observe(user, error: EACCES)  // written
        audit.observe(Asked(.introduce, domain: 7), error: EACCES)  // written: it is about no node
        audit.close()
        let found = lines(path).map { $0["path"] as? String ?? "" }
        #expect(
            found == [
                "/local/domain/7/data", "/local/domain/9/data/x/y", "@releaseDomain", "/local/domain/7/data",
                "",
            ])
    }

    private static let operationsExpected = """
        f.yaml:5:11: found "read wirte", expected a list of: all, read, change, watch, session, \
        manage, CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, \
        TRANSACTION_END, INTRODUCE, RELEASE, GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, \
        IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET, RESTRICT, RESET_WATCHES, DIRECTORY_PART, GET_FEATURE, \
        SET_FEATURE, GET_QUOTA, SET_QUOTA
        """
    private static let mistakes: [([(String, String)], String)] = [
        ([("path", "audit")], "f.yaml:4:11: found \"audit\", expected an absolute path"),
        ([], "the option path is missing"),
        (
            [("path", "/"), ("operations", "read wirte")],
            operationsExpected
        ),
        ([("path", "/"), ("operations", " ")], "f.yaml:5:11: found \" \", expected at least one operation"),
        (
            [("path", "/"), ("subjects", "5-3")],
            "f.yaml:5:11: found \"5-3\", expected a list of: any, none, dom0, guest, user, "
                + "domain ids, ranges of them (5-9)"
        ),
        (
            [("path", "/"), ("paths", "local")],
            "f.yaml:5:11: found \"local\", expected a list of absolute paths, in which * is any one name"
        ),
        ([("path", "/"), ("results", "bad")], "f.yaml:5:11: found \"bad\", expected all, ok or refused"),
        ([("path", "/"), ("values", "x")], "f.yaml:5:11: found \"x\", expected a number from 0 to 4096"),
        (
            [("path", "/"), ("size", "3MB")],
            "f.yaml:5:11: found \"3MB\", expected a number of bytes from 65536 to 1099511627776, as 4096, "
                + "64KiB, 16MiB or 1GiB"
        ),
        ([("path", "/proc")], "f.yaml:4:11: /proc cannot be opened: Is a directory"),
        ([("path", "/dev/null")], "f.yaml:4:11: /dev/null cannot be used: it is no regular file"),
    ]

    @Test(arguments: mistakes)
    func mistakesAreTold(options: [(String, String)], reason: String) {
        #expect(reasonOfFailure(auditTrail, options) == reason)
    }

    @Test func aSymbolicLinkIsRefused() throws {
        symlink("/etc/passwd", path)
        #expect(
            reasonOfFailure(auditTrail, [("path", path)])
                == "f.yaml:4:11: \(path) cannot be opened: Too many levels of symbolic links")
    }

    // MARK: Files

    @Test func filesAreSetAsideWhenTheyHaveGrown() throws {
        let audit = try tester(("size", "64KiB"), ("keep", "2"), ("queue", "16MiB"))
        for number in 0..<5000 { audit.observe(Asked(.write, "/a/\(number)")) }
        audit.close()
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted()
        #expect(names == ["audit", "audit.1", "audit.2"])
        var next = 5000
        for name in names {
            let found = lines(scratch / name)
            #expect(scratch.contents(name).utf8.count <= 65536 && !found.isEmpty)
            // From the newest backwards, without a gap, and each file as full as it can be.
            next -= found.count
            #expect(found.map { $0["path"] as? String } == (next..<next + found.count).map { "/a/\($0)" })
            #expect(name == "audit" || scratch.contents(name).utf8.count > 65536 - 200)
        }
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    @Test func aLineThatWasCutShortIsEnded() throws {
        try #"{"time":"20"#.write(toFile: path, atomically: false, encoding: .utf8)
        let audit = try tester()
        audit.observe(Asked(.write, "/a"))
        audit.close()
        let found = lines(path)
        #expect(found.count == 2 && found[0]["broken"] != nil && found[1]["path"] as? String == "/a")
    }

    @Test func aNewerInstanceGoesOnBehindTheOlder() throws {
        let first = try tester(("queue", "16MiB"))
        for number in 0..<10_000 { first.observe(Asked(.write, "/first/\(number)")) }
        rename(path, scratch / "moved")
        let second = try tester()
        second.inherit(from: first)
        first.close()
        for number in 0..<100 { second.observe(Asked(.write, "/second/\(number)")) }
        let third = try tester()
        third.inherit(from: second)
        second.close()
        third.observe(Asked(.write, "/third"))
        third.close()
        #expect(lines(scratch / "moved").count == 10_000)
        let found = lines(path).map { $0["path"] as? String ?? "" }
        #expect(found == (0..<100).map { "/second/\($0)" } + ["/third"])
    }

    // MARK: What is missing

    @Test func whatFindsNoRoomIsCountedWhereItIsMissing() throws {
        let audit = try tester(("queue", "64KiB"))
        for number in 0..<100_000 { audit.observe(Asked(.write, "/a/\(number)")) }
        audit.close()
        try expectEveryLine(of: 100_000, reason: "the queue was full")
        #expect(audit.logged.all.count >= 1)
        let told = audit.logged.all.compactMap { $0.firstMatch(of: #/^1 (\d+) lines are missing in /#)?.1 }
        let missing = lines(path).compactMap {
            $0["operation"] as? String == "missing" ? $0["lines"] as? Int : nil
        }
        #expect(told.compactMap { Int($0) }.reduce(0, +) == missing.reduce(0, +))
    }

    /// Every number up to `count` is there, or among those that a line says are missing at its place.
    private func expectEveryLine(of count: Int, reason: String) throws {
        var next = 0
        var gaps = 0
        for line in lines(path) {
            if line["operation"] as? String == "missing" {
                next += try #require(line["lines"] as? Int)
                #expect(line["reason"] as? String == reason)
                gaps += 1
            } else {
                #expect(line["path"] as? String == "/a/\(next)")
                next += 1
            }
        }
        #expect(next == count && gaps > 0)
    }

    /// A file that may not grow beyond a limit stands for a full disk.
    @Test func aFullDiskIsSurvivedAndTold() async {
        await #expect(processExitsWith: .success) {
            let scratch = ModuleScratch()
            defer { try? FileManager.default.removeItem(atPath: scratch.path) }
            let path = scratch / "audit"
            signal(SIGXFSZ, SIG_IGN)
            setrlimit(
                __rlimit_resource_t(RLIMIT_FSIZE.rawValue), [rlimit(rlim_cur: 100_000, rlim_max: .max)])
            let audit = try PolicyTester(auditTrail, [("path", path), ("queue", "1MiB")])
            for number in 0..<2000 { audit.observe(Asked(.write, "/a/\(number)")) }
            #expect(eventually { audit.logged.all.contains { $0.contains("lines are missing") } })
            #expect(lines(path).allSatisfy { $0["broken"] == nil } && lines(path).count < 1000)
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), [rlimit(rlim_cur: .max, rlim_max: .max)])
            for number in 2000..<2010 { audit.observe(Asked(.write, "/a/\(number)")) }
            audit.close()
            try AuditTrailTests.expectWhole(path, count: 2010)
            #expect(audit.logged.all.contains { $0.hasSuffix("cannot be written: File too large") })
        }
    }

    private static func expectWhole(_ path: String, count: Int) throws {
        var next = 0
        for line in lines(path) {
            if line["operation"] as? String == "missing" {
                next += try #require(line["lines"] as? Int)
            } else {
                #expect(line["path"] as? String == "/a/\(next)")
                next += 1
            }
        }
        #expect(next == count)
    }

    // MARK: In the daemon

    @Test func theDaemonIsWatched() async throws {
        let daemon = try ModuleDaemon(
            policies: """
                  - module: audit-trail
                    options:
                      path: DIR/audit
                      values: 16
                """)
        let toolstack = try await daemon.connect()
        try await toolstack.write("/a/b", "hello")
        let guest = try await daemon.guest(5, toolstack)
        #expect(guest.text(.write, "x\0y") == "OK|")
        #expect(guest.text(.write, "/a/b\0y") == "EACCES|")
        #expect(guest.text(.read, "x\0") == "y")
        let file = daemon.scratch / "audit"
        #expect(eventually { lines(file).count >= 6 })
        try expectTheStory(lines(file))
        // A rotation by somebody else: renamed, and a new file at SIGHUP.
        rename(file, daemon.scratch / "old")
        #expect(daemon.reload())
        try await toolstack.remove("/a")
        #expect(eventually { lines(file).count == 1 })
        #expect(lines(file).first?["operation"] as? String == "RM")
        #expect(lines(daemon.scratch / "old").count == 6)
    }

    private func expectTheStory(_ found: [[String: Any]]) throws {
        let story = found.map { line in
            ["operation", "path", "value", "result"].map { line[$0] as? String ?? "" }.joined(separator: " ")
        }
        #expect(
            story == [
                "WRITE /a/b hello ok", "INTRODUCE   ok", "MKDIR /local/domain/5  ok",
                "SET_PERMS /local/domain/5  ok", "WRITE /local/domain/5/x y ok", "WRITE /a/b y EACCES",
            ])
        #expect(found.map { $0["domain"] as? Int } == [0, 0, 0, 0, 5, 5])
        #expect(found.map { $0["uid"] as? Int } == Array(repeating: Int(getuid()), count: 4) + [nil, nil])
        #expect(found[3]["permissions"] as? [String] == ["n5"])
        #expect(found[1]["object"] as? Int == 5)
    }
}
