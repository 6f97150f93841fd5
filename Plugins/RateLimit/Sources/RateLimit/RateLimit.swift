// Tokens for requests, transactions and watch events, for every domain on its ring and every plain user of
// the sockets.
//
// Invariants:
// - Who stays below the rates is never answered anything but abstain.
// - `table` has an entry for those only who have used tokens that have not come back, or had when it was
//   swept last; a domain's goes with the domain.
// - A dry run changes nothing.

import XenStorePlugin

/// As a kernel links it.
public let compiledRateLimit = Plugin(
    compiledPolicy: RateLimit.init(host:compiled:), name: "rate-limit", version: "1.0")

/// A limit, as the configuration has it.
public struct Limit: Equatable, Sendable {
    /// 0: none.
    public var perSecond: UInt64
    public var burst: UInt64
    /// Where it stands, for people.
    public var place: PlainText

    public static let rateMax: UInt64 = 1_000_000
    public static let burstMax: UInt64 = 10_000_000

    /// At most `rateMax` a second, and 1 to `burstMax` at a time.
    public init(_ perSecond: UInt64, burst: UInt64, place: PlainText) {
        self.perSecond = perSecond
        self.burst = burst
        self.place = place
    }
}

/// All that it decides by.
public struct RateLimits: Sendable {
    public var requests: Limit
    public var transactions: Limit
    public var events: Limit
    public var exempt = SubjectSet()
    /// What a socket's user is answered: EBUSY, or ENOSPC.
    public var refusal = PolicyError.busy

    public init(requests: Limit, transactions: Limit, events: Limit) {
        self.requests = requests
        self.transactions = transactions
        self.events = events
    }
}

/// Decides by limits. Where they come from is the affair of whoever makes it.
open class RateLimit: AccessPolicy {
    /// A limit with its rate worked out.
    private struct Metered {
        let limit: Limit
        let rate: TokenRate
        let what: StaticString

        init(_ limit: Limit, _ what: StaticString) {
            self.limit = limit
            self.what = what
            rate = TokenRate(limit.perSecond, burst: limit.burst)
        }
    }

    public let limits: RateLimits
    private let requests: Metered
    private let transactions: Metered
    private let events: Metered
    private var table = BucketTable()
    /// How many entries make it worth a look which of them can go.
    private var sweepAt = 1024
    /// Whose request is being carried out: the events that it causes are charged to it.
    private var cause: (key: UInt64, now: UInt64)?

    public init(host: PluginHost, limits: RateLimits) throws(PluginFailure) {
        self.limits = limits
        requests = Metered(limits.requests, "requests")
        transactions = Metered(limits.transactions, "transactions")
        events = Metered(limits.events, "events")
        try super.init(host: host, options: [])
    }

    /// With the limits of a compiled form. Throws where the bytes are none.
    public convenience init(host: PluginHost, compiled bytes: [UInt8]) throws(PluginFailure) {
        try self.init(host: host, limits: RateLimits(compiled: bytes))
    }

    override open var interest: PolicyInterest {
        var decides: PolicyOperations = []
        if limits.transactions.perSecond > 0 { decides.formUnion(PolicyOperations(.transactionStart)) }
        if limits.requests.perSecond > 0 { decides.formUnion(.requests) }
        if limits.events.perSecond > 0 { decides.formUnion(.requests.union(PolicyOperations(.event))) }
        return PolicyInterest(decides: decides)
    }

    override open func decide(_ question: PolicyQuestion) -> PolicyDecision {
        if question.operation == .event {
            chargeEvent(question)
            return .abstain
        }
        let now = question.now
        if !question.isDryRun { cause = nil }
        if question.isPrivileged || limits.exempt.contains(question) { return .abstain }
        let key = key(question)
        var buckets = table.buckets(key) ?? Buckets()
        let isStart = question.operation == .transactionStart
        var short = requests
        var wait = requests.rate.wait(buckets.requests, now)
        func require(_ limit: Metered, _ time: UInt64) { if time > wait { (short, wait) = (limit, time) } }
        if isStart { require(transactions, transactions.rate.wait(buckets.transactions, now)) }
        require(events, events.rate.untilPaid(buckets.events, now))
        if wait > 0 {
            question.because(Self.reason(short))
            if question.peer != nil { return .deny(limits.refusal) }
            return .postpone(milliseconds: UInt32(min(1000, (wait + 999_999) / 1_000_000)))
        }
        if question.isDryRun { return .abstain }
        requests.rate.take(&buckets.requests, now)
        if isStart { transactions.rate.take(&buckets.transactions, now) }
        table.set(key, buckets)
        if table.count >= sweepAt { sweep(now) }
        cause = (key, now)
        return .abstain
    }

    private static func reason(_ short: Metered) -> PlainText {
        "\(short.limit.place): no more than \(short.limit.perSecond) \(short.what) a second"
    }

    /// An event belongs to the request that has caused it. One that comes at another time has been caused by
    /// no request: a domain has died.
    private final func chargeEvent(_ question: PolicyQuestion) {
        guard let cause, cause.now == question.now, !question.isDryRun else { return }
        var buckets = table.buckets(cause.key) ?? Buckets()
        events.rate.take(&buckets.events, cause.now)
        table.set(cause.key, buckets)
    }

    // MARK: Who

    /// A domain on its ring, or a socket's user. Beyond so many at a time, users share one entry.
    private final func key(_ question: PolicyQuestion) -> UInt64 {
        guard let peer = question.peer else { return UInt64(question.domain) }
        let key = 1 << 32 | UInt64(peer.uid)
        return table.buckets(key) == nil && table.count >= 100_000 ? 1 << 33 : key
    }

    /// Forgets whose buckets are full.
    private final func sweep(_ now: UInt64) {
        table.sweep(now)
        sweepAt = max(1024, 2 * table.count)
    }

    override open func ended(domain: UInt16) { table.remove(UInt64(domain)) }

    /// Nobody gets new tokens by a reload.
    override open func inherit(from older: AccessPolicy) {
        if let older = older as? RateLimit { table = older.table }
    }
}
