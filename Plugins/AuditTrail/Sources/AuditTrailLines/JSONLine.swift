// One line of JSON in memory that somebody else keeps. Unsafe code: writes nowhere but into that memory.

/// Adds text to a line; what does not fit leaves it not whole.
public struct JSONLine {
    private let room: UnsafeMutableBufferPointer<UInt8>
    public private(set) var count = 0
    /// Everything that was added is there.
    public private(set) var isWhole = true

    public init(_ room: UnsafeMutableBufferPointer<UInt8>) { self.room = room }

    // MARK: Text

    mutating func add(byte: UInt8) {
        guard count < room.count else {
            isWhole = false
            return
        }
        room[count] = byte
        count += 1
    }

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        guard count + bytes.count <= room.count, let start = room.baseAddress else {
            isWhole = isWhole && bytes.isEmpty
            return
        }
        UnsafeMutableRawPointer(start + count).copyMemory(
            from: bytes.baseAddress ?? UnsafeRawPointer(start), byteCount: bytes.count)
        count += bytes.count
    }

    mutating func add(_ text: StaticString) {
        add(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    mutating func add(_ number: UInt64) {
        if number >= 10 { add(number / 10) }
        add(byte: 0x30 + UInt8(truncatingIfNeeded: number % 10))
    }

    /// The number's last `digits` digits.
    mutating func add(_ number: UInt64, digits: Int) {
        if digits > 1 { add(number / 10, digits: digits - 1) }
        add(byte: 0x30 + UInt8(truncatingIfNeeded: number % 10))
    }

    // MARK: JSON

    /// `,"name":`
    mutating func key(_ name: StaticString) {
        add(",\"")
        add(name)
        add("\":")
    }

    /// Bytes that anybody may have chosen: a string where they are UTF-8, else `{"hex":"00ff"}`.
    mutating func value(_ bytes: UnsafeRawBufferPointer) {
        if isPlain(bytes) {
            add(byte: 0x22)
            add(bytes)
            return add(byte: 0x22)
        }
        guard isUTF8(bytes) else {
            add("{\"hex\":\"")
            for byte in bytes {
                add(byte: Self.digit(byte >> 4))
                add(byte: Self.digit(byte & 15))
            }
            return add("\"}")
        }
        add(byte: 0x22)
        var plain = 0
        for (index, byte) in bytes.enumerated()
        where byte < 0x20 || byte == 0x22 || byte == 0x5C || byte == 0x7F {
            add(UnsafeRawBufferPointer(rebasing: bytes[plain..<index]))
            plain = index + 1
            if byte == 0x22 || byte == 0x5C {
                add(byte: 0x5C)
                add(byte: byte)
            } else {
                add("\\u00")
                add(byte: Self.digit(byte >> 4))
                add(byte: Self.digit(byte & 15))
            }
        }
        add(UnsafeRawBufferPointer(rebasing: bytes[plain...]))
        add(byte: 0x22)
    }

    private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }
}

/// Whether they are ASCII that a string may have as it is.
private func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var special: UInt8 = 0
    for byte in bytes {
        special |= (byte &- 0x20 >= 0x5F ? 1 : 0) | (byte == 0x22 ? 1 : 0) | (byte == 0x5C ? 1 : 0)
    }
    return special == 0
}

/// Whether they are well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while index < bytes.count {
        let lead = bytes[index]
        index += 1
        if lead < 0x80 { continue }
        // How many bytes follow, and between which the first of them lies.
        let (following, low, high): (Int, UInt8, UInt8) =
            switch lead {
            case 0xC2...0xDF: (1, 0x80, 0xBF)
            case 0xE0: (2, 0xA0, 0xBF)
            case 0xED: (2, 0x80, 0x9F)
            case 0xE1...0xEF: (2, 0x80, 0xBF)
            case 0xF0: (3, 0x90, 0xBF)
            case 0xF1...0xF3: (3, 0x80, 0xBF)
            case 0xF4: (3, 0x80, 0x8F)
            default: (0, 0, 0)
            }
        guard following > 0, bytes.count - index >= following, low...high ~= bytes[index] else {
            return false
        }
        for next in index + 1..<index + following where bytes[next] & 0xC0 != 0x80 { return false }
        index += following
    }
    return true
}
