// A node as the tdb file keeps it (specification, section I), both ways.
//
// The key is the node's path without a NUL. The value, little-endian:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 8 | generation |
// | 8 | 4 | number of permissions, p |
// | 12 | 4 | bytes of the node's value, v |
// | 16 | 4 | bytes of the children's names, c |
// | 20 | 8p | permissions, the owner's first: u32 domain id, u32 bits (1 read, 2 write, 16 ignored) |
// | 20+8p | v | value |
// | 20+8p+v | c | the children's names, each with a NUL behind it |
// | 20+8p+v+c | 4 | slack: the size of the C struct counts its padding |
//
// A note (`StoreRecord`) is kept the same way, with no permissions and no children.

import XenStoreTypes

/// One record of the file, taken apart: a view, valid as long as the bytes that it was read from.
struct NodeRecord {
    static let headSize = 20
    static let slack = 4

    let generation: UInt64
    let value: UnsafeRawBufferPointer
    /// Each name with its NUL.
    let children: UnsafeRawBufferPointer
    /// 8 bytes each.
    let permissions: UnsafeRawBufferPointer

    var permissionCount: Int { permissions.count / 8 }

    /// Nil for what does not keep to the table: counts that do not add up, bits or domains that there are
    /// not, children without names. The slack may be missing.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headSize else { return nil }
        let p = Int(bytes.little(8, as: UInt32.self))
        let v = Int(bytes.little(12, as: UInt32.self))
        let c = Int(bytes.little(16, as: UInt32.self))
        // Each is below 2^32, so that the sum cannot overflow.
        let used = Self.headSize + 8 * p + v + c
        guard p <= 0xFFFF, bytes.count == used || bytes.count == used + Self.slack else { return nil }
        generation = bytes.little(0, as: UInt64.self)
        permissions = bytes.part(Self.headSize, 8 * p)
        value = bytes.part(Self.headSize + 8 * p, v)
        children = bytes.part(Self.headSize + 8 * p + v, c)
        for at in 0..<p where Self.permission(permissions, at) == nil { return nil }
        guard Self.areNames(children) else { return nil }
    }

    /// Nil where a domain's number is more than 16 bits, or a bit is set that has no meaning.
    private static func permission(_ list: UnsafeRawBufferPointer, _ at: Int) -> Permission? {
        let domain = list.little(8 * at, as: UInt32.self)
        let bits = list.little(8 * at + 4, as: UInt32.self)
        guard domain <= 0xFFFF, bits & ~UInt32(0x13) == 0, let mode = AccessMode(rawValue: UInt8(bits & 3))
        else { return nil }
        return Permission(mode, DomainID(UInt16(domain)), ignored: bits & 16 != 0)
    }

    private static func areNames(_ children: UnsafeRawBufferPointer) -> Bool {
        guard let last = children.last else { return true }
        var before: UInt8 = 0
        for byte in children {
            if byte == 0x2F || byte == 0 && before == 0 { return false }
            before = byte
        }
        return last == 0
    }

    /// Appends it to a batch of packed records.
    func append(to batch: inout [UInt8], key: UnsafeRawBufferPointer) {
        let permissions = permissions
        StoreRecord.append(
            to: &batch, .put, generation: generation, permissionCount: permissionCount, key: key,
            value: value
        ) { position in
            // Checked by `init`.
            Self.permission(permissions, position) ?? Permission(.none, DomainID(0))
        }
    }

    /// Calls `body` with each child's name.
    func forEachChild(_ body: (UnsafeRawBufferPointer) -> Void) { forEachName(in: children, body) }

    // MARK: Writing

    /// Puts the file's form of a `put` record in place of what is in `scratch`.
    static func encode(
        _ record: StoreRecord, children: UnsafeRawBufferPointer, into scratch: ByteBuffer
    ) {
        let p = record.permissionCount
        let size = headSize + 8 * p + record.value.count + children.count + slack
        scratch.removeAll()
        let at = scratch.extend(size)
        at.little(record.generation, 0)
        at.little(UInt32(p), 8)
        at.little(UInt32(record.value.count), 12)
        at.little(UInt32(children.count), 16)
        for position in 0..<p {
            let entry = record.permission(position) ?? Permission(.none, DomainID(0), ignored: true)
            let bits = UInt32(entry.mode.rawValue) | (entry.ignored ? 16 : 0)
            at.little(UInt32(entry.domain.rawValue), headSize + 8 * position)
            at.little(bits, headSize + 8 * position + 4)
        }
        var next = at + headSize + 8 * p
        next.copy(record.value)
        next += record.value.count
        next.copy(children)
        (next + children.count).little(UInt32(0), 0)
    }

    /// Puts this node with other children in place of what is in `scratch`, which holds none of its bytes.
    func encode(children: UnsafeRawBufferPointer, into scratch: ByteBuffer) {
        scratch.removeAll()
        let size = Self.headSize + permissions.count + value.count + children.count + Self.slack
        let at = scratch.extend(size)
        at.little(generation, 0)
        at.little(UInt32(permissionCount), 8)
        at.little(UInt32(value.count), 12)
        at.little(UInt32(children.count), 16)
        var next = at + Self.headSize
        for part in [permissions, value, children] {
            next.copy(part)
            next += part.count
        }
        next.little(UInt32(0), 0)
    }
}

/// Calls `body` with each name of a list as the file keeps it: each with a NUL behind it.
func forEachName(in names: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var start = 0
    for at in 0..<names.count where names[at] == 0 {
        body(names.part(start, at - start))
        start = at + 1
    }
}

/// Whether a key may be a node's: an absolute path of names that are not empty, or `@` and a name.
func isNodeKey(_ key: UnsafeRawBufferPointer) -> Bool {
    guard key.count >= 1, key.count <= StoreRecord.keyMax else { return false }
    if key[0] == 0x40 { return key.count > 1 && !key.contains(0) && !key.contains(0x2F) }
    guard key[0] == 0x2F else { return false }
    if key.count == 1 { return true }
    var before: UInt8 = 0
    for byte in key {
        if byte == 0 || byte == 0x2F && before == 0x2F { return false }
        before = byte
    }
    return before != 0x2F
}

/// The path above a node's: nil for `/` and for what is no path.
func parentPath(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard key.count > 1, key[0] == 0x2F, let slash = key.lastIndex(of: 0x2F) else { return nil }
    return key.part(0, max(slash, 1))
}

/// The last name of a path.
func lastName(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let start = (key.lastIndex(of: 0x2F) ?? -1) + 1
    return key.part(start, key.count - start)
}

extension UnsafeRawBufferPointer {
    func little<Number: FixedWidthInteger & BitwiseCopyable>(_ at: Int, as type: Number.Type) -> Number {
        Number(littleEndian: loadUnaligned(fromByteOffset: at, as: type))
    }
}

extension UnsafeMutableRawPointer {
    func little<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, _ at: Int) {
        storeBytes(of: number.littleEndian, toByteOffset: at, as: Number.self)
    }

    func copy(_ bytes: UnsafeRawBufferPointer) {
        guard let from = bytes.baseAddress else { return }
        copyMemory(from: from, byteCount: bytes.count)
    }
}
