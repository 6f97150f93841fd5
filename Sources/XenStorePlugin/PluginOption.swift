// The options of a module: which there are, and what the configuration says.

import CXenStorePlugin

/// One key that may stand in `options:` of the configuration. The daemon refuses every other.
public struct OptionDescription: Hashable, Sendable {
    public var name: String
    /// The default, as the file would have it; nil: it must be given.
    public var fallback: String?
    /// One line.
    public var meaning: String

    public init(_ name: String, fallback: String?, _ meaning: String) {
        self.name = name
        self.fallback = fallback
        self.meaning = meaning
    }
}

/// One option that the configuration gives.
public struct PluginOption: Hashable, Sendable {
    public var key: String
    /// The scalar's text, without quotes.
    public var value: String
    /// Where the value stands, `FILE:LINE:COLUMN`; where it is of no file, the file's or the tool's name.
    public var place: String

    public init(key: String, value: String, place: String) {
        self.key = key
        self.value = value
        self.place = place
    }

    /// The file that the value stands in, as `place` has it; nil: it is of none.
    public var file: String? {
        let parts = place.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count > 2, UInt32(parts[parts.count - 1]) != nil, UInt32(parts[parts.count - 2]) != nil
        else { return nil }
        return parts.dropLast(2).joined(separator: ":")
    }

    init(_ option: xenstore_option) {
        key = String(cString: option.key)
        value = String(cString: option.value)
        let file = option.file.map { String(cString: $0) } ?? ""
        place = option.line == 0 ? (file.isEmpty ? key : file) : "\(file):\(option.line):\(option.column)"
    }

    /// The value in double quotes, control characters escaped, at most 60 characters of it.
    var quotedValue: String {
        var text = "\""
        for (index, scalar) in value.unicodeScalars.enumerated() {
            if index == 60 {
                text += "..."
                break
            }
            switch scalar.value {
            case 0x22, 0x5C:
                text += "\\"
                text.unicodeScalars.append(scalar)
            case 0x00..<0x20, 0x7F..<0xA0: text += "\\u{" + String(scalar.value, radix: 16) + "}"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    static func all(_ options: UnsafePointer<xenstore_option>?, _ count: Int) -> [PluginOption] {
        UnsafeBufferPointer(start: options, count: count).map { PluginOption($0) }
    }
}

extension [PluginOption] {
    /// The option of this name, if the configuration gives it.
    public subscript(_ key: String) -> PluginOption? { first { $0.key == key } }
}
