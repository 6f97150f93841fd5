// Reading the sessions back (SessionRecords.swift). Every length and number is checked: the file may be
// anybody's.

import XenStoreTypes

/// The sessions as a journal's frames leave them.
public struct SessionImage {
    struct WatchRecord: Equatable {
        var path: [UInt8]
        var token: [UInt8]
        var depth: UInt16
        var homeCount: UInt16
    }

    struct Domain {
        var isIntroduced = false
        var isShutdown = false
        var isDeactivated = false
        var uniqueID: UInt64 = 0
        var gfn: UInt64 = 0
        var port: UInt32 = 0
        var features: UInt32 = Server.features
        var target: DomainID?
        var nextTransaction: UInt32 = 1
        var ownLimits: UInt16 = 0
        var limits: [UInt32] = []
        /// In the order in which they were set; nil: removed again. `watchPositions` finds them.
        var watches: [WatchRecord?] = []
        var watchPositions: [[UInt8]: Int] = [:]
        var transactions: [UInt32] = []
        var slot: RingSlot?
        var input: [UInt8] = []
        var output: [UInt8] = []
    }

    /// Bytes of input and of one frame's output that a ring may have: far more than it ever has.
    private static let bufferMax = 64 << 20

    var domains: [UInt16: Domain] = [:]
    var quotas: [QuotaName: UInt32] = [:]
    /// Which boot of the host it is of; empty: not known.
    public private(set) var boot: [UInt8] = []

    public init() {}

    public var domainCount: Int { domains.values.reduce(0) { $1.isNothing ? $0 : $0 + 1 } }

    /// Takes the next frame. False: it is none, and what follows cannot be understood either; what came
    /// before stands.
    public mutating func add(_ frame: Span<UInt8>) -> Bool {
        frame.withBytes { all in
            var rest = all
            while !rest.isEmpty {
                guard rest.count >= Sessions.headSize else { return false }
                let size = Int(rest.word(at: 0))
                guard size >= Sessions.headSize, size <= rest.count else { return false }
                let head = rest.word(at: 4)
                guard let kind = SessionKind(rawValue: UInt8(truncatingIfNeeded: head)),
                    add(
                        kind, flags: UInt8(truncatingIfNeeded: head >> 8),
                        UInt16(truncatingIfNeeded: head >> 16), rest.slice(Sessions.headSize, size))
                else { return false }
                rest = rest.dropFirst(size)
            }
            return true
        }
    }

    private mutating func add(
        _ kind: SessionKind, flags: UInt8, _ number: UInt16, _ body: Bytes
    ) -> Bool {
        if number >= DomainID.firstReserved { return false }
        switch kind {
        case .domain: return addDomain(flags, number, body)
        case .ended: domains[number] = nil
        case .watch, .unwatch: return addWatch(kind == .watch, number, body)
        case .transaction, .transactionEnd: return addTransaction(kind == .transaction, number, body)
        case .ring: return addRing(flags, number, body)
        case .reset:
            domains[number]?.watches = []
            domains[number]?.watchPositions = [:]
            domains[number]?.transactions = []
            domains[number]?.slot = nil
            domains[number]?.input = []
            domains[number]?.output = []
        case .quota:
            guard body.count == 8, let raw = UInt8(exactly: body.word(at: 0)),
                let quota = QuotaName(rawValue: raw)
            else { return false }
            quotas[quota] = body.word(at: 4)
        case .boot:
            self = SessionImage()
            boot = body.array
        }
        return true
    }

    private static func long(_ body: Bytes, at offset: Int) -> UInt64 {
        UInt64(body.word(at: offset)) | UInt64(body.word(at: offset + 4)) << 32
    }

    private mutating func addDomain(_ flags: UInt8, _ number: UInt16, _ body: Bytes) -> Bool {
        guard body.count == 36 + 4 * QuotaName.allCases.count else { return false }
        var domain = domains[number] ?? Domain()
        domain.isIntroduced = flags & 1 != 0
        domain.isShutdown = flags & 2 != 0
        domain.isDeactivated = flags & 4 != 0
        domain.uniqueID = Self.long(body, at: 0)
        domain.gfn = Self.long(body, at: 8)
        domain.port = body.word(at: 16)
        domain.features = body.word(at: 20)
        domain.target = UInt16(exactly: body.word(at: 24)).map { DomainID($0) }
        domain.nextTransaction = body.word(at: 28)
        domain.ownLimits = UInt16(truncatingIfNeeded: body.word(at: 32))
        domain.limits = QuotaName.allCases.indices.map { body.word(at: 36 + 4 * $0) }
        domains[number] = domain
        return true
    }

