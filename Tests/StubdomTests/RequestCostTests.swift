// What a request through a ring costs the kernel, in instructions, without policies and with each.
//
// qemu counts them (-icount shift=0: its clock goes up by one an instruction); those of the simulated guests
// and machine are left out.

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite(.enabled(if: StubMachine.kernel != nil), .serialized)
struct RequestCostTests {
    static let path = "/local/domain/1/device/vif/0/state"

    /// Instructions that the kernel spends on one of `count` requests of a guest, one after the other.
    private func kernelCost(_ policies: [String], _ type: MessageType, count: Int) throws -> Int {
        let settings = policies.isEmpty ? KernelConfiguration() : try StubPolicies(policies).kernel
        let machine = try StubMachine(ramdisk: settings.compiled, counting: true, seconds: 120)
        #expect(machine.makeGuest(1))
        #expect(machine.ask(0, .write, [Self.path, "1"]) == "OK\0")
        #expect(machine.ask(0, .setPermissions, [Self.path, "n1"]) == "OK\0")
        let arguments = type == .write ? [Self.path, "4"] : [Self.path]
        func ask() { #expect(machine.ask(1, type, arguments)?.first != "E") }
        for _ in 0..<20 { ask() }
        let before = try machine.takeFigures().busy
        for _ in 0..<count { ask() }
        let after = try machine.takeFigures().busy
        return Int(after - before) / count
    }

    @Test func policiesCostLittle() throws {
        for (name, policies) in [
            ("no policies", []), ("hardened-guests", PolicyTests.hardened),
            ("type-labels", PolicyTests.labels), ("rate-limit", ["- module: rate-limit"]),
        ] {
            let machine = try StubMachine(
                ramdisk: policies.isEmpty ? nil : try StubPolicies(policies).kernel.compiled)
            let free = try machine.takeFigures().free >> 10
            let read = try kernelCost(policies, .read, count: 200)
            let write = try kernelCost(policies, .write, count: 200)
            print("stubdom: \(name): \(read) instructions a read, \(write) a write; \(free) KiB free")
            #expect(read < 20_000 && write < 30_000)
        }
    }
}
