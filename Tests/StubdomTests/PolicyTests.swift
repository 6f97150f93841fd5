// Do policies decide in the kernel as they do in the daemon, and does it say what it should of them?

import Foundation
import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite(.enabled(if: StubMachine.kernel != nil), .serialized)
struct PolicyTests {
    static let hardened = [
        "- module: path-rules", "  options:", "    file: \"@RULES@/hardened-guests.yaml\"",
    ]
    static let labels = ["- module: type-labels", "  options:", "    file: \"@RULES@/type-labels.yaml\""]

    /// The same transcript on a server in this process and on the kernel.
    @Test(arguments: [("hardened-guests", hardened), ("type-labels", labels)])
    func theTranscriptHolds(name: String, policies: [String]) throws {
        let policies = try StubPolicies(policies)
        let file = StubPolicies.folder.appendingPathComponent("policies/\(name).txt")
        let transcript = try Transcript(
            name: name, text: String(contentsOf: file, encoding: .utf8))
        let daemon = ServerPeer(for: transcript)
        daemon.server.setPolicies(policies.hosted)
        let kernel = try StubPeer(for: transcript, ramdisk: policies.kernel.compiled)
        for peer in [daemon, kernel] as [any TranscriptPeer] {
            let player = TranscriptPlayer(transcript, peer)
            player.play()
            for failure in player.failures { Issue.record("\(peer.name ?? "in process"): \(failure)") }
        }
        #expect(kernel.machine.ask(0, .control, ["check"]) == "OK\0")
    }

