// The core's door to this host.

import Glibc
import XenStore
import XenStoreTypes

/// The world of a host: with a hypervisor its domains; without one every domain id exists, and none can be
/// introduced.
///
/// Whatever the core wants written is handed to the log's thread, so that no disk delays a reply.
class HostWorld: World {
    private let hostLog: Log
    private let rings: Rings?
    /// Has the configuration read again.
    var reload: () -> Void = {}
    /// Why the last ring could not be attached.
    private(set) var lastFailure: HypervisorFailure?

    /// `rings` are those of the host's hypervisor; nil: it has none.
    init(log: Log, rings: Rings? = nil) {
        hostLog = log
        self.rings = rings
        super.init()
    }

    override var hasHypervisor: Bool { rings != nil }

    override func domain(_ id: DomainID) -> DomainIdentity? {
        guard let rings else { return super.domain(id) }
        return rings.hypervisor.domain(id)
    }

    override func attach(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(ErrorName) {
        try attempt("introduce", domain) { rings throws(HypervisorFailure) in
            try rings.attach(domain, connection, gfn: gfn, port: port, features: features)
        }
    }

    override func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(ErrorName) {
        try attempt("introduce again", domain) { rings throws(HypervisorFailure) in
            try rings.reattach(domain, port: port, features: features)
        }
    }

    override func resume(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32,
        slot: RingSlot?, isActive: Bool
    ) throws(ErrorName) -> Bool {
        var isIntact = false
        try attempt("attach again", domain) { rings throws(HypervisorFailure) in
            isIntact = try rings.resume(
                domain, connection, gfn: gfn, port: port, features: features, slot: slot,
                isActive: isActive)
        }
        return isIntact
    }

    override func detach(_ domain: DomainID) { rings?.detach(domain) }

    /// Throws EINVAL where `body` fails, with the reason in the log.
    private func attempt(
        _ what: String, _ domain: DomainID, _ body: (Rings) throws(HypervisorFailure) -> Void
    ) throws(ErrorName) {
        guard let rings else { throw .inval }
        do throws(HypervisorFailure) {
            try body(rings)
        } catch {
            lastFailure = error
            hostLog.write(.error, "cannot \(what) domain \(domain.rawValue): \(error)")
            throw .inval
        }
    }

    override func log(_ level: LogLevel, _ line: Span<UInt8>) { hostLog.write(level, line) }

    override func reloadConfiguration() { reload() }

    override func trace(_ line: Span<UInt8>) { hostLog.trace(line) }

    /// Throws `.inval` unless `path` is absolute. That the file cannot be opened is seen later, and logged;
    /// the trace then stays where it was.
    override func setTraceFile(_ path: Span<UInt8>) throws(ErrorName) {
        guard hostLog.setTraceFile(try absolutePath(path)) else { throw .busy }
    }

    /// Throws `.inval` unless `path` is absolute. The file is there soon after; that it cannot be written
    /// is logged.
    override func writeReport(_ path: Span<UInt8>, _ text: Span<UInt8>) throws(ErrorName) {
        guard hostLog.report(try absolutePath(path), text) else { throw .busy }
    }

    private func absolutePath(_ bytes: Span<UInt8>) throws(ErrorName) -> String {
        guard !bytes.isEmpty, bytes[0] == UInt8(ascii: "/"), bytes.count < Int(PATH_MAX) else { throw .inval }
        for index in bytes.indices where bytes[index] == 0 { throw .inval }
        let path = bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        // What is no UTF-8 would name another file.
        guard path.utf8.count == bytes.count else { throw .inval }
        return path
    }
}
