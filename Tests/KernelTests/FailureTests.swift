// Does each hypercall that fails leave a reason on the console, and nothing half done?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import StubKernel
@testable import XenStore

extension KernelTests {
    @Suite struct FailureTests {
        /// What the kernel stops with, by the call that fails at its start; nil: it goes on without.
        static let reasons = [
            "domctl": "Xen does not tell us of domains (this is no XenStore domain?): error -1",
            "add_to_physmap": "cannot map shared_info: error -1",
            "expand_array": "cannot add event channels to 0: error -1",
            "set_param": "cannot set the event vector: error -1",
            "bind_virq": "cannot bind virtual interrupt ",
            "unmask": "cannot unmask event channel port ",
            "map": "cannot map grant 1: error -1",
            "bind_interdomain": "cannot bind event channel port 7: error -1",
        ]
        /// The kernel goes on without.
        static let dispensable: Set<String> = ["get_param", "init_control", "send", "close"]

        @Test(arguments: [false, true])
        func whatFailsAtTheStartIsNamed(isStatus: Bool) throws {
            var call = 0
            while true {
                let xen = HostedXen()
                xen.fault = HostedXen.Fault(call: call, code: -1, isStatus: isStatus)
                var end = ""
                do {
                    let hosted = try HostedKernel(xen)
                    #expect(hosted.ask(0, .control, ["check"]) == "OK\0")
                } catch let failure as Failure {
                    Console.beginLine("stopped")
                    failure.put()
                    Console.endLine()
                    end = xen.text
                }
                guard call < xen.calls.count else { break }
                let name = xen.calls[call]
                // What comes after the start is in another test.
                if end.isEmpty && xen.text.contains("serves XenStore") && call > 20 { break }
                // A look at domain 0 may fail: what would be kept of it is not needed.
                let isLook = name == "domctl" && xen.calls[..<call].contains("unmask")
                if Self.dispensable.contains(name) || isLook {
                    #expect(end.isEmpty, "\(name): \(end)")
                } else {
                    let reason = Self.reasons[name] ?? "a reason for \(name)"
                    #expect(end.contains(reason), "call \(call), \(name): \(xen.text)")
                }
                call += 1
            }
            #expect(call > 12)
        }

        /// Guests come, work and go, and one call fails: what was asked for is done or refused, as a whole.
        @Test(arguments: [true, false], [false, true])
        func whatFailsWhileRunningIsRefused(hasQueues: Bool, isStatus: Bool) throws {
            // The first without a fault, to see that all is well then.
            var call = -1
            var isLast = false
            while !isLast {
                let xen = HostedXen(hasQueues: hasQueues)
                let hosted = try HostedKernel(xen)
                let before = xen.calls.count
                if call >= 0 {
                    xen.fault = HostedXen.Fault(call: before + call, code: -22, isStatus: isStatus)
                }
                let play = Play(hosted)
                play.run()
                isLast = call >= 0 && before + call >= xen.calls.count
                let name = call >= 0 && !isLast ? xen.calls[before + call] : "nothing"
                if let complaint = play.complaint(about: name) {
                    Issue.record("call \(call), \(name): \(complaint)\n\(xen.text)")
                }
                if call == -1 { #expect(play.refusals == 0, "\(xen.text)") }
                call += 1
            }
            #expect(call > 20)
        }

        /// A domain of which Xen does not tell is looked at again, and keeps what it has until then.
        @Test func anUnknownStateIsLookedAtAgain() throws {
            let xen = HostedXen()
            let hosted = try HostedKernel(xen)
            hosted.makeDomain(1)
            #expect(hosted.ask(0, .introduce, ["1", "1", "3"]) == "OK\0")
            xen.fault = HostedXen.Fault(call: xen.calls.count, code: -12)
            hosted.end(1, isGone: true)
            #expect(xen.calls[xen.fault.call] == "domctl")
            #expect(xen.ring(of: 1) != nil)
            #expect(xen.text.contains("Xen does not tell us of domain 1: error -12"), "\(xen.text)")
            #expect(xen.timer != nil && xen.timer != 0)
            xen.advance(by: 2_000_000_000)
            hosted.turn()
            #expect(xen.ring(of: 1) == nil)
            #expect(hosted.ask(0, .isDomainIntroduced, ["1"]) == "F\0")
        }

        /// Ports beyond the first 1024 need another page of Xen's; without it the guest is refused.
        @Test func portsBecomeMore() throws {
            let xen = HostedXen(firstPort: 1021)
            let hosted = try HostedKernel(xen)
            hosted.makeDomain(1)
            xen.fault = HostedXen.Fault(call: -1, code: -12)
            xen.failing = "expand_array"
            #expect(hosted.ask(0, .introduce, ["1", "1", "3"]) == "EINVAL")
            let reason = "cannot introduce domain 1: cannot add event channels to 1024: error -12"
            #expect(xen.text.contains(reason), "\(xen.text)")
            #expect(xen.ports.count == 3 && xen.mapped.count == 1)
            xen.failing = nil
            #expect(hosted.ask(0, .introduce, ["1", "1", "3"]) == "OK\0")
            #expect(xen.ports.keys.contains { $0 >= 1024 })
            #expect(hosted.ask(1, .write, ["a", "b"]) == "EACCES")
        }

        /// What fails again and again does not fill the console.
        @Test func complaintsAreLimited() throws {
            let xen = HostedXen()
            let hosted = try HostedKernel(xen)
            xen.failing = "send"
            for _ in 0..<100 { hosted.ask(0, .directory, ["/"]) }
            let lines = xen.text.split(separator: "\n").filter { $0.contains("cannot signal") }
            #expect(lines.count == 10)
        }
    }
}

/// Guests that come and go, with a note of what was refused.
private final class Play {
    private let hosted: HostedKernel
    private let portsBefore: Set<UInt32>
    private(set) var refusals = 0
    private var wrong: String?