    private mutating func addWatch(_ isSet: Bool, _ number: UInt16, _ body: Bytes) -> Bool {
        guard body.count >= 8 else { return false }
        let pathCount = Int(body.word(at: 4) & 0xFFFF)
        let tokenCount = Int(body.word(at: 4) >> 16)
        guard body.count == 8 + pathCount + tokenCount, pathCount > 0 else { return false }
        let path = body.slice(8, 8 + pathCount).array
        let token = body.dropFirst(8 + pathCount).array
        // No path has a NUL in it.
        let key = path + [0] + token
        if isSet {
            let watch = WatchRecord(
                path: path, token: token, depth: UInt16(truncatingIfNeeded: body.word(at: 0)),
                homeCount: UInt16(truncatingIfNeeded: body.word(at: 0) >> 16))
            let position = domains[number, default: Domain()].watches.count
            domains[number, default: Domain()].watches.append(watch)
            domains[number]?.watchPositions[key] = position
        } else if let position = domains[number]?.watchPositions.removeValue(forKey: key) {
            domains[number]?.watches[position] = nil
        }
        return true
    }

    private mutating func addTransaction(_ isOpen: Bool, _ number: UInt16, _ body: Bytes) -> Bool {
        guard body.count == 4 else { return false }
        let id = body.word(at: 0)
        if isOpen {
            domains[number, default: Domain()].transactions.append(id)
        } else {
            domains[number]?.transactions.removeAll { $0 == id }
        }
        return true
    }

    private mutating func addRing(_ flags: UInt8, _ number: UInt16, _ body: Bytes) -> Bool {
        guard body.count >= 28 else { return false }
        let gone = Int(body.word(at: 16))
        let inputCount = Int(body.word(at: 20))
        let outputCount = Int(body.word(at: 24))
        guard inputCount <= Self.bufferMax, outputCount <= Self.bufferMax,
            body.count == 28 + inputCount + outputCount
        else { return false }
        var domain = domains[number] ?? Domain()
        guard gone <= domain.output.count else { return false }
        domain.slot = RingSlot(
            before: RingPositions(consumed: body.word(at: 0), produced: body.word(at: 4)),
            after: RingPositions(consumed: body.word(at: 8), produced: body.word(at: 12)),
            isRestarted: flags & 1 != 0)
        domain.input = body.slice(28, 28 + inputCount).array
        if gone > 0 { domain.output.removeFirst(gone) }
        domain.output.append(body.dropFirst(28 + inputCount))
        domains[number] = domain
        return true
    }
}

extension SessionImage.Domain {
    /// Nothing is said of the domain that is not so of every one.
    var isNothing: Bool {
        !isIntroduced && !isShutdown && uniqueID == 0 && features == Server.features && target == nil
            && ownLimits == 0 && watches.allSatisfy { $0 == nil } && transactions.isEmpty
    }
}

extension SessionImage: Equatable {
    /// Whether a daemon that is given the one would be in the same state as one that is given the other.
    public static func == (left: SessionImage, right: SessionImage) -> Bool {
        left.differences(from: right).isEmpty
    }

    /// Ids of domains of which the two say different things; 0x7FF0 for what is of no domain.
    public func differences(from other: SessionImage) -> [UInt16] {
        var different: [UInt16] = boot == other.boot && quotas == other.quotas ? [] : [DomainID.firstReserved]
        for number in Set(domains.keys).union(other.domains.keys).sorted() {
            let (mine, others) = (domains[number] ?? Domain(), other.domains[number] ?? Domain())
            if !Self.areEqual(mine, others) && !(mine.isNothing && others.isNothing) {
                different.append(number)
            }
        }
        return different
    }

    private static func areEqual(_ left: Domain, _ right: Domain) -> Bool {
        left.isIntroduced == right.isIntroduced && left.isShutdown == right.isShutdown
            && left.isDeactivated == right.isDeactivated && left.uniqueID == right.uniqueID
            && left.gfn == right.gfn && left.port == right.port && left.features == right.features
            && left.target == right.target && left.nextTransaction == right.nextTransaction
            && left.ownLimits == right.ownLimits && left.limits == right.limits
            && left.watches.compactMap { $0 } == right.watches.compactMap { $0 }
            && left.transactions.sorted() == right.transactions.sorted() && left.slot == right.slot
            && left.input == right.input && left.output == right.output
    }
}
