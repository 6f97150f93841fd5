// The C side of an access policy: what each pointer of struct xenstore_policy does. Unsafe code.
//
// `self` over there is a retained AccessPolicy here; close releases it.

import CXenStorePlugin

final class PolicyOpening {
    let open: Plugin.Opening<AccessPolicy>
    let compiled: Plugin.CompiledOpening?

    init(_ open: @escaping Plugin.Opening<AccessPolicy>, _ compiled: Plugin.CompiledOpening?) {
        self.open = open
        self.compiled = compiled
    }
}

/// The calls of a policy that reads options and files; `isCompilable`: it can be had in a kernel as well.
func policyCalls(isCompilable: Bool) -> xenstore_policy {
    var calls = askingCalls()
    calls.open = openPolicy
    calls.observe = showPolicy
    if isCompilable {
        calls.compile = compilePolicy
        calls.open_compiled = {
            let own = $0?.pointee.own.map { Unmanaged<PolicyOpening>.fromOpaque($0).takeUnretainedValue() }
            return openCompiled(own?.compiled, $1, $2, $3)
        }
    }
    return calls
}

/// Those of one that is opened from its compiled form and from nothing else. It is not told of outcomes.
func compiledPolicyCalls() -> xenstore_policy {
    var calls = askingCalls()
    calls.open_compiled = {
        let own = $0?.pointee.own.map { Unmanaged<CompiledPolicy>.fromOpaque($0).takeUnretainedValue() }
        return openCompiled(own?.open, $1, $2, $3)
    }
    return calls
}

final class CompiledPolicy {
    let open: Plugin.CompiledOpening
    init(_ open: @escaping Plugin.CompiledOpening) { self.open = open }
}

private func askingCalls() -> xenstore_policy {
    var calls = xenstore_policy()
    calls.size = UInt32(MemoryLayout<xenstore_policy>.size)
    calls.interest = { instance, interest in
        guard let interest else { return }
        let wanted = policy(instance).interest
        interest.pointee.decides = wanted.decides.rawValue
        interest.pointee.observes = wanted.observes.rawValue
        interest.pointee.values = wanted.values.rawValue
    }
    calls.decide = decideByPolicy
    calls.close = closePolicy
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

private func openCompiled(
    _ open: Plugin.CompiledOpening?, _ host: UnsafePointer<xenstore_host>?, _ form: xenstore_bytes,
    _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> UnsafeMutableRawPointer? {
    guard let open, let host else { return nil }
    do throws(PluginFailure) {
        let bytes = Array(UnsafeRawBufferPointer(start: form.start, count: form.count))
        return Unmanaged.passRetained(try open(PluginHost(host), bytes)).toOpaque()
    } catch {
        _ = error.fill(failure)
        return nil
    }
}

private func compilePolicy(
    _ instance: UnsafeMutableRawPointer?, _ put: xenstore_put?, _ receiver: UnsafeMutableRawPointer?,
    _ failure: UnsafeMutablePointer<xenstore_failure>?
) -> Int32 {
    do throws(PluginFailure) {
        let form = try policy(instance).compile()
        form.withUnsafeBufferPointer { put?(receiver, $0.baseAddress, $0.count) }
        return 0
    } catch {
        return error.fill(failure)
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
            policy.host.log(.error, error.text)
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
