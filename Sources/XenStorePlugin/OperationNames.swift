// The names of operations, as rules, options and logs have them.

extension PolicyOperation {
    /// As a person writes it: `write`, `mkdir`, `transaction-end`.
    public var name: StaticString {
        switch self {
        case .control: "control"
        case .directory: "directory"
        case .read: "read"
        case .getPermissions: "get-perms"
        case .watch: "watch"
        case .unwatch: "unwatch"
        case .transactionStart: "transaction-start"
        case .transactionEnd: "transaction-end"
        case .introduce: "introduce"
        case .release: "release"
        case .getDomainPath: "get-domain-path"
        case .write: "write"
        case .makeDirectory: "mkdir"
        case .remove: "rm"
        case .setPermissions: "set-perms"
        case .isDomainIntroduced: "is-introduced"
        case .resume: "resume"
        case .setTarget: "set-target"
        case .restrict: "restrict"
        case .resetWatches: "reset-watches"
        case .directoryPart: "directory-part"
        case .getFeature: "get-feature"
        case .setFeature: "set-feature"
        case .getQuota: "get-quota"
        case .setQuota: "set-quota"
        case .create: "create"
        case .removeNode: "remove-node"
        case .event: "event"
        case .listChild: "list-child"
        }
    }

    /// The operation of this name, if there is one.
    public init?(name: some StringProtocol) {
        for operation in Self.allCases where operation.name.equals(name) {
            self = operation
            return
        }
        return nil
    }

    /// Whether it is a request of its own, not a part of one.
    public var isRequest: Bool { rawValue < 32 }
}

extension StaticString {
    /// Byte by byte: needs no Unicode tables.
    func equals(_ text: some StringProtocol) -> Bool {
        text.utf8.elementsEqual(UnsafeBufferPointer(start: utf8Start, count: utf8CodeUnitCount))
    }
}

extension PolicyOperations {
    /// Those of these names.
    static func named(_ word: some StringProtocol) -> PolicyOperations? {
        if let one = PolicyOperation(name: word) { return one.isRequest ? PolicyOperations(one) : nil }
        for (name, group) in groups where name.equals(word) { return group }
        return nil
    }

    /// Every request.
    public static let requests: PolicyOperations = {
        var all: PolicyOperations = []
        for one in PolicyOperation.allCases where one.isRequest { all.formUnion(PolicyOperations(one)) }
        return all
    }()
    /// Requests that change nodes.
    public static let writes = PolicyOperations(.write, .makeDirectory, .remove, .setPermissions)
    /// Requests that change domains.
    public static let domains = PolicyOperations(.introduce, .release, .resume, .setTarget)
    /// Requests that change anything that outlives their connection.
    public static let changes = writes.union(domains).union(
        PolicyOperations(.transactionEnd, .setFeature, .setQuota, .control))
    public static let reads = PolicyOperations(
        .read, .directory, .directoryPart, .getPermissions, .getDomainPath, .isDomainIntroduced,
        .getFeature, .getQuota)
    public static let watches = PolicyOperations(.watch, .unwatch, .resetWatches)
    public static let transactions = PolicyOperations(.transactionStart, .transactionEnd)

    /// Groups of requests, as options call them.
    static let groups: [(name: StaticString, operations: PolicyOperations)] = [
        ("all", requests), ("changes", changes), ("writes", writes), ("reads", reads),
        ("watches", watches), ("transactions", transactions), ("domains", domains),
    ]
}