    /// Random requests of three guests and dom0, and what CONTROL `explain` says of each: the kernel answers
    /// as a server in this process does, to the letter.
    @Test(arguments: [(1, hardened), (2, labels), (3, hardened + labels)] as [(UInt64, [String])])
    func theAnswersAreTheSame(seed: UInt64, policies: [String]) throws {
        var random = SplitMix64(seed: seed)
        let policies = try StubPolicies(policies)
        let transcript = try Transcript(name: "random", text: "needs: guests\ndomains: 0 1 2 3\n")
        let daemon = ServerPeer(for: transcript)
        daemon.server.setPolicies(policies.hosted)
        let machine = try StubMachine(ramdisk: policies.kernel.compiled)
        let clients = (0...3).map { Client(daemon.server, .domain(DomainID(UInt16($0))), isSocket: false) }
        for domain in UInt16(1)...3 { #expect(machine.makeGuest(domain)) }
        var (refused, places) = (0, 0)
        for number in 0..<200 {
            let request = RandomRequest(&random)
            let here = clients[Int(request.domain)].answer(request.message)
            let there = machine.ask(request.domain, request.message)
            #expect(here == there, "seed \(seed), request \(number): \(request)")
            if here == "EACCES" { refused += 1 }
            let words = ["explain", "\(request.domain)", request.verb, request.path]
            let why = Message(.control, [UInt8](strings: words))
            let explained = clients[0].answer(why)
            #expect(explained == machine.ask(0, why), "seed \(seed), request \(number): \(request)")
            if explained?.contains(".yaml:") == true { places += 1 }
        }
        #expect(refused > 25 && refused < 190 && places > 100)
    }

    /// A guest that asks too much waits; another does not, and in the end the first has all its answers.
    @Test func aFloodWaits() throws {
        let policies = try StubPolicies([
            "- module: rate-limit", "  options:", "    requests: 20", "    requests-burst: 5",
        ])
        let machine = try StubMachine(ramdisk: policies.kernel.compiled)
        for domain in UInt16(1)...2 { #expect(machine.makeGuest(domain)) }
        let started = Date()
        let request = Message(.getDomainPath, [UInt8](strings: ["1"])).bytes
        for _ in 0..<25 { machine.send(.bytes, 1, request) }
        machine.settle()
        #expect(machine.ask(2, .getDomainPath, ["2"]) == "/local/domain/2\0")
        #expect(machine.ask(0, .getDomainPath, ["0"]) == "/local/domain/0\0")
        #expect(machine.waiting(1) >= 5 && machine.waiting(1) < 20)
        let why = try #require(machine.ask(0, .control, ["explain", "1", "read", "/"]))
        #expect(why.contains("puts it off") && why.contains("no more than 20 requests a second"), "\(why)")
        for _ in 0..<25 {
            while machine.receive(1) == nil {
                if Date().timeIntervalSince(started) > 15 { throw StubFailure("the flood is not answered") }
                usleep(10_000)
            }
        }
        // 20 more than the burst, 20 a second; a tick of the processor's clock counts as a nanosecond.
        #expect(Date().timeIntervalSince(started) > 0.15)
    }

    /// What permissive rules would do is on the console, and is not done.
    @Test func whatPermissiveRulesWouldDoIsToldOnTheConsole() throws {
        var options = Self.hardened
        options.append("    mode: permissive")
        let policies = try StubPolicies(options)
        let machine = try StubMachine(ramdisk: policies.kernel.compiled)
        #expect(machine.makeGuest(1))
        #expect(machine.ask(0, .write, ["/open", "x"]) == "OK\0")
        #expect(machine.ask(0, .setPermissions, ["/open", "b0"]) == "OK\0")
        #expect(machine.ask(1, .read, ["/open"]) == "x\0")
        let rule = "rule nothing-else (\(StubPolicies.kept)/hardened-guests.yaml:"
        #expect(machine.console.contains("notice: path-rules: \(rule)"), "\(machine.console)")
        #expect(machine.console.contains("would deny with EACCES: domain 1 READ /open"))
        #expect(machine.console.contains("warning: path-rules: the rules are not enforced (mode permissive)"))
    }

    /// What the kernel cannot use it refuses, and says what.
    @Test func aPolicyThatTheKernelDoesNotHaveIsRefused() throws {
        var unknown = KernelConfiguration()
        unknown.policies = [.init(module: Array("audit-trail".utf8), form: [1, 2, 3])]
        var damaged = try StubPolicies(Self.hardened).kernel
        damaged.policies[0].form.removeLast()
        var nameless = KernelConfiguration()
        nameless.policies = [.init(module: [], form: [])]
        var sections = Array(KernelConfiguration().compiled[24...])
        sections += [9, 0, 0, 0, 0, 0, 0, 0]
        for (ramdisk, reason) in [
            (unknown.compiled, "the ramdisk has a policy that this kernel does not: audit-trail"),
            (
                damaged.compiled,
                "the ramdisk has a policy that cannot be used: path-rules: its compiled form, before byte "
            ),
            (nameless.compiled, "the ramdisk has a policy without a name, number 0"),
            (
                KernelConfiguration.blob(sections),
                "the ramdisk has a part that this kernel does not know, or none: 9"
            ),
        ] {
            let machine = try StubMachine(ramdisk: ramdisk, ready: false)
            #expect(machine.status() == 7)
            #expect(machine.console.contains("stopped: \(reason)"), "\(machine.console)")
        }
    }
}

/// A request about one of a few nodes.
private struct RandomRequest: CustomStringConvertible {
    var domain: UInt16
    var path: String
    /// As `explain` calls it.
    var verb: String
    var message: Message

    var description: String { "domain \(domain) \(verb) \(path)" }

    init(_ random: inout SplitMix64) {
        domain = UInt16(random.below(4))
        let home = random.chance(70) ? Int(domain) : random.below(4)
        let paths = [
            "/local/domain/\(home)/name", "/local/domain/\(home)/data/x", "/local/domain/\(home)/data",
            "/local/domain/\(home)/device/vif/0/state", "/local/domain/\(home)", "/tool/x", "/",
            "/local/domain/0/backend/vif/\(home)/0/state", "/vm/a/uuid", "@releaseDomain",
        ]
        path = random.one(of: paths)
        let verbs: [(String, MessageType, [String])] = [
            ("read", .read, []), ("write", .write, ["v"]), ("write", .write, ["w"]),
            ("mkdir", .makeDirectory, []), ("directory", .directory, []), ("get-perms", .getPermissions, []),
            ("set-perms", .setPermissions, ["b\(random.below(4))"]),
            ("set-perms", .setPermissions, ["n\(domain)", "w\(random.below(4))"]),
        ]
        let (verb, type, arguments) = random.chance(6) ? ("rm", .remove, []) : random.one(of: verbs)
        self.verb = verb
        message = Message(type, [UInt8](strings: [path] + arguments))
    }
}

extension Client {
    /// As `StubMachine.ask` answers.
    fileprivate func answer(_ message: Message) -> String? {
        send(message.bytes)
        for reply in drain() where reply.type != MessageType.watchEvent.rawValue {
            return reply.errorName ?? String(decoding: reply.payload, as: UTF8.self)
        }
        return nil
    }
}
