// The module: its options, and its compiled form.

import RateLimit
import XenStorePlugin

public let rateLimit = Plugin(
    policy: OptionRateLimit.init(host:options:), compiled: RateLimit.init(host:compiled:),
    name: "rate-limit", version: "1.0",
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

/// Rate limits that options say.
final class OptionRateLimit: RateLimit {
    init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        var limits = RateLimits(
            requests: try Self.limit("requests", 1000, 2000, options),
            transactions: try Self.limit("transactions", 100, 200, options),
            events: try Self.limit("events", 2000, 4000, options))
        if let exempt = options["exempt"] { limits.exempt = try exempt.subjects() }
        if let refusal = options["refusal"] {
            switch refusal.value {
            case "EBUSY": limits.refusal = .busy
            case "ENOSPC": limits.refusal = .noSpace
            default: throw .option(refusal, expected: "EBUSY or ENOSPC")
            }
        }
        try super.init(host: host, limits: limits)
    }

    private static func limit(
        _ what: String, _ perSecond: UInt64, _ burst: UInt64, _ options: [PluginOption]
    ) throws(PluginFailure) -> Limit {
        let rate = options[what]
        let most = options["\(what)-burst"]
        let rateGiven = try rate?.number(in: 0...Limit.rateMax) ?? perSecond
        // Two seconds' worth, unless the file says otherwise.
        let burstGiven =
            try most?.number(in: 1...Limit.burstMax) ?? (rate == nil ? burst : max(1, 2 * rateGiven))
        let place = rate?.place ?? most?.place ?? "by default"
        return Limit(rateGiven, burst: burstGiven, place: PlainText(place))
    }

    override func compile() throws(PluginFailure) -> [UInt8] { limits.compiled }
}

extension RateLimits {
    /// The compiled form's bytes. The layout is at the head of LimitForm.swift.
    var compiled: [UInt8] {
        var form = FormWriter()
        form.add(Self.formVersion)
        for limit in [requests, transactions, events] {
            form.add(limit.perSecond)
            form.add(limit.burst)
            form.add(limit.place)
        }
        form.add(refusal == .noSpace)
        form.add(exempt.hasPrivileged)
        form.add(exempt.hasGuests)
        form.add(exempt.hasUsers)
        form.add(UInt32(exempt.domains.count))
        for range in exempt.domains {
            form.add(range.lowerBound)
            form.add(range.upperBound)
        }
        return form.bytes
    }
}
