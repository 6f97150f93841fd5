// What of a configuration the stub domain's kernel can be told (docs/stubdom.md).

import XenStore
import XenStoreTypes

extension DaemonOptions {
    /// The configuration as the kernel reads it.
    ///
    /// Throws if it says something that the kernel does not have: that must not be lost in silence.
    public func kernelConfiguration() throws(StartFailure) -> KernelConfiguration {
        let said = configuration
        let misses: [(Bool, String, String)] = [
            (!said.policies.isEmpty, "policies", "none: the kernel has no policies yet"),
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
        return kernel
    }
}
