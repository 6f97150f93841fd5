// Why a module cannot do what it was asked to.

import CXenStorePlugin

/// One line for the person who runs the daemon: what was tried, on what, and why it failed.
public struct PluginFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// An errno; the daemon acts on ENOSPC (28: the disk is full) and EWOULDBLOCK (11: another has the file).
    public var code: Int32
    public var text: PlainText

    /// - Parameter errno: EINVAL where nothing else is said.
    public init(_ reason: String, errno: Int32 = 22) { self.init(text: PlainText(reason), errno: errno) }

    public init(text: PlainText, errno: Int32 = 22) {
        self.text = text
        code = errno
    }

    public var reason: String { text.string }

    /// An option is wrong: `FILE:LINE:COLUMN: found "VALUE", expected EXPECTED`.
    public static func option(_ option: PluginOption, expected: String) -> PluginFailure {
        PluginFailure("\(option.place): found \(option.quotedValue), expected \(expected)")
    }

    public var description: String { reason }

    /// Tells it over the border. Returns -1.
    func fill(_ failure: UnsafeMutablePointer<xenstore_failure>?) -> Int32 {
        guard let failure else { return -1 }
        failure.pointee.error = code
        let bytes = text.bytes
        withUnsafeMutableBytes(of: &failure.pointee.reason) { room in
            var count = min(bytes.count, room.count - 1)
            // Not in the midst of a character.
            while count < bytes.count && count > 0 && bytes[count] & 0xC0 == 0x80 { count -= 1 }
            for index in 0..<count { room[index] = bytes[index] == 0x0A ? 0x20 : bytes[index] }
            room[count] = 0
        }
        return -1
    }
}
