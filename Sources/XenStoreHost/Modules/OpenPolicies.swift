// The access policies that are in force, as instances of their modules.

import XenStore

/// All policies of one reading of the configuration. They are opened on whatever thread reads it, and then
/// belong to the loop's.
struct OpenPolicies: @unchecked Sendable {
    var all: [ModulePolicy]

    init(all: [ModulePolicy]) { self.all = all }

    init(_ options: HostOptions, _ log: Log) throws(StartFailure) { try self.init(options, log.writer) }

    /// Opens each. Fails with none of them open. `isTrial`: only to be asked what they would decide.
    init(_ options: HostOptions, _ log: LogWriter, isTrial: Bool = false) throws(StartFailure) {
        all = []
        do throws(StartFailure) {
            for choice in options.policies {
                all.append(try ModulePolicy(choice, options.policySearch, log: log, isTrial: isTrial))
            }
        } catch {
            close()
            throw error
        }
    }

    /// Each one takes over from the older instance of its module, the first from the first.
    func inherit(from older: OpenPolicies) {
        var rest = older.all
        for policy in all {
            guard let index = rest.firstIndex(where: { $0.module.plugin == policy.module.plugin }) else {
                continue
            }
            policy.inherit(from: rest.remove(at: index))
        }
    }

    func close() { for policy in all { policy.end() } }
}

/// Closes policies that are no longer in force on a thread of their own: their disks may be slow.
final class PolicyClosings: @unchecked Sendable {
    private let monitor = Monitor()
    private var open = 0

    func close(_ policies: OpenPolicies) {
        if policies.all.isEmpty { return }
        monitor.locked { open += 1 }
        do throws(StartFailure) {
            try startThread("policies") { self.closeNow(policies) }
        } catch {
            closeNow(policies)
        }
    }

    private func closeNow(_ policies: OpenPolicies) {
        policies.close()
        monitor.locked {
            open -= 1
            monitor.wake()
        }
    }

    /// Waits until all are closed.
    func finish() { monitor.locked { while open > 0 { monitor.wait() } } }
}
