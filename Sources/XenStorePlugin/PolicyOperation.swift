// What policies are asked about. The table of what each is shown stands in xenstore_plugin.h.

/// An operation. The raw values up to 26 are the wire's message types.
public enum PolicyOperation: UInt32, Sendable, CaseIterable {
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
    /// A node that WRITE or MKDIR would bring about: the named one, or a missing parent.
    case create = 32
    /// A node that RM would remove: the named one, or one below it.
    case removeNode = 33
    /// A watch event; the subject is who watches.
    case event = 34
    /// A child in the answer of DIRECTORY.
    case listChild = 35
}

/// A set of operations.
public struct PolicyOperations: OptionSet, Hashable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// These operations.
    public init(_ operations: PolicyOperation...) {
        rawValue = 0
        for operation in operations { rawValue |= 1 << UInt64(operation.rawValue) }
    }

    public func contains(_ operation: PolicyOperation) -> Bool {
        rawValue & (1 << UInt64(operation.rawValue)) != 0
    }
}
