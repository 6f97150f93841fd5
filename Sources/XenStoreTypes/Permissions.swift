// Node permissions (specification, section A, "Permissions").

/// What one permission entry allows.
public enum AccessMode: UInt8, Sendable, BitwiseCopyable {
    case none = 0
    case read = 1
    case write = 2
    case both = 3

    /// The wire's letter: `n`, `r`, `w` or `b`, as ASCII.
    @inlinable public var letter: UInt8 {
        switch self {
        case .none: 0x6E
        case .read: 0x72
        case .write: 0x77
        case .both: 0x62
        }
    }

    /// Nil for any byte that is not one of the four letters.
    @inlinable public init?(letter: UInt8) {
        switch letter {
        case 0x6E: self = .none
        case 0x72: self = .read
        case 0x77: self = .write
        case 0x62: self = .both
        default: return nil
        }
    }
}

/// One entry of a node's permission list: on the wire `[rwbn]<domid>`.
public struct Permission: Hashable, Sendable, BitwiseCopyable {
    public var domain: DomainID
    public var mode: AccessMode
    /// The entry grants nothing: its domain was unknown when it was set, or has died since.
    public var ignored: Bool

    @inlinable public init(_ mode: AccessMode, _ domain: DomainID, ignored: Bool = false) {
        self.domain = domain
        self.mode = mode
        self.ignored = ignored
    }
}
