// What a store backend keeps: records, as bytes (design, "Backends").
//
// A batch is records one after another. A record, in the machine's byte order:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | bytes of the whole record, a multiple of 8, with what is left to that zero |
// | 4 | 1 | kind: 1 put, 2 remove |
// | 5 | 1 | 0 |
// | 6 | 2 | number of permissions, p; 0 if it removes, or the key is no path |
// | 8 | 2 | bytes of the key, k: 1 to 3072 |
// | 10 | 2 | 0 |
// | 12 | 4 | bytes of the value, v; 0 if it removes |
// | 16 | 8 | generation: the number of the change that made it so |
// | 24 | 4p | permissions, the owner first: u16 domain id, u8 mode (1 read, 2 write), u8 flags (1 ignored) |
// | 24+4p | k | key |
// | 24+4p+k | v | value |
//
// A key is a node's absolute path (`/a/b`, `@releaseDomain`), or, for what is no node (a *note*), byte 0x01
// and a name. The later of two records of one key counts.

/// One record of a batch: a view, valid as long as the bytes that it was read from.
public struct StoreRecord {
    public enum Kind: UInt8, Sendable {
        case put = 1
        case remove = 2
    }

    public static var headSize: Int { 24 }
    /// The first byte of a note's key.
    public static var noteMark: UInt8 { 0x01 }
    public static var keyMax: Int { 3072 }

    /// The whole record.
    public let bytes: UnsafeRawBufferPointer
    public let kind: Kind
    public let generation: UInt64
    public let permissionCount: Int
    private let keyCount: Int
    private let valueCount: Int

    /// The record at the start of `bytes`; nil if there is none that keeps to the layout.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headSize else { return nil }
        let size = Int(bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
        guard size <= bytes.count, size & 7 == 0,
            let kind = Kind(rawValue: bytes.loadUnaligned(fromByteOffset: 4, as: UInt8.self))
        else { return nil }
        permissionCount = Int(bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        keyCount = Int(bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self))
        valueCount = Int(bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        let used = Self.headSize + 4 * permissionCount + keyCount + valueCount
        guard keyCount >= 1, keyCount <= Self.keyMax, Self.padded(used) == size else { return nil }
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes[..<size])
        self.kind = kind
        generation = bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
    }

    public var key: UnsafeRawBufferPointer {
        let start = Self.headSize + 4 * permissionCount
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + keyCount])
    }

    public var value: UnsafeRawBufferPointer {
        let start = Self.headSize + 4 * permissionCount + keyCount
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + valueCount])
    }

    public var isNote: Bool { key[0] == Self.noteMark }

    /// The permission at a position below `permissionCount`; nil if its mode is none.
    public func permission(_ position: Int) -> Permission? {
        precondition(position >= 0 && position < permissionCount)
        let at = Self.headSize + 4 * position
        guard let mode = AccessMode(rawValue: bytes[at + 2]) else { return nil }
        let domain = bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)
        return Permission(mode, DomainID(domain), ignored: bytes[at + 3] & 1 != 0)
    }

    /// Calls `body` with each record of a batch, in order. False: what follows the last one is no record.
    public static func forEach<E>(
        in batch: UnsafeRawBufferPointer, _ body: (StoreRecord) throws(E) -> Void
    ) throws(E) -> Bool {
        var rest = batch
        while !rest.isEmpty {
            guard let record = StoreRecord(rest) else { return false }
            try body(record)
            rest = UnsafeRawBufferPointer(rebasing: rest[record.bytes.count...])
        }
        return true
    }

    @inlinable static func padded(_ count: Int) -> Int { (count + 7) & ~7 }

    // MARK: Writing

    /// Appends a record to a batch. `permissions` calls its argument with each entry, the owner's first.
    @inlinable public static func append(
        to batch: inout [UInt8], _ kind: Kind, generation: UInt64, permissionCount: Int,
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer,
        permission: (Int) -> Permission
    ) {
        precondition(key.count >= 1 && key.count <= keyMax && permissionCount <= 0xFFFF)
        let used = headSize + 4 * permissionCount + key.count + value.count
        let size = padded(used)
        // Few appends: they are most of what a record costs.
        let head = (
            UInt32(truncatingIfNeeded: size), kind.rawValue, UInt8(0), UInt16(permissionCount),
            UInt16(key.count), UInt16(0), UInt32(value.count), generation
        )
        append(head, to: &batch)
        for position in 0..<permissionCount {
            let entry = permission(position)
            append((entry.domain.rawValue, entry.mode.rawValue, UInt8(entry.ignored ? 1 : 0)), to: &batch)
        }
        batch.append(contentsOf: key)
        batch.append(contentsOf: value)
        withUnsafeBytes(of: UInt64(0)) { zeros in
            batch.append(contentsOf: UnsafeRawBufferPointer(rebasing: zeros[..<(size - used)]))
        }
    }

    @inlinable static func append<Number: BitwiseCopyable>(_ number: Number, to batch: inout [UInt8]) {
        withUnsafeBytes(of: number) { batch.append(contentsOf: $0) }
    }
}
