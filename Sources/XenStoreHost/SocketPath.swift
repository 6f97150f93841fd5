// Unix sockets in the file system: addresses, and the removal of what a dead daemon has left.

import CLinux
import Glibc

/// A Unix socket's place in the file system.
struct SocketPath {
    /// The most bytes that a socket's path may have (sun_path without its closing NUL).
    static let lengthMax = 107

    let path: String
    private let address: sockaddr_un

    /// Fails on a path that is empty or too long, or holds a NUL.
    init(_ path: String) throws(StartFailure) {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, !bytes.contains(0) else {
            throw StartFailure("socket \"\(path)\": no such path")
        }
        guard bytes.count <= SocketPath.lengthMax else {
            throw StartFailure(
                "socket \(path): its path has \(bytes.count) bytes, expected at most \(SocketPath.lengthMax)")
        }
        self.path = path
        address = socketAddress(bytes)
    }

    /// Calls bind(2), connect(2) or their like with the address.
    func withAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withSocketAddress(address, length: path.utf8.count + 1, body)
    }

    /// Makes the place free: a socket that nobody answers on is removed.
    ///
    /// Fails if somebody answers, or if what stands there is no socket; that is left as it is.
    func removeStale() throws(StartFailure) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw StartFailure("socket \(path)", errno: errno)
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw StartFailure("socket \(path): there is something else with this name, and it is no socket")
        }
        let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | closeOnExec | nonBlocking, 0)
        guard probe >= 0 else { throw StartFailure("socket \(path)", errno: errno) }
        defer { close(probe) }
        let result = withAddress { connect(probe, $0, $1) }
        let code = result == 0 ? EAGAIN : errno
        switch code {
        case ECONNREFUSED, ENOENT: unlink(path)
        case EAGAIN, EPROTOTYPE:
            throw StartFailure("socket \(path): another daemon is serving it")
        default: throw StartFailure("socket \(path): cannot tell whether a daemon serves it", errno: code)
        }
    }

    /// Waits until no other daemon is binding a socket in the same directory. Closing the descriptor ends it.
    func lockDirectory() throws(StartFailure) -> Int32 {
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let parent = slash.map { String(path[..<$0]) + "/" } ?? "."
        let directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0, flock(directory, LOCK_EX) == 0 else {
            throw StartFailure("socket \(path): cannot lock the directory \(parent)", errno: errno)
        }
        return directory
    }

    /// Makes the directories above it that are missing, with mode 0755.
    func createParents() throws(StartFailure) {
        let bytes = Array(path.utf8)
        for index in bytes.indices.dropFirst() where bytes[index] == UInt8(ascii: "/") {
            let parent = String(decoding: bytes[..<index], as: UTF8.self)
            if mkdir(parent, 0o755) == 0 {
                chmod(parent, 0o755)  // whatever the umask
            } else if errno != EEXIST, access(parent, F_OK) != 0 {
                throw StartFailure("socket \(path): cannot create the directory \(parent)", errno: errno)
            }
        }
    }
}

let closeOnExec = Int32(SOCK_CLOEXEC.rawValue)
let nonBlocking = Int32(SOCK_NONBLOCK.rawValue)

/// The address that has these bytes as its sun_path; they must fit.
func socketAddress(_ path: [UInt8]) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    return address
}

/// Calls `body` with the address as the kernel wants it; `length` is how much of sun_path counts.
func withSocketAddress<R>(
    _ address: sockaddr_un, length: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
) -> R {
    let size = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)! + length
    return withUnsafePointer(to: address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(size)) }
    }
}
