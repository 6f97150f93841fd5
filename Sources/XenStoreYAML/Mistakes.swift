// What is wrong with a configuration, said so that it can be put right: where, what was found, what was
// expected.
//
// One line a mistake, in the order of the file:
//
//     FILE:LINE:COLUMN: found X, expected Y
//
// LINE and COLUMN count from 1, COLUMN in characters. They are absent where a mistake has no place in a file
// (it cannot be read, or an environment variable is wrong). Text of the file is quoted with its control
// characters escaped and its length bounded, so that a hostile file cannot write to the reader's terminal.

/// A position in a configuration file. Both count from 1; `column` counts characters.
public struct Place: Hashable, Sendable, Comparable {
    public var line: Int
    public var column: Int

    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    public static func < (left: Place, right: Place) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}

/// One thing that is wrong. Its description is one line, as the top of this file has it, without a newline.
public struct ConfigurationMistake: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file as it was named, or the environment variable.
    public var file: String
    /// Nil where no single place is to blame.
    public var place: Place?
    /// `found X, expected Y`.
    public var text: String

    public init(file: String, place: Place? = nil, text: String) {
        self.file = file
        self.place = place
        self.text = text
    }

    public var description: String {
        guard let place else { return "\(file): \(text)" }
        return "\(file):\(place.line):\(place.column): \(text)"
    }
}

/// All that is wrong with a configuration; never empty. The description is one line a mistake.
public struct ConfigurationMistakes: Error, Equatable, Sendable, CustomStringConvertible {
    public let all: [ConfigurationMistake]

    package init(all: [ConfigurationMistake]) { self.all = all }

    /// The one mistake is that of a file, or an environment variable, as a whole.
    package init(file: String, text: String) {
        all = [ConfigurationMistake(file: file, text: text)]
    }

    public var description: String {
        all.map(\.description).joined(separator: "\n")
    }
}

/// Collects mistakes while a file is read. Keeps the first `MistakeList.max` and counts the others.
package struct MistakeList {
    /// Enough to repair a file with; few enough that a file of nothing but mistakes costs little.
    package static let max = 50

    package let file: String
    private var kept: [ConfigurationMistake] = []
    private var count = 0

    package init(file: String) { self.file = file }

    package var isEmpty: Bool { count == 0 }

    /// `text` is made only if it is kept.
    package mutating func add(_ place: Place?, _ text: @autoclosure () -> String) {
        count += 1
        if kept.count < Self.max {
            kept.append(ConfigurationMistake(file: file, place: place, text: text()))
        }
    }

    package mutating func add(
        _ place: Place, found: @autoclosure () -> String, expected: @autoclosure () -> String
    ) {
        add(place, "found \(found()), expected \(expected())")
    }

    /// Everything added, in the order of the file; nil if nothing was.
    package var all: ConfigurationMistakes? {
        if isEmpty { return nil }
        var sorted = kept.sorted { left, right in
            (left.place ?? Place(line: 0, column: 0)) < (right.place ?? Place(line: 0, column: 0))
        }
        if count > kept.count {
            sorted.append(ConfigurationMistake(file: file, text: "\(count - kept.count) more mistakes"))
        }
        return ConfigurationMistakes(all: sorted)
    }
}

/// `text` in double quotes, at most 60 characters of it, with `\`, `"` and everything that could move a
/// terminal's cursor or turn its text around escaped.
package func quoted(_ text: String) -> String {
    var result = "\""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == 60 {
            result += "..."
            break
        }
        switch scalar.value {
        case 0x22, 0x5C:
            result += "\\"
            result.unicodeScalars.append(scalar)
        case 0x0A: result += "\\n"
        case 0x00..<0x20, 0x7F..<0xA0, 0x200B..<0x2010, 0x2028..<0x202F, 0x2060..<0x2070, 0xFEFF:
            result += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// `a`, `a or b`, `a, b or c`.
package func alternatives(_ names: [String]) -> String {
    guard let last = names.last, names.count > 1 else { return names.first ?? "" }
    return names.dropLast().joined(separator: ", ") + " or " + last
}
