// A configuration with policies, as the kernel and as this process have it.

import CXenStorePlugin
import Foundation
import PathRulesFile
import RateLimitOptions
import TypeLabelsFile
import XenStore
import XenStoreHost
import XenStorePolicies
import XenStoreTestKit
import XenStoreTypes

/// Policies of the modules that the kernel links.
final class StubPolicies {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    static let kept = folder.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("config/policies").path

    let kernel: KernelConfiguration
    /// The same, opened from the options, for a server in this process.
    private(set) var hosted: [Policy] = []
    private let host = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)
    private let directory: String

    /// `policies`: the value of the configuration's key, a line each; `@RULES@` stands for config/policies.
    init(_ policies: [String]) throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("policies-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let file = "\(directory)/stubdom.yaml"
        let text = (["policies:"] + policies.map { "  \($0)" }).joined(separator: "\n") + "\n"
        try text.replacingOccurrences(of: "@RULES@", with: Self.kept)
            .write(toFile: file, atomically: false, encoding: .utf8)
        let options = try DaemonOptions(file: file, changes: ConfigurationChanges(), flags: DaemonFlags())
        let modules = [pathRules, typeLabels, rateLimit].map { BuiltInModule($0.pointer) }
        let search = ModuleSearch(options, builtIn: modules)
        kernel = try options.kernelConfiguration(
            search, linked: ["path-rules", "type-labels", "rate-limit"])
        var door = xenstore_host()
        door.size = UInt32(MemoryLayout<xenstore_host>.size)
        door.log = { _, _, _, _ in }
        door.clock = { _ in 0 }
        door.committed = { _, _ in }
        host.initialize(to: door)
        for choice in options.configuration.policies {
            hosted.append(try open(choice, search))
        }
    }

    deinit {
        for policy in hosted { (policy as? PluginPolicy)?.close() }
        host.deallocate()
        try? FileManager.default.removeItem(atPath: directory)
    }

    private func open(_ choice: PolicyChoice, _ search: ModuleSearch) throws -> Policy {
        let module = try choice.find(search)
        var failure = xenstore_failure()
        guard let calls = module.policy,
            let instance = withOptions(
                choice.options, { calls.open(module.plugin, host, $0.baseAddress, $0.count, &failure) })
        else { throw StubFailure("\(module.name) does not open") }
        return PluginPolicy(module.plugin, calls, instance)
    }
}
