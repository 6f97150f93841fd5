// What a file holds, read so that it can neither make the daemon wait nor fill its memory.

import Glibc

/// Why a file cannot be read.
package struct Unreadable: Error {
    package var text: String
}

/// The first `max` bytes of a regular file or a character device (`/dev/null`). Anything else could make the
/// daemon wait, and is refused with what was `expected`.
package func fileContents(
    of file: String, max: Int, _ expected: String
) throws(Unreadable) -> [UInt8] {
    func failure() -> Unreadable {
        Unreadable(text: "cannot be read: \(String(cString: strerror(errno)))")
    }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure() }
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG || kind == S_IFCHR else {
        let found = kind == S_IFDIR ? "a directory" : "a special file"
        throw Unreadable(text: "found \(found), expected \(expected)")
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count < max {
        let count = Glibc.read(descriptor, &chunk, min(chunk.count, max - bytes.count))
        if count == 0 { break }
        if count > 0 {
            bytes += chunk[..<count]
        } else if errno != EINTR {
            throw failure()
        }
    }
    return bytes
}
