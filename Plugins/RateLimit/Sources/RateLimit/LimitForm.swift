// Limits in their compiled form, which a kernel is handed: what is read here, RateLimitOptions has written.
//
// | size | meaning |
// |---|---|
// | 4 | version, 1 |
// | - | the limits of requests, of transactions and of events: each u64 a second, u64 at a time, text place |
// | 1 | what a socket's user is answered: 0 EBUSY, 1 ENOSPC |
// | 3 | who is exempt, 1 each: the privileged, guests, users |
// | 4 | number of ranges of domains that are; each u16 first id, u16 last id |
//
// Numbers and texts are as in CompiledForm.swift.

import XenStorePlugin

extension RateLimits {
    public static let formVersion: UInt32 = 1

    /// Reads bytes that may be anything. Throws at the first that are no such form.
    public init(compiled bytes: [UInt8]) throws(PluginFailure) {
        var form = FormReader(bytes)
        if try form.number() != Self.formVersion { throw form.mistake("version 1 of rate-limit's form") }
        requests = try Limit(&form)
        transactions = try Limit(&form)
        events = try Limit(&form)
        refusal = try form.flag() ? .noSpace : .busy
        exempt.hasPrivileged = try form.flag()
        exempt.hasGuests = try form.flag()
        exempt.hasUsers = try form.flag()
        for _ in 0..<(try form.count(upTo: .max, size: 4)) {
            let (first, last) = (try form.number(UInt16.self), try form.number(UInt16.self))
            if first > last { throw form.mistake("the first and the last of domain ids") }
            exempt.domains.append(first...last)
        }
        try form.end()
    }
}

extension Limit {
    fileprivate init(_ form: inout FormReader) throws(PluginFailure) {
        perSecond = try form.number(upTo: Self.rateMax)
        burst = try form.number(upTo: Self.burstMax)
        if burst == 0 { throw form.mistake("at least one at a time") }
        place = try form.text()
    }
}
