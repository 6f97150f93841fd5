// Do policies hold whatever happens: when the daemon is killed, and when a module of them is no good?

import Foundation
import Glibc
import Testing
import XenStoreTestKit
import XenStoreTypes

@Suite(.serialized, .timeLimit(.minutes(10))) struct PolicyLifeTests {
    private static let rules = """
        rules:
          - {effect: deny, subjects: guest, operations: [WRITE, CREATE], paths: "/local/domain/*/locked/**"}

        """

    /// The tree and the guest's ring come back, and what stands before them does too.
    @Test func aKillOpensNoGap() async throws {
        let files = ModuleScratch()
        try Self.rules.write(toFile: files / "rules.yaml", atomically: false, encoding: .utf8)
        let daemon = try ModuleDaemon(
            policies: """
                  - module: path-rules
                    options: { file: \(files / "rules.yaml") }
                  - module: rate-limit
                    options: { requests: 50, requests-burst: 5 }
                  - module: audit-trail
                    options: { path: DIR/trail, operations: WRITE }
                """, store: "{ backend: append-log, options: { path: DIR/store.log } }")
        let guest = try await daemon.guest(3, try await daemon.connect())
        #expect(guest.text(.write, "locked/a\0x") == "EACCES|")
        // More than the rate lets through at once: some of them are put off when the daemon dies.
        for number in 0..<12 {
            #expect(guest.send(Message(.write, Array("data/\(number)\0x".utf8)).bytes))
            #expect(guest.send(Message(.write, Array("locked/\(number)\0x".utf8)).bytes))
        }
        try daemon.killAndRestart()
        var replies: [String] = []
        while replies.count < 24, let reply = guest.receive() {
            replies.append(Message.printable(reply.payload))
        }
        #expect(replies == Array(repeatElement(["OK|", "EACCES|"], count: 12).joined()))
        #expect(guest.text(.write, "locked/b\0x") == "EACCES|")
        #expect(guest.text(.directory, "locked\0") == "ENOENT|")
        // Each request was carried out, and written down, once.
        _ = eventually { daemon.scratch.contents("trail").contains("locked/b") }
        let trail = daemon.scratch.contents("trail")
        for number in 0..<12 { #expect(trail.components(separatedBy: "/data/\(number)\"").count <= 2) }
    }

    @Test func aPolicyThatFailsToDecideDeniesAndTheLogSaysIt() async throws {
        let files = ModuleScratch()
        let source = try String(
            contentsOfFile: ModuleScratch.top + "/Plugins/Examples/C/smallest_policy.c", encoding: .utf8)
        let failing = source.replacing("\t\treturn XENSTORE_ABSTAIN;", with: "\t\treturn -1;")
        #expect(failing != source)
        let module = try files.build("failing", failing)
        let daemon = try ModuleDaemon(policies: "  - module: \(module)")
        let toolstack = try await daemon.connect()
        await #expect(throws: (any Error).self) { try await toolstack.write("/a", "b") }
        _ = try await toolstack.read("/tool")
        #expect(daemon.errors.contains("policy smallest-policy-c: it fails to decide (-1); that is denied"))
    }

    /// An old instance may take its time to end; the daemon does not wait for it.
    @Test func aReloadDoesNotWaitForWhatItReplaces() async throws {
        let files = ModuleScratch()
        let source = try String(
            contentsOfFile: ModuleScratch.top + "/Plugins/Examples/C/smallest_policy.c", encoding: .utf8)
        let slow = source.replacing(
            "\t(void)self;\n}\n\nstatic const", with: "\tsleep(3);\n}\n\nstatic const"
        )
        .replacing("#include <stdio.h>", with: "#include <stdio.h>\n#include <unistd.h>")
        #expect(slow != source)
        let daemon = try ModuleDaemon(policies: "  - module: \(try files.build("slow", slow))")
        let toolstack = try await daemon.connect()
        try daemon.configure(" []")
        let start = DispatchTime.now().uptimeNanoseconds
        #expect(daemon.reload())
        try await toolstack.write("/a", "b")
        #expect(DispatchTime.now().uptimeNanoseconds - start < 2_500_000_000)
    }
}
