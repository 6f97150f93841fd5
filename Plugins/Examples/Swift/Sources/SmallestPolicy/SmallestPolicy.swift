// An access policy: guests write below their own /local/domain/N, and nowhere else.

import XenStorePlugin

final class SmallestPolicy: AccessPolicy {
    override var interest: PolicyInterest {
        PolicyInterest(decides: PolicyOperations(.write, .makeDirectory))
    }

    override func decide(_ question: PolicyQuestion) throws(PluginFailure) -> PolicyDecision {
        if question.isPrivileged { return .abstain }
        let home = "/local/domain/\(question.domain)/"
        if question.path.starts(with: home.utf8) { return .abstain }
        question.because("guests write below \(home) only")
        return .deny(.access)
    }
}

public let smallestPolicy = Plugin(
    policy: SmallestPolicy.init, name: "smallest-policy", version: "1.0",
    summary: "Guests write below their own home only.", options: [])
