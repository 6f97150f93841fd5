// The world of a test: which domains exist is said by the test, and what the server logs is kept.

import XenStore
import XenStoreTypes

/// The shared pages behind a `TestWorld`, if a test has any.
protocol RingMachine: AnyObject {
    func attached(_ domain: DomainID, _ connection: ConnectionID)
    func reattached(_ domain: DomainID, hasFailed: Bool)
    func resumed(_ domain: DomainID, _ connection: ConnectionID, _ slot: RingSlot?, isActive: Bool) -> Bool
    func detached(_ domain: DomainID)
}

/// A `World` without a machine.
public final class TestWorld: World {
    /// A line that the server logged.
    public struct Line: Sendable {
        public var level: LogLevel
        public var text: String
    }

    /// The domains that exist; nil: all of them, as on a host without a hypervisor.
    public var domains: [DomainID: DomainIdentity]?
    /// What INTRODUCE and its like need. Off, they answer EINVAL.
    public var canIntroduce = false
    /// What `attach` and `reattach` throw; nil: they succeed.
    public var attachFailure: ErrorName?
    /// What is left of the memory; nil, when the server is made: it is not bounded.
    public var memory: MemoryState?
    /// Who keeps the pages of rings.
    weak var machine: (any RingMachine)?
    /// The rings that are attached.
    public private(set) var rings: [DomainID: ConnectionID] = [:]
    /// How often each domain's ring was reset, also by a `reattach` that failed.
    public private(set) var beginnings: [DomainID: Int] = [:]
    /// What was attached, reattached and detached, oldest first.
    public private(set) var attachments: [String] = []
    private var lastUniqueID: UInt64 = 1 << 32
    /// What was logged, oldest first. The test may empty it.
    public var lines: [Line] = []
    /// What was traced, oldest first.
    public var traced: [String] = []
    /// Reports written, by path (CONTROL `memreport FILE`).
    public var reports: [String: String] = [:]
    /// The trace files asked for, in order (CONTROL `logfile`). `/refused` is refused with EIO.
    public var traceFiles: [String] = []

    /// The ids that exist, each with a unique id of its own.
    public convenience init(domains: [UInt16]) {
        self.init()
        self.domains = [:]
        for id in domains { self.domains?[DomainID(id)] = DomainIdentity(uniqueID: 1000 + UInt64(id)) }
    }

    public override var hasHypervisor: Bool { canIntroduce }

    public override var isMemoryBounded: Bool { memory != nil }
    public override func memoryState(piece: Int, spare: Int) -> MemoryState { memory ?? .ample }

    public override func domain(_ id: DomainID) -> DomainIdentity? {
        guard let domains else { return super.domain(id) }
        return domains[id]
    }

    /// A domain of this number that is none of the earlier ones.
    public func create(_ number: UInt16) {
        lastUniqueID += 1
        domains?[DomainID(number)] = DomainIdentity(uniqueID: lastUniqueID)
    }

    public override func attach(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(ErrorName) {
        precondition(rings[domain] == nil, "a ring that is attached is attached")
        if let attachFailure { throw attachFailure }
        rings[domain] = connection
        beginnings[domain, default: 0] += 1
        machine?.attached(domain, connection)
        attachments.append("attach \(domain.rawValue) gfn \(gfn) port \(port) features \(features)")
    }

    public override func reattach(
        _ domain: DomainID, port: UInt32, features: UInt32
    ) throws(ErrorName) {
        precondition(rings[domain] != nil, "a ring that is not attached is attached again")
        beginnings[domain, default: 0] += 1
        machine?.reattached(domain, hasFailed: attachFailure != nil)
        if let attachFailure { throw attachFailure }
        attachments.append("reattach \(domain.rawValue) port \(port) features \(features)")
    }

    public override func resume(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32,
        slot: RingSlot?, isActive: Bool
    ) throws(ErrorName) -> Bool {
        precondition(rings[domain] == nil, "a ring that is attached is attached")
        if let attachFailure { throw attachFailure }
        rings[domain] = connection
        attachments.append("resume \(domain.rawValue) gfn \(gfn) port \(port) features \(features)")
        return machine?.resumed(domain, connection, slot, isActive: isActive) ?? true
    }

    /// The daemon has ended without a word: nothing is attached any more.
    public func forgetRings() { rings = [:] }

    /// The domain's guest has reset its ring, or broken it.
    public func noteBeginning(_ domain: DomainID) { beginnings[domain, default: 0] += 1 }

    public override func detach(_ domain: DomainID) {
        precondition(rings[domain] != nil, "a ring that is not attached is detached")
        rings[domain] = nil
        machine?.detached(domain)
        attachments.append("detach \(domain.rawValue)")
    }

    public override func log(_ level: LogLevel, _ line: Span<UInt8>) {
        lines.append(Line(level: level, text: text(line)))
    }

    public override func trace(_ line: Span<UInt8>) { traced.append(text(line)) }

    public override func setTraceFile(_ path: Span<UInt8>) throws(ErrorName) {
        let name = text(path)
        if name == "/refused" { throw .io }
        traceFiles.append(name)
    }

    public override func writeReport(_ path: Span<UInt8>, _ report: Span<UInt8>) throws(ErrorName) {
        reports[text(path)] = text(report)
    }

    private func text(_ bytes: Span<UInt8>) -> String {
        String(decoding: [UInt8](copying: bytes), as: UTF8.self)
    }
}

extension [UInt8] {
    /// The span's bytes.
    public init(copying span: Span<UInt8>) { self = span.withUnsafeBufferPointer { [UInt8]($0) } }
}
