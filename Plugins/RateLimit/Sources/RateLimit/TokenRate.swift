// Tokens that come back at a steady rate, as one number a bucket: when the bucket will be full again.
//
// A token is `interval` nanoseconds, a full bucket `allowance`. A bucket that will be full at time f has, at
// time t, allowance - (f - t) nanoseconds of tokens in it: all of them if f has passed, debts if f is later
// than t + allowance. So a bucket that is full needs no memory.

/// How fast tokens come, and how many there may be.
struct TokenRate {
    /// Nanoseconds a token; 0: no limit.
    let interval: UInt64
    let allowance: UInt64
    /// Debts are not remembered beyond this.
    private let debtMax: UInt64 = 10_000_000_000
    /// Nobody is asked to come back sooner, so that a flood is many requests a wake-up: 10 ms, or less where
    /// the bucket would overflow meanwhile.
    private let pause: UInt64

    /// So many tokens a second, 0 for no limit, and at most `burst` at a time.
    init(_ perSecond: UInt64, burst: UInt64) {
        interval = perSecond == 0 ? 0 : 1_000_000_000 / perSecond
        allowance = interval * burst
        pause = min(10_000_000, allowance / 2)
    }

    /// Nanoseconds until there is a token; 0: there is one.
    func wait(_ full: UInt64, _ now: UInt64) -> UInt64 {
        if interval == 0 { return 0 }
        return untilPaid(max(full, now) + interval, now)
    }

    /// Nanoseconds until there are no debts; 0: there are none.
    func untilPaid(_ full: UInt64, _ now: UInt64) -> UInt64 {
        if interval == 0 || full <= now + allowance { return 0 }
        return max(full - now - allowance, pause)
    }

    /// Takes a token, even where there is none.
    func take(_ full: inout UInt64, _ now: UInt64) {
        full = min(max(full, now) + interval, now + allowance + debtMax)
    }
}
