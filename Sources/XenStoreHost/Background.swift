// Leaving the terminal.
//
// The parent waits at a pipe. One byte says that the child serves, and the parent ends with status 0. The
// pipe's end without a byte says that the child has died: the parent ends with the child's status. Until it
// serves, the child keeps the caller's stderr, so that its complaints are seen.

import CLinux
import Glibc

/// The child's side of going into the background.
final class Background {
    private let pipeEnd: Int32

    private init(_ pipeEnd: Int32) { self.pipeEnd = pipeEnd }

    enum Side {
        /// The caller's process: it must end with this status and do nothing else.
        case parent(status: Int32)
        /// The process that is to serve.
        case child(Background)
    }

    /// Forks. No other thread may exist, since the child would not have it.
    static func enter() throws(StartFailure) -> Side {
        var ends: [Int32] = [-1, -1]
        guard linux_pipe(&ends) == 0 else { throw StartFailure("cannot create a pipe", errno: errno) }
        fflush(nil)
        let child = linux_fork()
        if child < 0 { throw StartFailure("cannot fork", errno: errno) }
        if child > 0 {
            close(ends[1])
            return .parent(status: outcome(of: child, ends[0]))
        }
        close(ends[0])
        setsid()
        return .child(Background(ends[1]))
    }

    /// Lets go of the terminal and of the caller, who sees success.
    func serving() {
        letGo()
        let byte: [UInt8] = [1]
        _ = writeSome(pipeEnd, byte.span)
        close(pipeEnd)
    }

    /// As `serving`, leaving it to another process to tell the caller.
    func leave() {
        letGo()
        close(pipeEnd)
    }

    private func letGo() {
        let null = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC)
        if null >= 0 {
            for standard in Int32(0)...2 { dup2(null, standard) }
            if null > 2 { close(null) }
        }
        chdir("/")
    }

    private static func outcome(of child: pid_t, _ pipeEnd: Int32) -> Int32 {
        var byte: UInt8 = 0
        var count = 0
        repeat { count = read(pipeEnd, &byte, 1) } while count < 0 && errno == EINTR
        if count == 1 { return 0 }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        let exited = status & 0x7F == 0
        let code = (status >> 8) & 0xFF
        return exited && code != 0 ? code : 1
    }
}
