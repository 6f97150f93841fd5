// What of a configuration the stub domain's kernel can be told (docs/stubdom.md).

import XenStore
import XenStorePolicies
import XenStoreTypes

extension DaemonOptions {
    /// The configuration as the kernel reads it, with every file that its policies name. `linked`: the names
    /// of the modules that the kernel has.
    ///
    /// Throws if it says something that the kernel does not have: that must not be lost in silence. Throws
    /// mistakes in the policies' files as well; their warnings go to stderr.
    public func kernelConfiguration(
        _ search: ModuleSearch, linked: [String]
    ) throws(StartFailure) -> KernelConfiguration {
        let said = configuration
        let misses: [(Bool, String, String)] = [
            (said.store.backend.value != "memory", "store.backend", "memory, which is all that it has"),
            (!said.store.keep.isEmpty, "store.keep", "nothing: it has no store that could outlive it"),
            (
                said.hypervisor != .auto && said.hypervisor != .xen, "hypervisor",
                "auto or xen: it is a domain of Xen's"
            ),
            (
                said.log.destination != .auto, "log.destination",
                "auto: it has its console to write to and nothing else"
            ),
            (said.log.traceFile != nil, "log.trace-file", "none: it traces to its console"),
            (said.pidFile != nil, "pid-file", "none: it is no process"),
        ]
        for (isMissed, key, expected) in misses where isMissed {
            throw StartFailure(
                "--compile-config: \(file ?? "the command line"): found \(key), expected \(expected)")
        }
        var kernel = KernelConfiguration()
        kernel.logLevel = said.log.level
        kernel.tracing = said.log.trace
        kernel.snapshotMemory = said.transactions.snapshotMemory
        kernel.privilegedDomain = said.privilegedDomain
        kernel.quotas = said.quotas
        let log = try Log(.standardError, level: .warning)
        defer { log.close() }
        for choice in said.policies {
            kernel.policies.append(try choice.placed(in: file).compiled(search, linked, log.writer))
        }
        return kernel
    }
}

extension PolicyChoice {
    /// Opens the policy, compiles it, and opens what has come of it, so that nothing is written that the
    /// kernel would refuse.
    fileprivate func compiled(
        _ search: ModuleSearch, _ linked: [String], _ log: LogWriter
    ) throws(StartFailure) -> KernelConfiguration.CompiledPolicy {
        let found = try find(search)
        guard found.origin == .builtIn, linked.contains(found.name) else {
            throw module.mistake(
                "found the module \(quoted(found.name)) (\(found.origin)), expected one that the stub "
                    + "domain's kernel links: \(alternatives(linked))")
        }
        let policy = try ModulePolicy(self, search, log: log)
        defer { policy.end() }
        // What it warns of it has said once.
        let errors = try Log(.standardError, level: .error)
        let host = ModuleHost(found.name, log: errors.writer) { _ in }
        defer {
            host.free()
            errors.close()
        }
        do throws(PolicyFailure) {
            let form = try policy.compile()
            let instance = try PluginPolicy.opened(found.plugin, compiled: form, host: host.pointer)
            found.policy?.close?(instance)
            return KernelConfiguration.CompiledPolicy(module: Array(found.name.utf8), form: form)
        } catch {
            throw mistake(found, String(decoding: error.reason, as: UTF8.self))
        }
    }
}
