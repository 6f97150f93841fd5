// The operations as rules write them: each by the name that the plugin interface has for it, and groups.

import XenStorePlugin

extension PolicyOperation {
    /// As rules and the log have it: `READ`, `SET_PERMS`.
    public var ruleName: StaticString {
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
}

extension PolicyOperations {
    public static let reading = PolicyOperations(.read, .directory, .directoryPart, .getPermissions)
    public static let changing = PolicyOperations(
        .write, .makeDirectory, .remove, .setPermissions, .create, .removeNode)
    public static let watching = PolicyOperations(.watch, .unwatch)
    /// What a connection does for itself.
    public static let keeping = PolicyOperations(
        .transactionStart, .transactionEnd, .resetWatches, .getDomainPath)
    /// What needs privilege, and what tells of other domains.
    public static let managing = PolicyOperations(
        .control, .introduce, .release, .resume, .setTarget, .isDomainIntroduced, .getFeature, .setFeature,
        .getQuota, .setQuota)
    /// All that can be asked for. Not what is asked about beside: events, and children in lists.
    public static let everything: PolicyOperations = [.reading, .changing, .watching, .keeping, .managing]

    /// The operations that have a path.
    public static let withPath: PolicyOperations = [
        .reading, .changing, .watching, PolicyOperations(.event, .listChild),
    ]

    /// The groups, as rules name them.
    public static let groups: [(name: StaticString, operations: PolicyOperations)] = [
        ("read", .reading), ("change", .changing), ("watch", .watching), ("session", .keeping),
        ("manage", .managing), ("all", .everything),
    ]
}
