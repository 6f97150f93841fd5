// The values of command-line options, read from text (specification, section H).

import XenStore
import XenStoreTypes

/// `what=n` of `--quota`.
public struct QuotaSetting: Equatable, Sendable {
    public var quota: QuotaName
    public var limit: UInt32

    public init(quota: QuotaName, limit: UInt32) {
        self.quota = quota
        self.limit = limit
    }

    /// Throws if the name is no quota's or the limit no number.
    public init(parsing text: String) throws(OptionMistake) {
        let (name, value) = try assignment(text, "NAME=NUMBER")
        let named = QuotaName.allCases.first { $0.text == name }
        guard let quota = named ?? (name == "permissions" ? .nodePermissions : nil) else {
            let names = alternatives(QuotaName.allCases.map(\.text))
            throw OptionMistake(found: "the unknown quota \(quoted(name))", expected: names)
        }
        self.quota = quota
        limit = try number(value, 0...UInt32.max)
    }
}

/// `+switch` or `-switch` of `--trace-control`.
public struct TraceChange: Equatable, Sendable {
    public var switches: TraceSwitches
    public var on: Bool

    public init(switches: TraceSwitches, on: Bool) {
        self.switches = switches
        self.on = on
    }

    /// Throws if there is no sign or no such switch.
    public init(parsing text: String) throws(OptionMistake) {
        let sign = text.utf8.first
        guard sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"),
            let named = TraceSwitches.choices.first(where: { $0.name == text.dropFirst() })
        else {
            let names = alternatives(TraceSwitches.choices.map(\.name))
            throw OptionMistake(found: quoted(text), expected: "+ or - and one of \(names)")
        }
        switches = named.value
        on = sign == UInt8(ascii: "+")
    }
}

/// Readers for the options whose value is a number, or a name and a number.
public enum OptionValue {
    /// A whole number in `range`.
    public static func number<Value: FixedWidthInteger & Sendable>(
        in range: ClosedRange<Value>
    ) -> @Sendable (String) throws -> Value {
        { text in try XenStoreHost.number(text, range) }
    }

    /// A domain id.
    public static func domain(_ text: String) throws(OptionMistake) -> DomainID {
        DomainID(try XenStoreHost.number(text, 0...(DomainID.firstReserved - 1)))
    }

    /// `memory=BYTES` of `--quota-soft`.
    public static func softMemory(_ text: String) throws(OptionMistake) -> UInt32 {
        let (name, value) = try assignment(text, "memory=NUMBER")
        guard name == "memory" else {
            throw OptionMistake(found: "the unknown soft quota \(quoted(name))", expected: "memory")
        }
        return try XenStoreHost.number(value, 0...UInt32.max)
    }

    /// `watch-event=SECONDS` of `--timeout`.
    public static func watchEventSeconds(_ text: String) throws(OptionMistake) -> UInt32 {
        let (name, value) = try assignment(text, "watch-event=SECONDS")
        guard name == "watch-event" else {
            throw OptionMistake(found: "the unknown timeout \(quoted(name))", expected: "watch-event")
        }
        return try XenStoreHost.number(value, 0...86400)
    }

    /// One of the hypervisors' names.
    public static func hypervisor(_ text: String) throws(OptionMistake) -> Configuration.Hypervisor {
        guard let hypervisor = Configuration.Hypervisor(rawValue: text) else {
            let names = alternatives(Configuration.Hypervisor.allCases.map(\.rawValue))
            throw OptionMistake(found: quoted(text), expected: names)
        }
        return hypervisor
    }
}

/// What stands before and behind the first `=`.
private func assignment(_ text: String, _ form: String) throws(OptionMistake) -> (String, String) {
    guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
        throw OptionMistake(found: quoted(text), expected: form)
    }
    return (String(text[..<equals]), String(text[text.index(after: equals)...]))
}

private func number<Value: FixedWidthInteger>(
    _ text: String, _ range: ClosedRange<Value>
) throws(OptionMistake) -> Value {
    if let value = wholeNumber(text, in: range) { return value }
    throw OptionMistake(
        found: quoted(text), expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
}
