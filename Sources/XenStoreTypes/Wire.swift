// The wire's header and message types (specification, section A).
//
//     offset  size  meaning (all native-endian u32)
//     0       4     type
//     4       4     req_id: chosen by the client, copied into the reply; 0 in events
//     8       4     tx_id: a transaction of this connection, or 0; 0 in events
//     12      4     len: bytes of payload that follow, at most 4096

/// What a message asks or says. The raw value is the header's `type`.
public enum MessageType: UInt32, Sendable, CaseIterable {
    case control = 0
    case directory = 1
    case read = 2
    case getPermissions = 3
    case watch = 4
    case unwatch = 5
    case transactionStart = 6
    case transactionEnd = 7
    case introduce = 8
    case release = 9
    case getDomainPath = 10
    case write = 11
    case makeDirectory = 12
    case remove = 13
    case setPermissions = 14
    case watchEvent = 15
    case error = 16
    case isDomainIntroduced = 17
    case resume = 18
    case setTarget = 19
    case restrict = 20
    case resetWatches = 21
    case directoryPart = 22
    case getFeature = 23
    case setFeature = 24
    case getQuota = 25
    case setQuota = 26
}

/// A message's header, as the table at the top of this file has it.
public struct MessageHeader: Hashable, Sendable, BitwiseCopyable {
    public static let size = 16
    /// The most bytes of payload that a message may have, in either direction.
    public static let payloadMax = 4096

    public var type: UInt32
    public var requestID: UInt32
    public var transactionID: UInt32
    public var length: UInt32

    @inlinable public init(type: UInt32, requestID: UInt32, transactionID: UInt32, length: UInt32) {
        self.type = type
        self.requestID = requestID
        self.transactionID = transactionID
        self.length = length
    }

    /// Reads a header from the first 16 bytes of `bytes`, which must be that long.
    @inlinable public init(reading bytes: RawSpan) {
        type = bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self)
        requestID = bytes.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt32.self)
        transactionID = bytes.unsafeLoadUnaligned(fromByteOffset: 8, as: UInt32.self)
        length = bytes.unsafeLoadUnaligned(fromByteOffset: 12, as: UInt32.self)
    }
}
