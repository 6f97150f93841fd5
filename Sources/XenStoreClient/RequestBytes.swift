// Requests as bytes (specification, section A).

import XenStoreTypes

/// Puts requests together and takes them apart.
enum RequestBytes {
    /// Header and payload; the payload has at most 4096 bytes.
    static func message(_ type: MessageType, id: UInt32, transaction: UInt32, _ payload: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(MessageHeader.size + payload.count)
        for word in [type.rawValue, id, transaction, UInt32(payload.count)] {
            withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
        }
        bytes.append(contentsOf: payload)
        return bytes
    }

    /// How many bytes the message has that `bytes` begins with.
    static func count(ofFirstIn bytes: Span<UInt8>) -> Int {
        MessageHeader.size + Int(MessageHeader(reading: bytes.bytes).length)
    }

    /// The request id of the message that `bytes` begins with.
    static func requestID(ofFirstIn bytes: Span<UInt8>) -> UInt32 {
        MessageHeader(reading: bytes.bytes).requestID
    }

    /// The strings with a NUL behind each; nil if one of them holds a NUL, which would say something else.
    static func strings(_ strings: [String]) -> [UInt8]? {
        var bytes: [UInt8] = []
        for string in strings {
            if string.utf8.contains(0) { return nil }
            bytes.append(contentsOf: string.utf8)
            bytes.append(0)
        }
        return bytes
    }

    /// What stands before each NUL, and behind the last one if anything does.
    static func split(_ payload: [UInt8]) -> [String] {
        var parts = payload.split(separator: 0, omittingEmptySubsequences: false)
        if parts.last?.isEmpty == true { parts.removeLast() }
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }
}
