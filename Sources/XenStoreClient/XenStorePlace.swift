// Where daemons are found, and how they are connected to.

import Glibc
import XenStoreTypes

/// Where a daemon can be reached.
public enum XenStorePlace: Hashable, Sendable {
    /// A Unix socket's path.
    case socket(String)
    /// The kernel's device for processes of a guest, or of dom0: `/dev/xen/xenbus`.
    case device(String)
    /// The ring of a domain of a simulated host: the directory `domN`. Nobody else may use the ring
    /// meanwhile; the domain must have been introduced.
    case simulatedRing(String)

    /// What the file at `path` is: a socket, a character device, or a simulated domain's directory.
    ///
    /// Throws `.notConnected` if it is none of them, or is not there.
    public init(_ path: String) throws(XenStoreError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw XenStoreError(.notConnected("\(path): \(errorText(errno))"))
        }
        switch status.st_mode & S_IFMT {
        case S_IFSOCK: self = .socket(path)
        case S_IFCHR: self = .device(path)
        case S_IFDIR: self = .simulatedRing(path)
        default: throw XenStoreError(.notConnected("\(path): no socket, no device, no simulated domain"))
        }
    }

    /// Where to look, in this order, as libxenstore does: `XENSTORED_PATH` alone if it is set; otherwise
    /// `socket` in `XENSTORED_RUNDIR` or else in /run/xenstored and /var/run/xenstored, and then the kernel's
    /// device.
    static func candidates(path: String?, runDirectory: String?) -> [String] {
        if let path { return [path] }
        let directories = runDirectory.map { [$0] } ?? ["/run/xenstored", "/var/run/xenstored"]
        return directories.map { $0 + "/socket" } + ["/dev/xen/xenbus", "/proc/xen/xenbus"]
    }
}

extension XenStoreClient {
    /// Connects to the daemon at `place`; nil: to the first that answers of those that libxenstore would try.
    /// The environment variables XENSTORED_PATH (a socket, a device or a simulated domain's directory) and
    /// XENSTORED_RUNDIR say otherwise where to look; empty ones do not count.
    ///
    /// Throws `.notConnected`, with every place that was tried and why it would not do, or
    /// `CancellationError`.
    public static func connect(
        to place: XenStorePlace? = nil, options: XenStoreOptions = XenStoreOptions()
    ) async throws -> XenStoreClient {
        if let place { return try await connected(to: place, options) }
        let tried = XenStorePlace.candidates(
            path: environment("XENSTORED_PATH"), runDirectory: environment("XENSTORED_RUNDIR"))
        return try await connect(toFirstOf: tried, options)
    }

    static func connect(toFirstOf paths: [String], _ options: XenStoreOptions) async throws -> XenStoreClient
    {
        var reasons: [String] = []
        for path in paths {
            do {
                return try await connected(to: XenStorePlace(path), options)
            } catch let error as XenStoreError {
                guard case .notConnected(let reason) = error.cause else { throw error }
                reasons.append(reason)
            }
        }
        throw XenStoreError(.notConnected(reasons.joined(separator: "; ")))
    }

    private static func connected(
        to place: XenStorePlace, _ options: XenStoreOptions
    ) async throws -> XenStoreClient {
        switch place {
        case .socket(let path):
            let descriptor = try await connectedSocket(path, options.patience)
            return XenStoreClient(try Connection(SocketTransport(descriptor), options))
        case .device(let path):
            let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
            guard descriptor >= 0 else { throw XenStoreError(.notConnected("\(path): \(errorText(errno))")) }
            return XenStoreClient(try Connection(DeviceTransport(descriptor), options))
        case .simulatedRing(let path):
            let ring = try await trying(options.patience, else: "\(path): another client uses the ring") {
                try SimulatedRing(path)
            }
            return XenStoreClient(try Connection(ring, options))
        }
    }

    /// What `attempt` returns when it is not nil: it is made every 5 ms, until `patience` ends.
    private static func trying<Result>(
        _ patience: Duration, else why: String, _ attempt: () throws -> Result?
    ) async throws -> Result {
        let deadline = ContinuousClock.now + patience
        while true {
            if let result = try attempt() { return result }
            guard ContinuousClock.now < deadline else { throw XenStoreError(.notConnected(why)) }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// A connected socket. A daemon that is slow to accept is waited for.
    private static func connectedSocket(_ path: String, _ patience: Duration) async throws -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard !path.isEmpty, path.utf8.count < room, !path.utf8.contains(0) else {
            throw XenStoreError(.notConnected("\(path): no path that a socket can have"))
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | flags, 0)
        guard descriptor >= 0 else { throw XenStoreError(.notConnected("\(path): \(errorText(errno))")) }
        do {
            return try await trying(patience, else: "\(path): the daemon does not accept") {
                let code = connectOnce(descriptor, address)
                if code == EAGAIN || code == EINTR { return nil }
                guard code == 0 else { throw XenStoreError(.notConnected("\(path): \(errorText(code))")) }
                return descriptor
            }
        } catch {
            _ = Glibc.close(descriptor)
            throw error
        }
    }

    /// Returns 0 or an errno.
    private static func connectOnce(_ descriptor: Int32, _ address: sockaddr_un) -> Int32 {
        withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 ? 0 : errno
            }
        }
    }

    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
}
