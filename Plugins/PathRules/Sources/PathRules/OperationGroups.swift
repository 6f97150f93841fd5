// The groups of operations as rules write them.

import XenStorePlugin

extension PolicyOperations {
    public static let reading = readRequests
    public static let changing = changeRequests.union(
        PolicyOperations(.create, .removeNode))
    public static let watching = watchRequests
    public static let keeping = sessionRequests
    public static let managing = manageRequests
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
