// Tokens for requests, transactions and watch events, for every domain on its ring and every plain user of
// the sockets.
//
// Invariants:
// - Who stays below the rates is never answered anything but abstain.
// - `table` has an entry for those only who have used tokens that have not come back, or had when it was
//   swept last; a domain's goes with the domain.
// - A dry run changes nothing.

import XenStorePlugin

final class RateLimit: AccessPolicy {
    /// When somebody's buckets will be full.
    private struct Buckets {
        var requests: UInt64 = 0
        var transactions: UInt64 = 0
        var events: UInt64 = 0

        func areFull(_ now: UInt64) -> Bool { max(requests, transactions, events) <= now }
    }

    /// A limit, as the configuration has it.
    private struct Limit {
        let rate: TokenRate
        let perSecond: UInt64
        let what: StaticString
        let place: String
    }

    private let requests: Limit
    private let transactions: Limit
    private let events: Limit
    private let exempt: SubjectSet
    private let refusal: PolicyError
    private var table: [UInt64: Buckets] = [:]
    /// How many entries make it worth a look which of them can go.
    private var sweepAt = 1024
    /// Whose request is being carried out: the events that it causes are charged to it.
    private var cause: (key: UInt64, now: UInt64)?

    override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        requests = try Self.limit("requests", 1000, 2000, options)
        transactions = try Self.limit("transactions", 100, 200, options)
        events = try Self.limit("events", 2000, 4000, options)
        exempt = try options["exempt"]?.subjects() ?? SubjectSet()
        refusal =
            try options["refusal"].map { option throws(PluginFailure) in
                switch option.value {
                case "EBUSY": .busy
                case "ENOSPC": .noSpace
                default: throw .option(option, expected: "EBUSY or ENOSPC")
                }
            } ?? .busy
        try super.init(host: host, options: options)
    }

    private static func limit(
        _ what: StaticString, _ perSecond: UInt64, _ burst: UInt64, _ options: [PluginOption]
    ) throws(PluginFailure) -> Limit {
        let rate = options["\(what)"]
        let most = options["\(what)-burst"]
        let rateGiven = try rate?.number(in: 0...1_000_000) ?? perSecond
        // Two seconds' worth, unless the file says otherwise.
        let burstGiven = try most?.number(in: 1...10_000_000) ?? (rate == nil ? burst : max(1, 2 * rateGiven))
        return Limit(
            rate: TokenRate(rateGiven, burst: burstGiven), perSecond: rateGiven, what: what,
            place: rate?.place ?? most?.place ?? "by default")
    }

    override var interest: PolicyInterest {
        var decides: PolicyOperations = []
        if transactions.perSecond > 0 { decides.formUnion(PolicyOperations(.transactionStart)) }
        if requests.perSecond > 0 { decides.formUnion(.requests) }
        if events.perSecond > 0 { decides.formUnion(.requests.union(PolicyOperations(.event))) }
        return PolicyInterest(decides: decides)
    }

    override func decide(_ question: PolicyQuestion) -> PolicyDecision {
        if question.operation == .event {
            chargeEvent(question)
            return .abstain
        }
        let now = question.now
        if !question.isDryRun { cause = nil }
        if question.isPrivileged || exempt.contains(question) { return .abstain }
        let key = key(question)
        var buckets = table[key] ?? Buckets()
        let isStart = question.operation == .transactionStart
        var short = requests
        var wait = requests.rate.wait(buckets.requests, now)
        func require(_ limit: Limit, _ time: UInt64) { if time > wait { (short, wait) = (limit, time) } }
        if isStart { require(transactions, transactions.rate.wait(buckets.transactions, now)) }
        require(events, events.rate.untilPaid(buckets.events, now))
        if wait > 0 {
            question.because("\(short.place): no more than \(short.perSecond) \(short.what) a second")
            if question.peer != nil { return .deny(refusal) }
            return .postpone(milliseconds: UInt32(min(1000, (wait + 999_999) / 1_000_000)))
        }
        if question.isDryRun { return .abstain }
        requests.rate.take(&buckets.requests, now)
        if isStart { transactions.rate.take(&buckets.transactions, now) }
        table[key] = buckets
        if table.count >= sweepAt { sweep(now) }
        cause = (key, now)
        return .abstain
    }

    /// An event belongs to the request that has caused it. One that comes at another time has been caused by
    /// no request: a domain has died.
    private func chargeEvent(_ question: PolicyQuestion) {
        guard let cause, cause.now == question.now, !question.isDryRun else { return }
        events.rate.take(&table[cause.key, default: Buckets()].events, cause.now)
    }

    // MARK: Who

    /// A domain on its ring, or a socket's user. Beyond so many at a time, users share one entry.
    private func key(_ question: PolicyQuestion) -> UInt64 {
        guard let peer = question.peer else { return UInt64(question.domain) }
        let key = 1 << 32 | UInt64(peer.uid)
        return table[key] == nil && table.count >= 100_000 ? 1 << 33 : key
    }

    /// Forgets whose buckets are full.
    private func sweep(_ now: UInt64) {
        table = table.filter { !$0.value.areFull(now) }
        sweepAt = max(1024, 2 * table.count)
    }

    override func ended(domain: UInt16) { table[UInt64(domain)] = nil }

    /// Nobody gets new tokens by a reload.
    override func inherit(from older: AccessPolicy) {
        if let older = older as? RateLimit { table = older.table }
    }
}

public let rateLimit = Plugin(
    policy: RateLimit.init, name: "rate-limit", version: "1.0",
    summary: "Slows down guests that ask too much.",
    options: [
        OptionDescription("requests", fallback: "1000", "requests a second; 0: no limit"),
        OptionDescription("requests-burst", fallback: "2000", "requests at a time"),
        OptionDescription("transactions", fallback: "100", "transactions a second; 0: no limit"),
        OptionDescription("transactions-burst", fallback: "200", "transactions at a time"),
        OptionDescription(
            "events", fallback: "2000", "watch events that its requests cause a second; 0: no limit"),
        OptionDescription("events-burst", fallback: "4000", "watch events at a time"),
        OptionDescription(
            "exempt", fallback: "none", "who is not slowed down: domain ids, ranges of them, guest, user"),
        OptionDescription("refusal", fallback: "EBUSY", "what a socket's user is answered: EBUSY or ENOSPC"),
    ])
