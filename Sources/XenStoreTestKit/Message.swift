// The wire as tests see it (specification, section A): whole messages, built and taken apart in the slow and obvious way.

import XenStoreTypes

/// One message of either direction. Nothing is validated: tests send wrong ones on purpose.
public struct Message: Hashable, Sendable {
    public var type: UInt32
    public var requestID: UInt32
    public var transactionID: UInt32
    public var payload: [UInt8]

    public init(type: UInt32, requestID: UInt32 = 0, transactionID: UInt32 = 0, payload: [UInt8] = []) {
        self.type = type
        self.requestID = requestID
        self.transactionID = transactionID
        self.payload = payload
    }

    public init(_ type: MessageType, requestID: UInt32 = 0, transaction: UInt32 = 0, _ payload: [UInt8] = [])
    {
        self.init(type: type.rawValue, requestID: requestID, transactionID: transaction, payload: payload)
    }

    /// The header and the payload as they go over the wire.
    public var bytes: [UInt8] {
        Message.header(type, requestID, transactionID, UInt32(payload.count)) + payload
    }

    /// Sixteen bytes of header, with a length that need not be true.
    public static func header(_ type: UInt32, _ request: UInt32, _ tx: UInt32, _ length: UInt32) -> [UInt8] {
        [type, request, tx, length].flatMap { word in withUnsafeBytes(of: word) { [UInt8]($0) } }
    }

    /// Removes the first whole message from `buffer`; nil, and nothing removed, if there is none yet.
    public static func take(from buffer: inout [UInt8]) -> Message? {
        guard buffer.count >= MessageHeader.size else { return nil }
        let header = MessageHeader(reading: buffer.span.bytes)
        let end = MessageHeader.size + Int(header.length)
        guard buffer.count >= end else { return nil }
        let message = Message(
            type: header.type, requestID: header.requestID, transactionID: header.transactionID,
            payload: [UInt8](buffer[MessageHeader.size..<end]))
        buffer.removeFirst(end)
        return message
    }

    /// The payload's strings: what stands before each NUL. A rest without a NUL is dropped.
    public var strings: [String] {
        var parts = payload.split(separator: 0, omittingEmptySubsequences: false)
        parts.removeLast()
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }

    /// The error name without its NUL, if this is an ERROR reply.
    public var errorName: String? { type == MessageType.error.rawValue ? strings.first ?? "" : nil }

    public var isEvent: Bool { type == MessageType.watchEvent.rawValue }
}

extension Message: CustomStringConvertible {
    /// `READ[tx 3] "/a|"`: NUL is printed as `|`, other unprintable bytes as `\xHH`, long payloads are cut.
    public var description: String {
        let name = MessageType(rawValue: type).map { "\($0)" } ?? "type \(type)"
        let tx = transactionID == 0 ? "" : "[tx \(transactionID)]"
        return "\(name)\(tx) \"\(Message.printable(payload))\""
    }

    /// Bytes for people, as in `description`.
    public static func printable(_ bytes: [UInt8]) -> String {
        var text = ""
        for byte in bytes.prefix(120) {
            switch byte {
            case 0: text += "|"
            case 0x20...0x7E: text.append(Character(UnicodeScalar(byte)))
            default: text += "\\x" + String(byte, radix: 16)
            }
        }
        return bytes.count > 120 ? text + "... \(bytes.count) bytes" : text
    }
}

extension [UInt8] {
    /// The strings' bytes, each with a NUL behind it: the payload of most requests.
    public init(strings: [String]) { self = strings.flatMap { Array($0.utf8) + [0] } }
}
