// The access policies that are linked in, opened from what the configuration has of them.

import CXenStorePlugin
import PathRules
import RateLimit
import TypeLabels
import XenStore
import XenStorePlugin
import XenStorePolicies

/// Those that a configuration may have. `xenstored --compile-config` knows their names
/// (Sources/xenstored/XenstoredCommand.swift).
private let linked = [compiledPathRules, compiledTypeLabels, compiledRateLimit]

/// Opens the configuration's policies, in their order. Throws for one that is not linked in, and for what is
/// no form of one.
func openPolicies(
    _ settings: KernelConfiguration, _ hypervisor: any Hypervisor
) throws(Failure) -> [Policy] {
    var policies: [Policy] = []
    for compiled in settings.policies {
        guard let plugin = linked.first(where: { isCalled($0, compiled.module) }) else {
            throw Failure("the ramdisk has a policy that this kernel does not: ", text: compiled.module)
        }
        let host = PolicyHost(compiled.module, hypervisor, settings.logLevel)
        do throws(PolicyFailure) {
            policies.append(try LinkedPolicy(plugin.pointer, compiled.form, host))
        } catch {
            throw Failure(
                "the ramdisk has a policy that cannot be used: ",
                text: compiled.module + [0x3A, 0x20] + error.reason)
        }
    }
    return policies
}

private func isCalled(_ plugin: Plugin, _ name: [UInt8]) -> Bool {
    guard let text = plugin.pointer.pointee.name else { return false }
    for index in name.indices where UInt8(bitPattern: text[index]) != name[index] { return false }
    return text[name.count] == 0
}

/// A policy that the console hears of when it fails. It is there for as long as the kernel.
private final class LinkedPolicy: PluginPolicy {
    private let host: PolicyHost

    init(
        _ plugin: UnsafePointer<xenstore_plugin>, _ form: [UInt8], _ host: PolicyHost
    ) throws(PolicyFailure) {
        self.host = host
        let instance = try Self.opened(plugin, compiled: form, host: host.pointer)
        // It has been opened by a call of this struct.
        super.init(plugin, plugin.pointee.policy!.pointee, instance)
    }

    override func failed(_ result: Int32) { host.tellFailure(result) }
}

/// What a policy may ask of the kernel, as the C struct that it is handed. Never freed.
private final class PolicyHost {
    private let name: [UInt8]
    private let hypervisor: any Hypervisor
    private let logLevel: LogLevel
    let pointer = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)

    init(_ name: [UInt8], _ hypervisor: any Hypervisor, _ logLevel: LogLevel) {
        self.name = name
        self.hypervisor = hypervisor
        self.logLevel = logLevel
        var calls = xenstore_host()
        calls.size = UInt32(MemoryLayout<xenstore_host>.size)
        calls.log = { world, level, text, count in
            let bytes = UnsafeRawBufferPointer(start: text, count: text == nil ? 0 : count)
            PolicyHost.of(world).write(LogLevel(rawValue: UInt8(clamping: level)) ?? .debug, bytes)
        }
        calls.clock = { PolicyHost.of($0).hypervisor.now }
        // Of backends, which there are none of.
        calls.committed = { _, _ in }
        pointer.initialize(to: calls)
        pointer.pointee.world = Unmanaged.passRetained(self).toOpaque()
    }

    private static func of(_ world: UnsafeMutableRawPointer?) -> PolicyHost {
        guard let world else { stop("a policy has called the kernel without its world") }
        return Unmanaged<PolicyHost>.fromOpaque(world).takeUnretainedValue()
    }

    private func write(_ level: LogLevel, _ text: UnsafeRawBufferPointer) {
        if level > logLevel { return }
        Console.beginLine(level.text)
        name.withUnsafeBytes { Console.put($0) }
        Console.put(": ")
        Console.put(text)
        Console.endLine()
    }

    func tellFailure(_ result: Int32) {
        Console.beginLine("error")
        Console.put("policy ")
        name.withUnsafeBytes { Console.put($0) }
        Console.put(": it fails to decide (")
        Console.put(Int(result))
        Console.put("); that is denied")
        Console.endLine()
    }
}
