// A listening socket, and who may be taken for whom.

import CLinux
import Glibc
import XenStore

/// One of the daemon's sockets.
///
/// Its file exists from `init` to `close`, and is never open to more than its options say.
final class SocketListener: EventSource {
    let descriptor: Int32
    private let options: SocketOptions
    private let path: SocketPath
    private let log: Log
    private let identity: (dev_t, ino_t)
    private let ownUser = geteuid()
    /// While set, there were no descriptors left: nothing is accepted until then, or until a socket is
    /// closed.
    private var deadline: UInt64?
    private var quietUntil: UInt64 = 0

    /// How many connections one turn of the loop takes.
    private static let acceptsPerTurn = 64
    private static let retryNanoseconds: UInt64 = 1_000_000_000
    private static let quietNanoseconds: UInt64 = 60_000_000_000

    /// Creates the socket and its missing directories, and listens.
    ///
    /// Fails, naming the path, if another daemon serves it, if something else has its name, or if it cannot
    /// be made.
    init(_ options: SocketOptions, log: Log) throws(StartFailure) {
        self.options = options
        self.log = log
        path = try SocketPath(options.path)
        try path.createParents()
        // Two daemons that start at once must not take each other's fresh socket for a stale one.
        let directory = try path.lockDirectory()
        defer { Glibc.close(directory) }
        try path.removeStale()
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | closeOnExec | nonBlocking, 0)
        guard descriptor >= 0 else { throw StartFailure("socket \(options.path)", errno: errno) }
        do throws(StartFailure) {
            identity = try SocketListener.publish(descriptor, path, options)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    /// Binds with 0600, then sets owner, group and mode, then listens: nobody can connect too early. The
    /// file gets its mode from the socket; the umask, which other threads make files by, stays as it is.
    private static func publish(
        _ descriptor: Int32, _ path: SocketPath, _ options: SocketOptions
    ) throws(StartFailure) -> (dev_t, ino_t) {
        let isBound = fchmod(descriptor, 0o600) == 0 && path.withAddress { bind(descriptor, $0, $1) } == 0
        guard isBound else { throw StartFailure("socket \(options.path)", errno: errno) }

        var status = stat()
        let ownerSet =
            options.owner == nil && options.group == nil
            || lchown(options.path, options.owner ?? .max, options.group ?? .max) == 0
        guard ownerSet, chmod(options.path, options.mode) == 0, lstat(options.path, &status) == 0,
            listen(descriptor, SOMAXCONN) == 0
        else {
            let code = errno
            unlink(options.path)
            throw StartFailure("socket \(options.path): cannot set its owner and mode", errno: code)
        }
        return (status.st_dev, status.st_ino)
    }

    /// Closes it and removes its file, unless somebody has put another in its place.
    func close() {
        Glibc.close(descriptor)
        var status = stat()
        if lstat(options.path, &status) == 0, (status.st_dev, status.st_ino) == identity {
            unlink(options.path)
        }
    }

    func ready(_ loop: EventLoop) {
        for _ in 0..<SocketListener.acceptsPerTurn {
            let client = linux_accept(descriptor)
            if client >= 0 {
                admit(client, loop)
                continue
            }
            switch errno {
            case ECONNABORTED, EINTR: continue
            case EAGAIN: return
            default: return pause(loop, errno)
            }
        }
    }

    func due(_ loop: EventLoop, now: UInt64) {
        guard let deadline else { return }
        if deadline <= now { resume(loop) } else { loop.remind(at: deadline) }
    }

    func descriptorsFreed(_ loop: EventLoop) {
        if deadline != nil { resume(loop) }
    }

    private func resume(_ loop: EventLoop) {
        deadline = nil
        loop.listen(to: self, true)
    }

    /// Out of descriptors or memory: those who are connected are served, the others wait in the socket's
    /// backlog.
    private func pause(_ loop: EventLoop, _ code: Int32) {
        let now = monotonicNow()
        let retry = now + SocketListener.retryNanoseconds
        deadline = retry
        loop.remind(at: retry)
        loop.listen(to: self, false)
        if now < quietUntil { return }
        quietUntil = now + SocketListener.quietNanoseconds
        log.write(
            .warning,
            "socket \(options.path): cannot accept a connection: \(errorText(code)); "
                + "\(loop.sockets.count) are connected, new ones must wait")
    }

    /// The peer's groups beside its own.
    private static func groups(_ client: Int32) -> [UInt32] {
        withUnsafeTemporaryAllocation(of: gid_t.self, capacity: 65_536) { room in
            [UInt32](room.prefix(linux_peer_groups(client, room.baseAddress, room.count)))
        }
    }

    /// Root and the daemon's own user speak for the daemon's domain; anybody else for himself
    /// (specification, section A, "Permissions").
    private func admit(_ client: Int32, _ loop: EventLoop) {
        var (process, user, group): (pid_t, uid_t, gid_t) = (0, 0, 0)
        guard linux_peer(client, &process, &user, &group) == 0 else {
            Glibc.close(client)
            return
        }
        let privileged = user == 0 || user == ownUser
        let subject: Subject = privileged ? .domain(loop.server.configuration.domain) : .user(user)
        // Root's do not matter.
        let groups = privileged ? [] : Self.groups(client)
        let peer = SocketPeer(user: user, group: group, process: process, groups: groups)
        loop.sockets.add(client, subject, readOnly: options.readOnly, peer: peer)
    }
}
