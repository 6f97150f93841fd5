// The core's only door to the world (design: "Server").

import XenStoreTypes

/// How grave a log line is. Ordered: `.error` is the least.
public enum LogLevel: UInt8, Sendable, Comparable {
    case error, warning, notice, info, debug

    @inlinable public static func < (left: LogLevel, right: LogLevel) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// What tells a domain apart from an earlier one of the same id.
public struct DomainIdentity: Hashable, Sendable {
    public var uniqueID: UInt64
    public init(uniqueID: UInt64) { self.uniqueID = uniqueID }
}

/// What the core must know or have done at once. The host, the simulation and the tests subclass it.
///
/// No method may call back into the server. The default answers are those of a host without a hypervisor.
open class World {
    public init() {}

    /// Whether domains can be introduced here. If not, INTRODUCE, RELEASE, RESUME and SET_TARGET answer
    /// EINVAL.
    open var hasHypervisor: Bool { false }

    /// The domain that has this id now, or nil if there is none. Without a hypervisor every id exists.
    open func domain(_ id: DomainID) -> DomainIdentity? {
        id.rawValue < DomainID.firstReserved ? DomainIdentity(uniqueID: 0) : nil
    }

    /// A line for the log: ASCII, no newline.
    open func log(_ level: LogLevel, _ line: Span<UInt8>) {}

    /// A line for the trace, only called while a trace switch is on.
    open func trace(_ line: Span<UInt8>) {}

    /// Sends the trace to another file from now on (CONTROL `logfile`).
    open func setTraceFile(_ path: Span<UInt8>) throws(ErrorName) { throw .inval }

    /// Writes a report to a file (CONTROL `memreport FILE`).
    open func writeReport(_ path: Span<UInt8>, _ text: Span<UInt8>) throws(ErrorName) { throw .inval }
}
