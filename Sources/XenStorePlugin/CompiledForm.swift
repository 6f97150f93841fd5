// The compiled form of a policy: bytes that its module writes beside the daemon, and reads again in a kernel.
//
// Numbers are little-endian; a text is its length in bytes, u16, and UTF-8. What else there is, and in which
// order, is the module's affair.

/// Writes a form.
public struct FormWriter {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    public mutating func add<Number: FixedWidthInteger>(_ number: Number) {
        for shift in stride(from: 0, to: Number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> Number(shift)))
        }
    }

    public mutating func add(_ flag: Bool) { bytes.append(flag ? 1 : 0) }

    /// At most 65,535 bytes of it.
    public mutating func add(_ text: PlainText) {
        let kept = text.bytes.prefix(Int(UInt16.max))
        add(UInt16(kept.count))
        bytes.append(contentsOf: kept)
    }
}

/// Reads a form that may be anything: whatever is asked for is there, or the reading throws, by place.
public struct FormReader {
    private let bytes: [UInt8]
    /// How many have been read.
    public private(set) var position = 0

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// What is wrong where the last thing was read.
    public func mistake(_ expected: StaticString) -> PluginFailure {
        PluginFailure(text: "its compiled form, before byte \(UInt64(position)): expected \(expected)")
    }

    public mutating func number<Number: FixedWidthInteger & UnsignedInteger>(
        _: Number.Type = Number.self
    ) throws(PluginFailure) -> Number {
        let size = Number.bitWidth / 8
        if bytes.count - position < size { throw mistake("a number") }
        var number: Number = 0
        for offset in 0..<size { number |= Number(bytes[position + offset]) << Number(8 * offset) }
        position += size
        return number
    }

    /// A number that is at most `most`.
    public mutating func number<Number: FixedWidthInteger & UnsignedInteger>(
        upTo most: Number
    ) throws(PluginFailure) -> Number {
        let number = try number(Number.self)
        if number > most { throw mistake("a smaller number") }
        return number
    }

    public mutating func flag() throws(PluginFailure) -> Bool { try number(upTo: UInt8(1)) == 1 }

    /// How many of something follow, u32: at most `most`, and no more than there are bytes for, `size` each.
    public mutating func count(
        upTo most: Int, size: Int
    ) throws(PluginFailure) -> Int {
        let count = Int(try number(UInt32.self))
        if count > most || count > (bytes.count - position) / size { throw mistake("fewer of them") }
        return count
    }

    public mutating func text() throws(PluginFailure) -> PlainText {
        let count = Int(try number(UInt16.self))
        if bytes.count - position < count { throw mistake("a text of this length") }
        position += count
        return PlainText(bytes: Array(bytes[position - count..<position]))
    }

    /// Throws unless all of it has been read.
    public func end() throws(PluginFailure) {
        if position < bytes.count { throw mistake("the end") }
    }
}
