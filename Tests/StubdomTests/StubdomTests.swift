// Does the stub domain's kernel serve? It is booted by qemu alone, and talked to over simulated rings.
// `make test-stubdom` builds it and says where it is; without it nothing of this is run.

import Foundation
import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite(.enabled(if: StubMachine.kernel != nil), .serialized)
struct StubdomTests {
    /// All transcripts that need no more than one connection a domain.
    @Test func transcripts() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Transcripts/files")
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        var played = 0
        for file in files.sorted(by: { $0.path < $1.path }) where file.pathExtension == "txt" {
            let transcript = try Transcript(
                name: file.lastPathComponent, text: String(contentsOf: file, encoding: .utf8))
            if transcript.skipped.contains("rings") || !StubPeer.canPlay(transcript) { continue }
            played += 1
            let peer = try StubPeer(for: transcript)
            let player = TranscriptPlayer(transcript, peer)
            player.play()
            for failure in player.failures { Issue.record("\(failure)\n\(peer.machine.console)") }
            #expect(peer.machine.ask(0, .control, ["check"]) == "OK\0", "\(transcript.name)")
        }
        #expect(played > 10)
    }

    /// A mistake is a line on the console and an end, never silence.
    @Test(arguments: [
        ("simulated --even 3", "the command line: found --even, expected --event N or --master-domid N"),
        ("simulated --event", "--event: found the end of the command line, expected a number from 1 on"),
        ("simulated --event 99999999999", "--event: found 99999999999, expected a number from 1 on"),
        ("simulated --event 0", "--event: found 0, expected a number from 1 on"),
        ("simulated --master-domid x", "--master-domid: found x, expected a decimal number"),
        ("--event 1", "there is no Xen here"),
        ("--master-domid 0", "the command line: expected --event N, the port of domain 0, found none"),
        ("simulated simulated-memory 99", "the machine has less memory than simulated-memory: "),
    ])
    func mistakes(line: String, reason: String) throws {
        let machine = try StubMachine(commandLine: line, ready: false)
        #expect(machine.status() == 7)
        #expect(machine.console.contains("xenstored: stopped: \(reason)"), "\(machine.console)")
    }

    /// The ramdisk is the configuration.
    @Test func theConfigurationHolds() throws {
        var configuration = KernelConfiguration()
        configuration.quotas[.nodes] = 3
        configuration.logLevel = .debug
        let machine = try StubMachine(ramdisk: configuration.compiled)
        #expect(machine.ask(0, .getQuota, ["nodes"]) == "3\0")
        #expect(machine.ask(0, .getQuota, ["watches"]) == "128\0")
    }

    @Test func aWrongConfigurationIsRefused() throws {
        var bytes = KernelConfiguration().compiled
        bytes[bytes.count - 1] ^= 1
        for (ramdisk, reason) in [
            (bytes, "the ramdisk is a configuration that is damaged"),
            (Array("quotas:\n  nodes: 5\n".utf8), "the ramdisk is no configuration that --compile-config"),
        ] {
            let machine = try StubMachine(ramdisk: ramdisk, ready: false)
            #expect(machine.status() == 7)
            #expect(machine.console.contains("stopped: \(reason)"), "\(machine.console)")
        }
    }

    /// An interrupt that comes between the last look at the events and the halt ends the wait, also where the
    /// processor lets it in.
    @Test func anInterruptJustBeforeTheWaitEndsIt() throws {
        let machine = try StubMachine()
        machine.send(.mistake, 0, [5])
        #expect(machine.ask(0, .write, ["/a", "1"]) == "OK\0")
    }

    /// What goes wrong while it runs is told in words, and ends it.
    @Test(
        arguments: [
            (0, ["stopped: exception 14 at 0x", "address 0x8", "a null pointer was used"]),
            (1, ["stopped: exception 14 at 0x", "the stack is used up"]),
            (2, ["stopped: exception 8 at 0x", "an exception that the processor could not take"]),
            (3, ["stopped: no memory is left for a piece of bytes: 1048576"]),
            (4, ["stopped: exception 6 at 0x", "a check of the code's own has failed"]),
        ] as [(UInt8, [String])])
    func aMistakeIsNamed(kind: UInt8, words: [String]) throws {
        let machine = try StubMachine()
        machine.send(.mistake, 0, [kind])
        #expect(machine.status() == 7)
        for word in words { #expect(machine.console.contains(word), "\(machine.console)") }
    }

    /// Whatever hypercall fails at the start, its reason comes last (Tests/KernelTests has all of them).
    @Test func aPortThatCannotBeBoundEndsIt() throws {
        let machine = try StubMachine(commandLine: "simulated --event 5", ready: false)
        #expect(machine.status() == 7)
        let lines = machine.console.split(separator: "\n").suffix(2)
        let reasons = [
            "xenstored: error: cannot introduce domain 0: cannot bind event channel port 5: error -22",
            "xenstored: stopped: the ring of the control domain cannot be had, domain 0",
        ]
        #expect(lines.map(String.init) == reasons, "\(machine.console)")
    }

    @Test func itPowersOff() throws {
        let machine = try StubMachine()
        machine.send(.powerOff)
        #expect(machine.status() == 1)
    }
}
