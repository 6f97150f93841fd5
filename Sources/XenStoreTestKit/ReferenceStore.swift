// The reference store: what a XenStore daemon must answer, computed in the slowest and most obvious way
// (specification, sections A, C, D, E). It shares no code and no idea with the core but the wire's numbers.
//
// Decisions where the specification leaves room (those of transactions and watches stand in their files):
// - children are listed in the order of creation; in a transaction: what is left of the snapshot's, then its
//   own;
// - RM of an absent node whose parent exists answers OK and fires nothing, but needs w on the nearest
//   ancestor;
// - RM of `/` is EINVAL before anything else is looked at;
// - a socket peer that is not privileged is granted nothing by node permissions;
// - quotas of transactions and watches count per subject, nodes per owner; a transaction counts the live
//   tree's nodes and its own difference to its snapshot.

import XenStoreTypes

/// Who speaks: the reference's own word, so that it does not lean on the core's.
public enum ReferenceSubject: Hashable {
    case domain(UInt16)
    case user(UInt32)
}

/// The daemon's whole state, and the answers it owes.
public final class ReferenceStore {
    /// The global quotas by their wire names; 0: unlimited.
    public var quotas: [String: Int] = [
        "nodes": 1000, "watches": 128, "transactions": 10, "outstanding": 20, "transaction-nodes": 1024,
        "memory": 2_621_440, "node-size": 2048, "path-max": 2048, "node-permissions": 5,
    ]
    /// The domains that exist, as the host tells; nil: every id, of which nothing can be told.
    public var domains: [UInt16: ReferenceDomain]?
    /// Whether domains can be introduced.
    public var hasHypervisor = false
    /// What has been carried out before is carried out once more: the end of a domain comes later.
    var isReplaying = false
    /// The store takes nothing that would make it grow.
    public var isFull = false
    /// What the host answers when it is to attach a ring; nil: it can.
    public var attachFailure: ErrorName?
    /// What is known of domains.
    var notes: [UInt16: ReferenceNote] = [:]
    public internal(set) var tree = ReferenceTree()
    var connections: [Int: ReferenceConnection] = [:]

    public init() {}

    public func connect(_ key: Int, _ subject: ReferenceSubject, readOnly: Bool) {
        connections[key] = ReferenceConnection(subject, readOnly: readOnly)
    }

    public func disconnect(_ key: Int) { connections[key] = nil }

    /// What was queued on a connection since this was last asked, in order.
    public func takeExpected(_ key: Int) -> [Expected] { connections[key]?.takeExpected() ?? [] }

    /// Whether the connection has got EAGAIN twice.
    public func hasLostTwice(_ key: Int) -> Bool { connections[key].map { $0.lostCount >= 2 } ?? false }

    /// The transaction ids that the connection may use, in order.
    public func openTransactions(_ key: Int) -> [UInt32] {
        connections[key]?.transactions.keys.sorted() ?? []
    }

    /// Whether the connection is one of a ring that its guest has broken.
    public func isBroken(_ key: Int) -> Bool { connections[key]?.isBroken == true }

    /// Which beginning of which connection it is; nil: there is none.
    func beginning(_ key: Int) -> ReferenceBeginning? {
        connections[key].map { ReferenceBeginning(connection: ObjectIdentifier($0), resets: $0.resets) }
    }

    /// Carries out one request and queues the reply that it must get, and the events.
    public func handle(_ key: Int, _ message: Message) {
        guard let connection = connections[key], !connection.isBroken else { return }
        let request = ReferenceRequest(store: self, key: key, connection: connection, message: message)
        do throws(ErrorName) {
            try request.carryOut()
        } catch {
            var reply = message
            reply.type = MessageType.error.rawValue
            if error == .again { connection.lostCount += 1 }
            reply.payload = Array("\(error.name)".utf8) + [0]
            connection.queue(.reply(reply))
        }
    }

    func isPrivileged(_ subject: ReferenceSubject) -> Bool { subject == .domain(0) }

    /// Whether a node with this list grants `right` to `subject`.
    func grants(_ list: [Permission], _ subject: ReferenceSubject, _ right: ReferenceRight) -> Bool {
        guard case .domain(let id) = subject else { return false }
        if id == 0 { return true }
        let names = [id, notes[id]?.target ?? id]
        if !list[0].ignored && names.contains(list[0].domain.rawValue) { return true }
        let named = list.dropFirst().first {
            !$0.ignored && (names.contains($0.domain.rawValue) || $0.domain == .any)
        }
        switch (named ?? list[0]).mode {
        case .none: return false
        case .read: return right == .read
        case .write: return right == .write
        case .both: return right != .own
        }
    }

    /// The limit for a subject; nil: none.
    func limit(_ name: String, _ subject: ReferenceSubject) -> Int? {
        if isPrivileged(subject) { return nil }
        var value = quotas[name]!
        if case .domain(let id) = subject, let own = notes[id]?.quotas[name] { value = own }
        return value == 0 ? nil : value
    }
}

/// What a request needs of a node.
enum ReferenceRight { case read, write, own }
