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

    @Test func anExceptionIsNamed() throws {
        let machine = try StubMachine()
        machine.send(.mistake)
        #expect(machine.status() == 7)
        #expect(machine.console.contains("stopped: exception 14 at 0x"), "\(machine.console)")
        #expect(machine.console.contains("address 0x8"), "\(machine.console)")
    }

    @Test func itPowersOff() throws {
        let machine = try StubMachine()
        machine.send(.powerOff)
        #expect(machine.status() == 1)
    }
}
