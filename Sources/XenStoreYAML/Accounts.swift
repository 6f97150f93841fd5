// The machine's users and groups, by name (getpwnam_r and getgrnam_r).

import Glibc

/// Turns the name of a user or a group into its id. Tests and fuzzers hand in their own.
public struct Accounts: Sendable {
    /// Nil: there is no user of this name.
    public var user: @Sendable (String) -> UInt32?
    /// Nil: there is no group of this name.
    public var group: @Sendable (String) -> UInt32?

    public init(
        user: @escaping @Sendable (String) -> UInt32?, group: @escaping @Sendable (String) -> UInt32?
    ) {
        self.user = user
        self.group = group
    }

    /// What this machine says.
    public static let machine = Accounts(
        user: { name in
            var entry = passwd()
            var result: UnsafeMutablePointer<passwd>?
            return withBuffer { getpwnam_r(name, &entry, $0, $1, &result) == 0 && result != nil }
                ? entry.pw_uid : nil
        },
        group: { name in
            var entry = Glibc.group()
            var result: UnsafeMutablePointer<Glibc.group>?
            return withBuffer { getgrnam_r(name, &entry, $0, $1, &result) == 0 && result != nil }
                ? entry.gr_gid : nil
        })

    /// 64 KiB for the texts of one entry: a group of some thousand members fits.
    private static func withBuffer(_ body: (UnsafeMutablePointer<CChar>, Int) -> Bool) -> Bool {
        let size = 64 << 10
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { body($0.baseAddress!, size) }
    }
}

extension Expected where Value == UInt32? {
    /// A user's name or uid, or `none`.
    package static var user: Expected { account("a user", "uid") { $0.user($1) } }

    /// A group's name or gid, or `none`.
    package static var group: Expected { account("a group", "gid") { $0.group($1) } }

    private static func account(
        _ what: String, _ number: String, _ find: @escaping (Accounts, String) -> UInt32?
    ) -> Expected {
        Expected { node, reading in
            if case .scalar(let text, _) = node.content, !text.isEmpty {
                if text == "none" { return .some(nil) }
                // The largest id is chown's "leave as it is".
                if let id = wholeNumber(text, in: 0...(UInt32.max - 1)) { return id }
                if !text.utf8.contains(0), let id = find(reading.accounts, text) { return id }
            }
            reading.mistakes.add(
                node.place, found: node.found,
                expected: "none, the name of \(what) of this machine or its \(number)")
            return nil
        }
    }
}
