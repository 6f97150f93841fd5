// Where tests take their choices from: a seed, or bytes that a fuzzer made up.

/// A stream of small decisions. The same stream makes the same test.
public protocol Choices {
    /// A number from 0 to `bound - 1`. `bound` must be positive.
    mutating func below(_ bound: Int) -> Int
}

extension Choices {
    /// True in `percent` of a hundred cases.
    public mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

    /// One of `items`, which must not be empty.
    public mutating func one<Item>(of items: [Item]) -> Item { items[below(items.count)] }
}

/// The generator of Steele, Lea and Flood: 64 bits of state, good enough for tests, equal on every machine.
public struct SplitMix64: RandomNumberGenerator, Choices, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

/// Choices read from a fuzzer's bytes: one byte each, two where the bound needs it; 0 when the bytes are used
/// up.
public struct ByteChoices: Choices {
    private let bytes: [UInt8]
    private var position = 0

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    public var isEmpty: Bool { position >= bytes.count }

    public mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        position += 1
        return bytes[position - 1]
    }

    public mutating func below(_ bound: Int) -> Int {
        var number = Int(byte())
        if bound > 256 { number = number << 8 | Int(byte()) }
        return number % bound
    }
}
