// The service supervisor's notification socket, as systemd has it: datagrams of VARIABLE=value lines to the
// Unix socket that NOTIFY_SOCKET names, `@` first for the abstract namespace.

import CLinux
import Glibc

/// Tells whoever has started the daemon how it is. Without NOTIFY_SOCKET, and where nobody listens, nothing
/// happens.
enum Readiness {
    /// Requests are served from now on.
    static func ready() { send("READY=1\nMAINPID=\(getpid())\n") }

    /// The daemon has been told to stop, and does.
    static func stopping() { send("STOPPING=1\n") }

    private static func send(_ text: String) {
        guard let value = getenv("NOTIFY_SOCKET") else { return }
        var path = Array(String(cString: value).utf8)
        guard let first = path.first, path.count <= SocketPath.lengthMax else { return }
        let abstract = first == UInt8(ascii: "@")
        guard abstract || first == UInt8(ascii: "/") else { return }
        if abstract { path[0] = 0 }

        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | closeOnExec | nonBlocking, 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        // An abstract name counts as long as it is; a path has its closing NUL.
        withSocketAddress(socketAddress(path), length: path.count + (abstract ? 0 : 1)) { address, length in
            _ = bytes.withUnsafeBytes {
                sendto(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL), address, length)
            }
        }
    }
}
