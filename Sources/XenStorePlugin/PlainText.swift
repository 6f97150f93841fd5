// Text that is bytes and no more: what a policy that a kernel links says. Swift's own strings would bring
// more code along than such a policy has.

/// A text, written as a literal: `host.log(.notice, "domain \(number) may not" as PlainText)`.
public struct PlainText: ExpressibleByStringInterpolation, Hashable, Sendable {
    public struct StringInterpolation: StringInterpolationProtocol, Sendable {
        fileprivate var bytes: [UInt8] = []

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ text: String) { append(text) }
        public mutating func appendInterpolation(_ text: String) { append(text) }
        public mutating func appendInterpolation(_ text: PlainText) { bytes.append(contentsOf: text.bytes) }

        public mutating func appendInterpolation(_ text: StaticString) {
            appendInterpolation(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }

        public mutating func appendInterpolation(_ text: UnsafeRawBufferPointer) {
            bytes.append(contentsOf: text)
        }

        /// In decimal digits.
        public mutating func appendInterpolation(_ number: UInt64) {
            if number >= 10 { appendInterpolation(number / 10) }
            bytes.append(0x30 + UInt8(number % 10))
        }

        private mutating func append(_ text: String) { bytes.append(contentsOf: PlainText(text).bytes) }
    }

    /// UTF-8, if nobody has put other bytes in.
    public let bytes: [UInt8]

    public init(stringInterpolation: StringInterpolation) { bytes = stringInterpolation.bytes }
    public init(stringLiteral text: String) { self.init(text) }
    public init(bytes: [UInt8]) { self.bytes = bytes }

    public init(_ text: String) {
        var bytes: [UInt8] = []
        let isThere: Void? = text.utf8.withContiguousStorageIfAvailable { bytes.append(contentsOf: $0) }
        // But for strings of other systems' it is.
        precondition(isThere != nil)
        self.bytes = bytes
    }

    public var string: String { String(decoding: bytes, as: UTF8.self) }
}
