// The C side of an access policy: what each pointer of struct xenstore_policy does. Unsafe code.
//
// `self` over there is a retained AccessPolicy here; close releases it.

import CXenStorePlugin

final class PolicyOpening {
    let open: Plugin.Opening<AccessPolicy>
    init(_ open: @escaping Plugin.Opening<AccessPolicy>) { self.open = open }
}

func policyCalls() -> xenstore_policy {
    var calls = xenstore_policy()
    calls.size = UInt32(MemoryLayout<xenstore_policy>.size)
    calls.open = openPolicy
    calls.interest = { instance, interest in
        guard let interest else { return }
        let wanted = policy(instance).interest
        interest.pointee.decides = wanted.decides.rawValue
        interest.pointee.observes = wanted.observes.rawValue
        interest.pointee.values = wanted.values.rawValue
    }
    calls.decide = decideByPolicy
    calls.close = closePolicy
    calls.observe = showPolicy
    calls.ended = { policy($0).ended(domain: $1) }
    calls.inherit = { policy($0).inherit(from: policy($1)) }
    return calls
}

@inline(__always)
private func policy(_ instance: UnsafeMutableRawPointer?) -> AccessPolicy {
    Unmanaged<AccessPolicy>.fromOpaque(instance.unsafelyUnwrapped).takeUnretainedValue()
}

private func openPolicy(
    _ plugin: UnsafePointer<xenstore_plugin>?, _ host: UnsafePointer<xenstore_host>?,
    _ options: UnsafePointer<xenstore_option>?, _ count: Int,
    _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> UnsafeMutableRawPointer? {
    guard let own = plugin?.pointee.own, let host else { return nil }
    let opening = Unmanaged<PolicyOpening>.fromOpaque(own).takeUnretainedValue()
    do throws(PluginFailure) {
        let policy = try opening.open(PluginHost(host), PluginOption.all(options, count))
        return Unmanaged.passRetained(policy).toOpaque()
    } catch {
        _ = error.fill(failure)
        return nil
    }
}

private func decideByPolicy(
    _ instance: UnsafeMutableRawPointer?, _ question: UnsafePointer<xenstore_question>?,
    _ answer: UnsafeMutablePointer<xenstore_answer>?
) -> Int32 {
    guard let question, let answer, let shown = PolicyQuestion(question, answer) else { return -1 }
    // Without counting a reference, which costs as much as the call: the daemon's own holds until close.
    let policy = Unmanaged<AccessPolicy>.fromOpaque(instance.unsafelyUnwrapped)
    return policy._withUnsafeGuaranteedRef { policy in
        do throws(PluginFailure) {
            return code(try policy.decide(shown), answer)
        } catch {
            policy.host.log(.error, error.reason)
            return -1
        }
    }
}

/// The decision as C has it, with what goes with it in the answer.
private func code(_ decision: PolicyDecision, _ answer: UnsafeMutablePointer<xenstore_answer>) -> Int32 {
    switch decision {
    case .abstain: return Int32(XENSTORE_ABSTAIN)
    case .grant: return Int32(XENSTORE_GRANT)
    case .deny(let error):
        answer.pointee.error = error.rawValue
        return Int32(XENSTORE_DENY)
    case .postpone(let milliseconds):
        answer.pointee.delay = milliseconds
        return Int32(XENSTORE_DEFER)
    }
}

private func showPolicy(
    _ instance: UnsafeMutableRawPointer?, _ question: UnsafePointer<xenstore_question>?,
    _ outcome: UnsafePointer<xenstore_outcome>?
) {
    guard let question, let outcome, let shown = PolicyQuestion(question, nil) else { return }
    let error = outcome.pointee.error
    let verdict: PolicyDecision =
        switch Int(outcome.pointee.verdict) {
        case Int(XENSTORE_GRANT): .grant
        case Int(XENSTORE_DENY): .deny(PolicyError(rawValue: error) ?? .access)
        default: .abstain
        }
    let name = outcome.pointee.policy.map { String(cString: $0) }
    policy(instance).observe(shown, PolicyOutcome(error: error, verdict: verdict, policy: name))
}

private func closePolicy(_ instance: UnsafeMutableRawPointer?) {
    guard let instance else { return }
    let owned = Unmanaged<AccessPolicy>.fromOpaque(instance)
    owned.takeUnretainedValue().close()
    owned.release()
}
