// An access policy, as a class to be subclassed: the smallest overrides `interest` and `decide`.

/// What a policy says about an operation. Any deny of any policy wins, then any grant; if all abstain, the
/// node's own permissions decide (design, "Policies in the order of checks").
public enum PolicyDecision: Hashable, Sendable {
    case abstain
    case grant
    case deny(PolicyError)
    /// A guest's request: ask again in so many milliseconds, 1 to 1000; its ring is not read until then.
    /// Anywhere else it is an abstention.
    case postpone(milliseconds: UInt32)
}

/// What a denied request is answered with: an errno.
public enum PolicyError: Int32, Sendable {
    case permission = 1
    /// As if it were not there.
    case noEntry = 2
    case access = 13
    case busy = 16
    case noSpace = 28
}

/// What a policy wants to see; the rest costs nothing.
public struct PolicyInterest: Hashable, Sendable {
    /// `decide` is asked about these.
    public var decides: PolicyOperations
    /// `observe` is told of these.
    public var observes: PolicyOperations
    /// Of these the value is shown.
    public var values: PolicyOperations

    public init(
        decides: PolicyOperations, observes: PolicyOperations = [], values: PolicyOperations = []
    ) {
        self.decides = decides
        self.observes = observes
        self.values = values
    }
}

/// How an operation went.
public struct PolicyOutcome {
    /// 0: it was done; else the errno of its reply.
    public var error: Int32
    /// Of all policies together: `abstain`, `grant` or a deny with that error.
    public var verdict: PolicyDecision
    /// The module that gave the verdict, if one did.
    public var policy: String?
}

/// Decides who may do what.
///
/// What is handed in is lent for the call. All calls come from one thread, one at a time, and none may wait.
/// Decisions depend on the questions alone, their clock among them, and on the state that earlier questions
/// without `isDryRun` have made. What one costs may grow with the length of its path, not with anything else
/// that guests choose.
open class AccessPolicy {
    public let host: PluginHost

    /// Reads the options and the files that they name.
    ///
    /// Throws for options that are wrong (`PluginFailure.option`) and for mistakes in the files.
    public init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) { self.host = host }

    /// Asked once, after `init`.
    open var interest: PolicyInterest { PolicyInterest(decides: []) }

    /// Throws where it fails to decide: that denies with EACCES, and the reason is logged.
    open func decide(_ question: PolicyQuestion) throws(PluginFailure) -> PolicyDecision { .abstain }

    /// The question again, with the outcome.
    open func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {}

    /// The domain is gone, and its number may come back as another's.
    open func ended(domain: UInt16) {}

    /// A reload: takes what it wants of an older instance, which is closed next.
    open func inherit(from older: AccessPolicy) {}

    open func close() {}

    /// All that it decides by, in a form of the module's own, from which its plugin's `compiled` opens an
    /// instance that decides the same in a kernel. There it is not told of outcomes.
    ///
    /// Throws, by the option's place, where the options ask for what no kernel has.
    open func compile() throws(PluginFailure) -> [UInt8] {
        throw PluginFailure(text: "it has no compiled form")
    }
}
