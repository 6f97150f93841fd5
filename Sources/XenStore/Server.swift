import XenStoreTypes

public enum Subject: Hashable, Sendable {
    case domain(DomainID)
    case user(UInt32)
}
public struct ConnectionID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
}
public struct TraceSwitches: OptionSet, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let io = TraceSwitches(rawValue: 1)
    public static let obj = TraceSwitches(rawValue: 2)
    public static let wrl = TraceSwitches(rawValue: 4)
    public static let acc = TraceSwitches(rawValue: 8)
    public static let all: TraceSwitches = [.io, .obj, .wrl, .acc]
}
public enum QuotaName: UInt8, CaseIterable, Sendable {
    case nodes, watches, transactions, outstanding, transactionNodes, memory, nodeSize, pathMax, nodePermissions
    public var name: StaticString { "" }
    public init?(name: Span<UInt8>) { return nil }
}
public struct QuotaLimits: Equatable, Sendable {
    public init() {}
    public subscript(_ q: QuotaName) -> UInt32 { get { 0 } set {} }
    public var softMemory: UInt32 = 2_097_152
}
public struct ServerConfiguration: Sendable {
    public init() {}
    public var quotas = QuotaLimits()
    public var domain = DomainID.zero
    public var privilegedDomain = DomainID.zero
    public var hashSeed: (UInt64, UInt64) = (0, 0)
    public var snapshotMemory = 64 << 20
    public var socketOutputMax = 16 << 20
    public var tracing: TraceSwitches = []
}
public final class Server {
    public private(set) var configuration: ServerConfiguration
    public init(_ configuration: ServerConfiguration, world: World) { self.configuration = configuration }
    public func connect(_ subject: Subject, readOnly: Bool = false, isSocket: Bool = true) -> ConnectionID { .init(rawValue: 0) }
    public func disconnect(_ c: ConnectionID) {}
    public func receive(_ c: ConnectionID, _ bytes: Span<UInt8>) {}
    public func wantsInput(_ c: ConnectionID) -> Bool { true }
    public func mustClose(_ c: ConnectionID) -> Bool { false }
    public func nextChanged() -> ConnectionID? { nil }
    public func outputCount(_ c: ConnectionID) -> Int { 0 }
    public func withOutput<R>(_ c: ConnectionID, _ body: (Span<UInt8>) -> R) -> R { body([UInt8]().span) }
    public func sent(_ c: ConnectionID, _ count: Int) {}
    public func advance(to now: UInt64) {}
    public var nextDeadline: UInt64? { nil }
    public func checkInvariants() -> Int { 0 }
    public func setQuotas(_ limits: QuotaLimits) {}
    public func setTracing(_ switches: TraceSwitches) {}
    public var nodeCount: Int { 0 }
}
