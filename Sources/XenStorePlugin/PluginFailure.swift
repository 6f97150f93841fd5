// Why a module cannot do what it was asked to.

import CXenStorePlugin

/// One line for the person who runs the daemon: what was tried, on what, and why it failed.
public struct PluginFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// An errno; the daemon acts on ENOSPC (28: the disk is full) and EWOULDBLOCK (11: another has the file).
    public var code: Int32
    public var reason: String

    /// - Parameter errno: EINVAL where nothing else is said.
    public init(_ reason: String, errno: Int32 = 22) {
        self.reason = reason
        code = errno
    }

    /// An option is wrong: `FILE:LINE:COLUMN: found "VALUE", expected EXPECTED`.
    public static func option(_ option: PluginOption, expected: String) -> PluginFailure {
        PluginFailure("\(option.place): found \(option.quotedValue), expected \(expected)")
    }

    public var description: String { reason }

    /// Tells it over the border. Returns -1.
    func fill(_ failure: UnsafeMutablePointer<xenstore_failure>?) -> Int32 {
        guard let failure else { return -1 }
        return xenstore_fail(failure, code, reason)
    }
}
