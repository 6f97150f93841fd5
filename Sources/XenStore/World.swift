// The core's only door to the world (design: "Server").

import XenStoreTypes

/// How grave a log line is. Ordered: `.error` is the least.
public enum LogLevel: UInt8, Sendable, Comparable {
    case error, warning, notice, info, debug

    @inlinable public static func < (left: LogLevel, right: LogLevel) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// What is known of a domain that exists.
public struct DomainIdentity: Hashable, Sendable, BitwiseCopyable {
    /// Tells the domain from every earlier and later one of the same number.
    public var uniqueID: UInt64
    /// It has shut itself down or crashed, and is still there.
    public var isShutdown: Bool
    /// It is being destroyed and will never run again.
    public var isDying: Bool

    public init(uniqueID: UInt64, isShutdown: Bool = false, isDying: Bool = false) {
        self.uniqueID = uniqueID
        self.isShutdown = isShutdown
        self.isDying = isDying
    }
}

/// What is left of a host's memory.
public enum MemoryState: Sendable {
    /// Everybody may have more.
    case ample
    /// Only the control domain may.
    case scarce
    /// What is left is for removing.
    case exhausted
}

/// What the core must know or have done at once. The host, the simulation and the tests subclass it.
///
/// No method may call back into the server. The default answers are those of a host without a hypervisor.
open class World {
    public init() {}

    /// Whether domains can be introduced here. If not, INTRODUCE, RELEASE, RESUME and SET_TARGET answer
    /// EINVAL.
    open var hasHypervisor: Bool { false }

    /// Whether memory is so bounded that `memoryState` has to be asked. Never changes.
    open var isMemoryBounded: Bool { false }

    /// What is left of the memory, if `piece` bytes of it may be needed at once, and `spare` bytes that are
    /// in use will be used for other things first.
    open func memoryState(piece: Int, spare: Int) -> MemoryState { .ample }

    /// The domain that has this id now, or nil if there is none. Without a hypervisor every id exists.
    open func domain(_ id: DomainID) -> DomainIdentity? {
        id.rawValue < DomainID.firstReserved ? DomainIdentity(uniqueID: 0) : nil
    }

    /// Makes a domain's ring known to the host, which from then on hands what it brings to `connection`: maps
    /// the page (grant 1, else `gfn`), binds the event channel (the page's own port if it has one, else
    /// `port`), writes `features`, resets the ring, confirms a reconnection that was asked for, and signals
    /// (specification, section B). Throws with nothing left behind, and the reason in the log.
    open func attach(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(ErrorName) { throw .inval }

    /// The same for a domain that is attached: unbinds, binds anew, resets the ring. If it throws, the ring
    /// is as good as deactivated.
    open func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(ErrorName) { throw .inval }

    /// As `attach`, for a domain that an earlier daemon had attached (specification, section B, "Start of the
    /// daemon"): the ring is not reset, but both indexes are brought to where `slot` says that they were to
    /// be; nil: to where they are. `isActive` false: the guest has broken its ring, and nothing is moved.
    ///
    /// Answers false where the guest has begun its ring anew in the meantime: what was kept of its streams
    /// counts no more.
    open func resume(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32,
        slot: RingSlot?, isActive: Bool
    ) throws(ErrorName) -> Bool { throw .inval }

    /// Unmaps and unbinds at once: a mapping keeps a dead domain from going away. The connection is gone.
    open func detach(_ domain: DomainID) {}

    /// A line for the log: ASCII, no newline.
    open func log(_ level: LogLevel, _ line: Span<UInt8>) {}

    /// A line for the trace, only called while a trace switch is on.
    open func trace(_ line: Span<UInt8>) {}

    /// Has the configuration and the policies read again, without waiting for that (CONTROL `reload`).
    open func reloadConfiguration() {}

    /// Sends the trace to another file from now on (CONTROL `logfile`).
    open func setTraceFile(_ path: Span<UInt8>) throws(ErrorName) { throw .inval }

    /// Writes a report to a file (CONTROL `memreport FILE`).
    open func writeReport(_ path: Span<UInt8>, _ text: Span<UInt8>) throws(ErrorName) { throw .inval }
}
