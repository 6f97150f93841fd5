// A real disk that is soon full: a small file system in memory, where the user may mount one.

import Foundation
import Glibc

final class SmallDisk {
    let path: String

    private static func run(_ arguments: [String]) -> Bool {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    /// Nil where it cannot be mounted.
    init?(megabytes: Int) {
        var template = Array("/tmp/xenstored-disk.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
        guard Self.run(["mount", "-t", "tmpfs", "-o", "size=\(megabytes)m,mode=0700", "none", path]) else {
            rmdir(path)
            return nil
        }
    }

    /// For those who end the process, and so never see the end of its scope.
    func remove() {
        _ = Self.run(["umount", path])
        rmdir(path)
    }

    deinit { remove() }

    /// Whether this user may.
    static let isThere: Bool = geteuid() == 0 && SmallDisk(megabytes: 1) != nil
}

/// A file of so many bytes that are really there.
func fill(_ path: String, _ count: Int) -> Bool {
    let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(file) }
    return file >= 0 && posix_fallocate(file, 0, off_t(count)) == 0
}
