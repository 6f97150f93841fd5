// The names of operations, as rules, options and logs have them.

extension PolicyOperation {
    /// As the plugin interface has it: `WRITE`, `MKDIR`, `TRANSACTION_END`.
    public var name: StaticString {
        switch self {
        case .control: "CONTROL"
        case .directory: "DIRECTORY"
        case .read: "READ"
        case .getPermissions: "GET_PERMS"
        case .watch: "WATCH"
        case .unwatch: "UNWATCH"
        case .transactionStart: "TRANSACTION_START"
        case .transactionEnd: "TRANSACTION_END"
        case .introduce: "INTRODUCE"
        case .release: "RELEASE"
        case .getDomainPath: "GET_DOMAIN_PATH"
        case .write: "WRITE"
        case .makeDirectory: "MKDIR"
        case .remove: "RM"
        case .setPermissions: "SET_PERMS"
        case .isDomainIntroduced: "IS_DOMAIN_INTRODUCED"
        case .resume: "RESUME"
        case .setTarget: "SET_TARGET"
        case .restrict: "RESTRICT"
        case .resetWatches: "RESET_WATCHES"
        case .directoryPart: "DIRECTORY_PART"
        case .getFeature: "GET_FEATURE"
        case .setFeature: "SET_FEATURE"
        case .getQuota: "GET_QUOTA"
        case .setQuota: "SET_QUOTA"
        case .create: "CREATE"
        case .removeNode: "REMOVE_NODE"
        case .event: "EVENT"
        case .listChild: "LIST_CHILD"
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
    // The groups that path-rules has, without what requests bring about.

    public static let readRequests = PolicyOperations(.read, .directory, .directoryPart, .getPermissions)
    public static let changeRequests = PolicyOperations(.write, .makeDirectory, .remove, .setPermissions)
    public static let watchRequests = PolicyOperations(.watch, .unwatch)
    /// What a connection does for itself.
    public static let sessionRequests = PolicyOperations(
        .transactionStart, .transactionEnd, .resetWatches, .getDomainPath)
    /// What needs privilege, and what tells of other domains.
    public static let manageRequests = PolicyOperations(
        .control, .introduce, .release, .resume, .setTarget, .isDomainIntroduced, .getFeature, .setFeature,
        .getQuota, .setQuota)

    /// Groups of requests, as options call them.
    static let groups: [(name: StaticString, operations: PolicyOperations)] = [
        ("all", requests), ("read", readRequests), ("change", changeRequests), ("watch", watchRequests),
        ("session", sessionRequests), ("manage", manageRequests),
    ]
}
