// The values of options that several modules have: numbers, sizes, lists of words, operations, subjects.
//
// Each reading throws by the option's place, with what was found and what was expected.

extension PluginOption {
    /// Its words: commas and spaces part them.
    public var words: [Substring] { value.split { $0 == "," || $0 == " " } }

    /// A decimal number.
    public func number(in range: ClosedRange<UInt64>) throws(PluginFailure) -> UInt64 {
        guard let number = UInt64(value), range.contains(number) else {
            throw .option(self, expected: "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Bytes: a decimal number, with KiB, MiB or GiB behind it if that is meant.
    public func byteCount(in range: ClosedRange<UInt64>) throws(PluginFailure) -> UInt64 {
        let digits = value.prefix { $0 >= "0" && $0 <= "9" }
        let unit = value.dropFirst(digits.count).drop { $0 == " " }
        let units: [(name: StaticString, shift: UInt64)] = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)]
        for (name, shift) in units where name.equals(unit) {
            guard let number = UInt64(digits), number <= UInt64.max >> shift,
                range.contains(number << shift)
            else { break }
            return number << shift
        }
        throw .option(
            self,
            expected: "a number of bytes from \(range.lowerBound) to \(range.upperBound), as 4096, 64KiB, "
                + "16MiB or 1GiB")
    }

    /// Requests by their names and groups' names.
    public func requests() throws(PluginFailure) -> PolicyOperations {
        var all: PolicyOperations = []
        for word in words {
            guard let operations = PolicyOperations.named(word) else {
                var names: [String] = PolicyOperations.groups.map { "\($0.name)" }
                for one in PolicyOperation.allCases where one.isRequest { names.append("\(one.name)") }
                throw .option(self, expected: "a list of: \(names.joined(separator: ", "))")
            }
            all.formUnion(operations)
        }
        if all.isEmpty { throw .option(self, expected: "at least one operation") }
        return all
    }

    /// Who asks.
    public func subjects() throws(PluginFailure) -> SubjectSet {
        var set = SubjectSet()
        for word in words {
            if !set.insert(word) {
                throw .option(
                    self,
                    expected: "a list of: any, none, dom0, guest, user, domain ids, ranges of them (5-9)")
            }
        }
        return set
    }
}

/// A set of those who may ask.
public struct SubjectSet: Hashable, Sendable {
    /// May do what the control domain may.
    public var hasPrivileged = false
    /// Domains on their rings, unless privileged.
    public var hasGuests = false
    /// Sockets' peers that are not privileged.
    public var hasUsers = false
    /// Whoever speaks for these.
    public var domains: [ClosedRange<UInt16>] = []

    public init() {}

    public static let all: SubjectSet = {
        var set = SubjectSet()
        _ = set.insert("any")
        return set
    }()

    public func contains(_ question: PolicyQuestion) -> Bool {
        let isMember =
            question.isPrivileged ? hasPrivileged : question.peer == nil ? hasGuests : hasUsers
        if isMember { return true }
        for range in domains where range.contains(question.domain) { return true }
        return false
    }

    /// Adds what a word of an option names. False: it names nothing.
    public mutating func insert(_ word: Substring) -> Bool {
        switch () {
        case _ where StaticString("any").equals(word):
            (hasPrivileged, hasGuests, hasUsers) = (true, true, true)
        case _ where StaticString("none").equals(word): break
        case _ where StaticString("dom0").equals(word): hasPrivileged = true
        case _ where StaticString("guest").equals(word): hasGuests = true
        case _ where StaticString("user").equals(word): hasUsers = true
        default:
            let parts = word.split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count <= 2, let first = UInt16(parts[0]), let last = UInt16(parts[parts.count - 1]),
                first <= last, last < 0x7FF0
            else { return false }
            domains.append(first...last)
        }
        return true
    }
}
