// Which requests the audit trail tells of.

import XenStorePlugin

/// What must be true of a request for its line to be written.
public struct AuditFilter {
    public var operations = PolicyOperations.changeRequests.union(.manageRequests).union(
        PolicyOperations(.transactionEnd))
    public var subjects = SubjectSet.all
    /// Only requests about these nodes, and requests that are about none. None: about any.
    public var paths: [PathPrefix] = []
    public var results = AuditResults.all

    public init() {}

    public func admits(_ question: PolicyQuestion, _ outcome: PolicyOutcome) -> Bool {
        if question.isDryRun || !results.contains(outcome.error == 0 ? .done : .refused) { return false }
        if !operations.contains(question.operation) || !subjects.contains(question) { return false }
        if paths.isEmpty || question.path.isEmpty { return true }
        for path in paths where path.covers(question) { return true }
        return false
    }
}

/// How requests went.
public struct AuditResults: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let done = AuditResults(rawValue: 1)
    public static let refused = AuditResults(rawValue: 2)
    public static let all: AuditResults = [done, refused]
}

/// A node and all below it; `*` stands for any one name. `/` is everything, also `@releaseDomain` and its
/// like.
public struct PathPrefix: Hashable, Sendable {
    private let isAbsolute: Bool
    private let names: [[UInt8]]

    /// Nil unless it is an absolute path, or one that begins with `@`.
    public init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        isAbsolute = bytes.first == 0x2F
        if !isAbsolute && bytes.first != 0x40 { return nil }
        names = bytes.split(separator: 0x2F).map { Array($0) }
        if !isAbsolute && names.count != 1 { return nil }
    }

    func covers(_ question: PolicyQuestion) -> Bool {
        if names.isEmpty { return true }
        guard question.componentCount >= names.count, isAbsolute == (question.path.first == 0x2F) else {
            return false
        }
        for (position, name) in names.enumerated() where name != [0x2A] {
            if !question.component(position).elementsEqual(name) { return false }
        }
        return true
    }
}
