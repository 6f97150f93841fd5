// The note in the tdb file that says which batch was the last to be written to it.
//
// Its key is byte 0x01 and "tdb-file"; its value, little-endian:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | version of what is ours in the file: 1 |
// | 4 | 4 | 0 |
// | 8 | 8 | the batch's number |
//
// A file without it is another xenstored's, and of batch 0.

import Glibc
import XenStorePlugin

enum Applied {
    static let version: UInt32 = 1
    nonisolated(unsafe) private static let keyBytes: ByteBuffer = {
        let key = ByteBuffer(capacity: 16)
        key.append(byte: 0x01)
        for byte in "tdb-file".utf8 { key.append(byte: byte) }
        return key
    }()
    private static var key: UnsafeRawBufferPointer { keyBytes.bytes }

    static func isKey(_ key: UnsafeRawBufferPointer) -> Bool { key.isEqual(to: self.key) }

    /// Nil where this is no such note; throws where it is of a newer daemon.
    static func decode(_ value: UnsafeRawBufferPointer, _ path: String) throws(PluginFailure) -> UInt64? {
        guard value.count >= 4 else { return nil }
        let found = value.little(0, as: UInt32.self)
        guard found <= version else {
            throw PluginFailure(
                "\(path): was written by a newer daemon (version \(found) of the file, expected \(version))",
                errno: EPROTO)
        }
        guard found == version, value.count == 16 else { return nil }
        return value.little(8, as: UInt64.self)
    }

    /// The note's number; nil if the file has none.
    static func read(from file: TDBFile) throws(PluginFailure) -> UInt64? {
        try file.fetch(key) { found throws(PluginFailure) in
            guard let found else { return nil }
            return try decode(found, file.path)
        }
    }

    /// In a transaction, together with what it tells of.
    static func write(_ sequence: UInt64, to file: TDBFile) throws(PluginFailure) {
        let value = ByteBuffer(capacity: 16)
        value.append(version)
        value.append(UInt32(0))
        value.append(sequence)
        try file.store(key, value.bytes, isNew: false)
    }
}
