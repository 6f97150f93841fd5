// Domain ids, as Xen numbers them.

/// A Xen domain's number. Ids are reused after a domain's death.
public struct DomainID: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt16) { self.rawValue = rawValue }

    /// The control domain, unless configured otherwise.
    public static let zero = DomainID(0)
    /// The first id that no domain can have (DOMID_FIRST_RESERVED): all from here on have special meanings.
    public static let firstReserved: UInt16 = 0x7FF0
    /// "Myself" (DOMID_SELF), in requests that take a domain id.
    public static let me = DomainID(0x7FF0)
    /// "Any domain" in a permission entry (DOMID_ANY, 32757).
    public static let any = DomainID(0x7FF5)
}
