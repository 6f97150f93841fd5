// The pid file: who the daemon is, and that it is the only one.

import CLinux
import Glibc

/// A file with mode 0600 that holds `pid\n` (specification, section H), locked as long as its daemon lives.
///
/// The lock (flock) tells a living daemon's file from a dead one's: a stale file is taken over, whatever
/// number it holds.
final class PidFile {
    private let path: String
    private let descriptor: Int32

    /// Locks and writes it. To be called in the process that is to serve, since the number is that process's.
    ///
    /// Fails if another daemon holds it, if a symbolic link or something else stands there, or if it cannot
    /// be written.
    init(_ path: String) throws(StartFailure) {
        self.path = path
        descriptor = try PidFile.lock(path)
        let line = Array("\(getpid())\n".utf8)
        guard fchmod(descriptor, 0o600) == 0, ftruncate(descriptor, 0) == 0,
            writeSome(descriptor, line.span) == .moved(line.count)
        else { throw StartFailure("pid file \(path): cannot be written", errno: errno) }
    }

    deinit { close(descriptor) }

    /// Removes it. The lock goes with this object.
    func remove() { unlink(path) }

    private static func lock(_ path: String) throws(StartFailure) -> Int32 {
        while true {
            let flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK
            let descriptor = open(path, flags, 0o600)
            guard descriptor >= 0 else { throw StartFailure("pid file \(path)", errno: errno) }
            var failure: StartFailure?
            if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
                failure =
                    errno == EWOULDBLOCK
                    ? held(path, descriptor) : StartFailure("pid file \(path)", errno: errno)
            }
            var opened = stat()
            var named = stat()
            fstat(descriptor, &opened)
            if failure == nil, opened.st_mode & S_IFMT != S_IFREG {
                failure = StartFailure("pid file \(path): this is no regular file")
            }
            if let failure {
                close(descriptor)
                throw failure
            }
            // A daemon that was just stopping has removed the file under us: the next one is another file.
            if lstat(path, &named) == 0, named.st_ino == opened.st_ino, named.st_dev == opened.st_dev {
                return descriptor
            }
            close(descriptor)
        }
    }

    private static func held(_ path: String, _ descriptor: Int32) -> StartFailure {
        let buffer = ReadBuffer(capacity: 32)
        var owner = ""
        if case .moved(let count) = buffer.fill(from: descriptor) {
            owner = buffer.with(first: count) { bytes in
                String(decoding: bytes.indices.map { bytes[$0] }.prefix { $0 != 0x0A }, as: UTF8.self)
            }
        }
        return StartFailure("pid file \(path): another daemon is running (process \(owner))")
    }
}
