// Why a log cannot go on, for people and for the caller.

import Glibc

/// What a log could not do: an errno to decide by, and a line that names the file.
public struct LogFailure: Error, CustomStringConvertible {
    public let code: Int32
    public let description: String

    public init(_ code: Int32, _ description: String) {
        self.code = code
        self.description = description
    }

    /// A system call of this purpose has failed with `code`.
    init(_ path: String, _ purpose: String, _ code: Int32) {
        self.init(code, "\(path): \(purpose): \(String(cString: strerror(code)))")
    }

    /// Whether there is no room for more: on the disk, in a quota, or below the limit of a file's size.
    public var isFull: Bool { code == ENOSPC || code == EDQUOT || code == EFBIG }
}
