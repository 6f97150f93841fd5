// The quotas' names and limits (specification, section E).

import XenStoreTypes

/// What unprivileged domains are limited in. Printed in this order.
public enum QuotaName: UInt8, CaseIterable, Sendable {
    case nodes, watches, transactions, outstanding, transactionNodes, memory, nodeSize, pathMax,
        nodePermissions

    /// The name in requests, CONTROL and the configuration.
    public var name: StaticString {
        switch self {
        case .nodes: "nodes"
        case .watches: "watches"
        case .transactions: "transactions"
        case .outstanding: "outstanding"
        case .transactionNodes: "transaction-nodes"
        case .memory: "memory"
        case .nodeSize: "node-size"
        case .pathMax: "path-max"
        case .nodePermissions: "node-permissions"
        }
    }

    /// What it limits, for people.
    public var explanation: StaticString {
        switch self {
        case .nodes: "Nodes per domain"
        case .watches: "Watches per domain"
        case .transactions: "Transactions per domain"
        case .outstanding: "Outstanding requests per connection"
        case .transactionNodes: "Nodes that a transaction may touch"
        case .memory: "Bytes of memory per domain (error level)"
        case .nodeSize: "Bytes of a node's value"
        case .pathMax: "Bytes of a path, without /local/domain/N/"
        case .nodePermissions: "Permission entries of a node"
        }
    }

    /// Also takes `permissions`, the name that C xenstored up to 4.17 has for `node-permissions`.
    public init?(name: Span<UInt8>) {
        let found: QuotaName? = name.withBytes { bytes in
            for quota in QuotaName.allCases where bytes.equals(quota.name) { return quota }
            return bytes.equals("permissions") ? .nodePermissions : nil
        }
        guard let found else { return nil }
        self = found
    }
}

/// A limit for each quota; 0 means unlimited.
public struct QuotaLimits: Equatable, Sendable {
    private var nodes: UInt32 = 1000
    private var watches: UInt32 = 128
    private var transactions: UInt32 = 10
    private var outstanding: UInt32 = 20
    private var transactionNodes: UInt32 = 1024
    private var memory: UInt32 = 2_621_440
    private var nodeSize: UInt32 = 2048
    private var pathMax: UInt32 = 2048
    private var nodePermissions: UInt32 = 5
    /// Bytes of memory per domain from which on the log warns of it; 0: never.
    public var softMemory: UInt32 = 2_097_152

    /// The specification's defaults.
    public init() {}

    public subscript(_ quota: QuotaName) -> UInt32 {
        get {
            switch quota {
            case .nodes: nodes
            case .watches: watches
            case .transactions: transactions
            case .outstanding: outstanding
            case .transactionNodes: transactionNodes
            case .memory: memory
            case .nodeSize: nodeSize
            case .pathMax: pathMax
            case .nodePermissions: nodePermissions
            }
        }
        set {
            switch quota {
            case .nodes: nodes = newValue
            case .watches: watches = newValue
            case .transactions: transactions = newValue
            case .outstanding: outstanding = newValue
            case .transactionNodes: transactionNodes = newValue
            case .memory: memory = newValue
            case .nodeSize: nodeSize = newValue
            case .pathMax: pathMax = newValue
            case .nodePermissions: nodePermissions = newValue
            }
        }
    }
}
