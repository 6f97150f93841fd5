// Bytes that live elsewhere: a request's payload, a name or a value in the store.
//
// One of the module's three files with unsafe pointers (with Arena.swift and ByteStore.swift). `Span` would
// say the same with its lifetime checked, but cannot be returned from a function or kept in a structure yet.

/// A bounds-checked view of bytes that somebody else owns; valid only until its owner changes.
struct Bytes: Equatable {
    let start: UnsafePointer<UInt8>
    let count: Int

    @inline(__always) init(start: UnsafePointer<UInt8>, count: Int) {
        self.start = start
        self.count = count
    }

    /// No bytes at all.
    static var empty: Bytes { Bytes(start: UnsafePointer(bitPattern: 1)!, count: 0) }

    /// The bytes of a text that the program itself contains.
    @inline(__always) init(_ text: StaticString) {
        self.init(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    @inline(__always) init(_ raw: UnsafeRawBufferPointer) {
        guard let start = raw.baseAddress else {
            self = .empty
            return
        }
        self.init(start: start.assumingMemoryBound(to: UInt8.self), count: raw.count)
    }

    @inline(__always) var raw: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    @inline(__always) var isEmpty: Bool { count == 0 }

    @inline(__always) subscript(_ index: Int) -> UInt8 {
        precondition(index >= 0 && index < count)
        return start[index]
    }

    /// The bytes from `lower` up to, not including, `upper`.
    @inline(__always) func slice(_ lower: Int, _ upper: Int) -> Bytes {
        precondition(lower >= 0 && lower <= upper && upper <= count)
        return Bytes(start: start + lower, count: upper - lower)
    }

    @inline(__always) func dropFirst(_ number: Int) -> Bytes { slice(number, count) }

    /// The native-endian number at `offset`.
    @inline(__always) func word(at offset: Int) -> UInt32 {
        precondition(offset >= 0 && offset + 4 <= count)
        return UnsafeRawPointer(start + offset).loadUnaligned(as: UInt32.self)
    }

    @inline(__always) static func == (left: Bytes, right: Bytes) -> Bool {
        let count = left.count
        if count != right.count { return false }
        if count < 4 {
            for index in 0..<count where left.start[index] != right.start[index] { return false }
            return true
        }
        // The last load may have bytes of the one before.
        if count < 8 {
            return left.word(at: 0) == right.word(at: 0)
                && left.word(at: count - 4) == right.word(at: count - 4)
        }
        var index = 0
        while index < count - 8 {
            if left.long(at: index) != right.long(at: index) { return false }
            index += 8
        }
        return left.long(at: count - 8) == right.long(at: count - 8)
    }

    /// How many bytes at the start are the same in both.
    @inline(__always) func sharedCount(_ other: Bytes) -> Int {
        let most = min(count, other.count)
        var index = 0
        while index + 8 <= most {
            let difference = long(at: index) ^ other.long(at: index)
            if difference != 0 { return index + difference.trailingZeroBitCount / 8 }
            index += 8
        }
        while index < most && start[index] == other.start[index] { index += 1 }
        return index
    }

    /// The eight bytes at `offset`, the first of them the lowest.
    @inline(__always) private func long(at offset: Int) -> UInt64 {
        UInt64(littleEndian: UnsafeRawPointer(start + offset).loadUnaligned(as: UInt64.self))
    }

    @inline(__always) func equals(_ text: StaticString) -> Bool { self == Bytes(text) }

    /// Where `byte` stands first, at `from` or later; nil if nowhere.
    @inline(__always) func firstIndex(of byte: UInt8, from: Int = 0) -> Int? {
        precondition(from >= 0)
        var index = from
        let repeated = 0x0101_0101_0101_0101 &* UInt64(byte)
        while index + 8 <= count {
            // The lowest bit that is set belongs to the first zero byte of the eight.
            let differing = long(at: index) ^ repeated
            let zeros = (differing &- 0x0101_0101_0101_0101) & ~differing & 0x8080_8080_8080_8080
            if zeros != 0 { return index + zeros.trailingZeroBitCount / 8 }
            index += 8
        }
        while index < count {
            if start[index] == byte { return index }
            index += 1
        }
        return nil
    }

    /// The number that these decimal digits write; nil if they are none, or it is over 2^32 - 1.
    var decimal: UInt32? { decimal64.flatMap { UInt32(exactly: $0) } }

    /// The number that at most 19 decimal digits write; nil if they are none.
    var decimal64: UInt64? {
        if isEmpty || count > 19 { return nil }
        var value: UInt64 = 0
        for index in 0..<count {
            let digit = start[index] &- 0x30
            if digit > 9 { return nil }
            value = value * 10 + UInt64(digit)
        }
        return value
    }

    /// A copy of its own.
    var array: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            buffer.baseAddress?.update(from: start, count: count)
            initialized = count
        }
    }

    @inline(__always) func withSpan<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        body(UnsafeBufferPointer(start: start, count: count).span)
    }
}

extension Span where Element == UInt8 {
    /// Calls `body` with these bytes as a view that is valid until it returns.
    @inline(__always) func withBytes<Result>(_ body: (Bytes) -> Result) -> Result {
        withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return body(.empty) }
            return body(Bytes(start: start, count: buffer.count))
        }
    }
}

extension Array where Element == UInt8 {
    /// Calls `body` with these bytes as a view that is valid until it returns.
    @inline(__always) func withBytes<Result>(_ body: (Bytes) -> Result) -> Result {
        withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return body(.empty) }
            return body(Bytes(start: start, count: buffer.count))
        }
    }

    @inline(__always) mutating func append(_ bytes: Bytes) {
        append(contentsOf: UnsafeBufferPointer(start: bytes.start, count: bytes.count))
    }

    /// Appends a number as it lies in this machine's memory.
    @inline(__always) mutating func append(word: UInt32) {
        Swift.withUnsafeBytes(of: word) { append(contentsOf: $0) }
    }

    /// Appends four numbers as they lie in this machine's memory.
    @inline(__always) mutating func append(words: (UInt32, UInt32, UInt32, UInt32)) {
        Swift.withUnsafeBytes(of: words) { append(contentsOf: $0) }
    }

    /// Overwrites the four bytes at `offset` with a number as it lies in this machine's memory.
    @inline(__always) mutating func set(word: UInt32, at offset: Int) {
        precondition(offset >= 0 && offset + 4 <= count)
        withUnsafeMutableBytes { $0.storeBytes(of: word, toByteOffset: offset, as: UInt32.self) }
    }

    /// Appends a number in decimal digits.
    mutating func append(decimal number: UInt64) {
        if number >= 10 { append(decimal: number / 10) }
        append(0x30 + UInt8(number % 10))
    }
}
