// The file that --compile-config writes.

import Glibc
import XenStoreHost

/// Writes a file anew, in place of one that there may be. Throws with the file's name and the reason.
func writeNew(_ path: String, _ bytes: [UInt8]) throws(StartFailure) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    if file < 0 { throw StartFailure("cannot write \(path)", errno: errno) }
    var written = 0
    while written < bytes.count {
        let count = bytes.withUnsafeBytes { write(file, $0.baseAddress! + written, bytes.count - written) }
        if count > 0 {
            written += count
        } else if errno != EINTR {
            let code = errno
            close(file)
            throw StartFailure("cannot write \(path)", errno: code)
        }
    }
    // A full disk may show only now.
    if close(file) != 0 { throw StartFailure("cannot write \(path)", errno: errno) }
}
