// The core's door to this kernel: domains and rings, the console as its log, and what memory is left.

import XenStore
import XenStoreTypes

final class KernelWorld: World {
    private let rings: Rings
    private let logLevel: LogLevel
    /// The domain of the ring that is there before we are: it is not reset.
    private let controlDomain: DomainID

    init(_ rings: Rings, logLevel: LogLevel, controlDomain: DomainID) {
        self.rings = rings
        self.logLevel = logLevel
        self.controlDomain = controlDomain
        super.init()
    }

    override var hasHypervisor: Bool { true }

    override func domain(_ id: DomainID) -> DomainIdentity? {
        id.rawValue < DomainID.firstReserved ? rings.hypervisor.domain(id) : nil
    }

    /// The frame number is not needed: the page is mapped by grant 1.
    override func attach(
        _ domain: DomainID, connection: ConnectionID, gfn: UInt64, port: UInt32, features: UInt32
    ) throws(ErrorName) {
        do throws(Failure) {
            try rings.attach(
                domain, connection, port: port, features: features, keeping: domain == controlDomain)
        } catch {
            throw report(error, domain)
        }
    }

    override func reattach(_ domain: DomainID, port: UInt32, features: UInt32) throws(ErrorName) {
        do throws(Failure) {
            try rings.reattach(domain, port: port, features: features)
        } catch {
            throw report(error, domain)
        }
    }

    private func report(_ failure: Failure, _ domain: DomainID) -> ErrorName {
        Console.beginLine("error")
        Console.put("cannot introduce domain ")
        Console.put(Int(domain.rawValue))
        Console.put(": ")
        failure.put()
        Console.endLine()
        return .inval
    }

    // MARK: Memory

    /// Of what there is at the start, guests may use four fifths and domain 0 nine tenths; the rest is for
    /// what removing needs, and what is on its way.
    private let allMemory = heap?.total ?? 0

    override var isMemoryBounded: Bool { true }

    /// Memory that the core will use again counts as free, as long as some of it is free indeed.
    override func memoryState(piece: Int, spare: Int) -> MemoryState {
        let free = (heap?.free ?? 0) - piece
        let largest = (heap?.largest() ?? 0) - piece
        if free + spare < allMemory / 10 || free < allMemory / 20 || largest < allMemory / 32 {
            return .exhausted
        }
        if free + spare < allMemory / 5 || free < allMemory / 10 { return .scarce }
        return .ample
    }

    /// So little is left that guests' rings are not read for now: even what waits to be answered takes some.
    var isStarved: Bool { (heap?.free ?? 0) < allMemory / 20 }

    override func detach(_ domain: DomainID) { rings.detach(domain) }

    override func log(_ level: LogLevel, _ line: Span<UInt8>) {
        if level > logLevel { return }
        Console.beginLine(level.text)
        line.withUnsafeBytes { Console.put($0) }
        Console.endLine()
    }

    override func trace(_ line: Span<UInt8>) {
        Console.beginLine("trace")
        line.withUnsafeBytes { Console.put($0) }
        Console.endLine()
    }
}

extension LogLevel {
    var text: StaticString {
        switch self {
        case .error: "error"
        case .warning: "warning"
        case .notice: "notice"
        case .info: "info"
        case .debug: "debug"
        }
    }
}
