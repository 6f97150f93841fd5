// What a key's value may be: how it is read, and how a mistake says what was expected.
//
// YAML's guesses are not followed: a number is plain digits, a flag is plain `true` or `false`, and what is
// in quotes is neither. So no `010`, `1e3`, `yes` or `on` means something else than it says.

import XenStoreTypes

/// What reading needs beside the value: where mistakes go, and the machine's users.
package struct Reading {
    package var mistakes: MistakeList
    package let accounts: Accounts

    package init(mistakes: MistakeList, accounts: Accounts) {
        self.mistakes = mistakes
        self.accounts = accounts
    }
}

/// A kind of value. `read` returns nil after noting a mistake.
package struct Expected<Value> {
    package let read: (YAMLNode, inout Reading) -> Value?

    package init(read: @escaping (YAMLNode, inout Reading) -> Value?) { self.read = read }

    /// A scalar that `parse` takes. `plain`: in quotes it is not such a value.
    package init(_ what: String, plain: Bool, _ parse: @escaping (String) -> Value?) {
        read = { node, reading in
            if case .scalar(let text, let isPlain) = node.content, isPlain || !plain, let value = parse(text)
            {
                return value
            }
            reading.mistakes.add(node.place, found: node.found, expected: what)
            return nil
        }
    }
}

extension Expected {
    /// One of some words.
    package static func choice(_ words: [(name: String, value: Value)]) -> Expected {
        Expected(alternatives(words.map(\.name)), plain: false) { text in
            words.first { $0.name == text }?.value
        }
    }

    /// A list of values, without one twice.
    package static func list<Element: Equatable>(
        of element: Expected<Element>, _ what: String
    ) -> Expected<[Element]> {
        Expected<[Element]> { node, reading in
            guard case .list(let items) = node.content else {
                reading.mistakes.add(node.place, found: node.found, expected: what)
                return nil
            }
            var values: [Element] = []
            for item in items {
                guard let value = element.read(item, &reading) else { continue }
                if values.contains(value) {
                    reading.mistakes.add(item.place, found: "\(item.found) again", expected: "it once")
                } else {
                    values.append(value)
                }
            }
            return values
        }
    }
}

extension Expected where Value == Bool {
    package static var flag: Expected {
        Expected("true or false", plain: true) { $0 == "true" ? true : $0 == "false" ? false : nil }
    }
}

extension Expected where Value: FixedWidthInteger {
    /// A whole number, in decimal digits.
    package static func number(_ range: ClosedRange<Value>) -> Expected {
        Expected("a whole number from \(range.lowerBound) to \(range.upperBound)", plain: true) { text in
            wholeNumber(text, in: range)
        }
    }

    /// Bytes: a whole number, perhaps with KiB, MiB or GiB right behind it.
    package static func bytes(_ range: ClosedRange<Value>) -> Expected {
        let what =
            "a number of bytes from \(range.lowerBound) to \(range.upperBound), "
            + "such as 2048, 64KiB, 10MiB or 1GiB"
        return Expected(what, plain: true) { text in
            for (suffix, unit) in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)] as [(String, Value)]
            {
                guard text.hasSuffix(suffix) else { continue }
                guard let count = wholeNumber(String(text.dropLast(3)), in: 0...Value.max) else { return nil }
                let (bytes, overflow) = count.multipliedReportingOverflow(by: unit)
                return !overflow && range.contains(bytes) ? bytes : nil
            }
            return wholeNumber(text, in: range)
        }
    }
}

extension Expected where Value == DomainID {
    package static var domain: Expected {
        let last = DomainID.firstReserved - 1
        return Expected("a domain id from 0 to \(last)", plain: true) { text in
            wholeNumber(text, in: 0...last).map { DomainID($0) }
        }
    }
}

extension Expected where Value == String {
    /// The absolute path of a file, of at most `max` bytes.
    package static func path(max: Int) -> Expected {
        Expected("the absolute path of a file (at most \(max) bytes)", plain: false) { text in
            isAbsoluteFilePath(text, max: max) ? text : nil
        }
    }
}

extension Expected where Value == String? {
    /// The absolute path of a file, or `none`.
    package static var pathOrNone: Expected {
        Expected("none or the absolute path of a file (at most \(pathMax) bytes)", plain: false) { text in
            if text == "none" { return .some(nil) }
            return isAbsoluteFilePath(text, max: pathMax) ? .some(text) : .none
        }
    }
}

/// PATH_MAX without its NUL.
package let pathMax = 4095
/// The bytes of `sun_path` without its NUL: no Unix socket has a longer path.
package let socketPathMax = 107

package func isAbsoluteFilePath(_ text: String, max: Int) -> Bool {
    let bytes = text.utf8
    return bytes.first == UInt8(ascii: "/") && bytes.last != UInt8(ascii: "/") && bytes.count <= max
        && !bytes.contains(0)
}

/// The value of decimal digits without sign, space or leading zero; nil for all else and outside of `range`.
package func wholeNumber<Value: FixedWidthInteger>(_ text: String, in range: ClosedRange<Value>) -> Value? {
    let digits = text.utf8
    guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    if digits.count > 1, digits.first == 0x30 { return nil }
    guard let value = Value(text), range.contains(value) else { return nil }
    return value
}