    init(_ hosted: HostedKernel) {
        self.hosted = hosted
        portsBefore = Set(hosted.xen.ports.keys)
    }

    private func introduce(_ domain: UInt16) {
        let xen = hosted.xen
        let (ports, mapped) = (xen.ports, xen.mapped)
        let isIntroduced = xen.ring(of: domain) != nil
        let reply = hosted.ask(0, .introduce, ["\(domain)", "1", "3"])
        if reply == "OK\0" {
            if hosted.ask(0, .isDomainIntroduced, ["\(domain)"]) != "T\0" { wrong = "it is not introduced" }
            return
        }
        refusals += 1
        if reply != "EINVAL" { wrong = "INTRODUCE answers \(reply ?? "nothing")" }
        if !isIntroduced {
            // Nothing is left of it.
            if hosted.ask(0, .isDomainIntroduced, ["\(domain)"]) != "F\0" { wrong = "half introduced" }
            if xen.mapped != mapped { wrong = "its page stays mapped" }
            if xen.ports.count != ports.count { wrong = "its port stays bound" }
        }
        // Whoever tries again is served.
        if hosted.ask(0, .introduce, ["\(domain)", "1", "3"]) != "OK\0" { wrong = "it stays refused" }
    }

    private func work(_ domain: UInt16) {
        let home = "/local/domain/\(domain)"
        if hosted.ask(0, .makeDirectory, [home]) != "OK\0" { wrong = "no home" }
        if hosted.ask(0, .setPermissions, [home, "n\(domain)"]) != "OK\0" { wrong = "no permissions" }
        for number in 0..<3 where hosted.ask(domain, .write, ["n\(number)", "x"]) != "OK\0" {
            wrong = "guest \(domain) cannot write"
        }
    }

    func run() {
        hosted.makeDomain(1)
        introduce(1)
        work(1)
        // The same again, as a kernel that has rebooted within its domain.
        introduce(1)
        work(1)
        hosted.makeDomain(2, handle: 2)
        introduce(2)
        work(2)
        if hosted.ask(0, .release, ["1"]) != "OK\0" { wrong = "RELEASE" }
        hosted.end(2, isGone: false)
        hosted.end(2, isGone: true)
        // Another of the same number.
        hosted.makeDomain(2, handle: 3)
        introduce(2)
        work(2)
        hosted.end(2, isGone: true)
        hosted.xen.advance(by: 3_000_000_000)
        hosted.turn()
    }

    /// What is wrong in the end, if one call of this name has failed.
    func complaint(about name: String) -> String? {
        let xen = hosted.xen
        if let wrong { return wrong }
        if hosted.ask(0, .control, ["check"]) != "OK\0" { return "CONTROL check" }
        let told = xen.text.contains("error -22") || xen.text.contains("cannot")
        if name != "nothing" && name != "set_timer" && !told { return "nothing is said of it" }
        // A port that Xen does not close, or a page that it does not unmap, is lost, and said to be.
        let ports = Set(xen.ports.keys).subtracting(portsBefore)
        if !ports.isEmpty && !xen.text.contains("cannot close") { return "ports are left: \(ports)" }
        if xen.mapped.count != 1 && !xen.text.contains("cannot unmap") { return "pages are left mapped" }
        let homes = hosted.ask(0, .directory, ["/local/domain"])
        if homes != "" { return "nodes are left: \(homes ?? "")" }
        return nil
    }
}
