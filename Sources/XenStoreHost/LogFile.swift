// A file that lines are appended to. All of it runs on the log's writer thread, which may block; only the
// first opening is done by the thread that starts the daemon.

import CLinux
import Glibc

/// Collects lines, and writes them in one call when asked to, or when there are many.
final class LogFile {
    private static let bufferSize = 64 << 10

    private let path: String
    private var descriptor: Int32
    private let owned: Bool
    private var buffer: [UInt8] = []
    private var bufferedLines = 0
    private var lost = 0

    /// Creates the file with mode 0600 where it is missing. Symbolic links are refused, and a FIFO that
    /// nobody reads.
    init(path: String) throws(StartFailure) {
        self.path = path
        owned = true
        descriptor = try LogFile.open(path)
    }

    /// The process's stderr.
    init() {
        path = "stderr"
        owned = false
        descriptor = 2
    }

    deinit {
        if owned { close(descriptor) }
    }

    /// Opens the file of that name anew, after what is collected was written to the old one. On failure the
    /// old one stays.
    func reopen() throws(StartFailure) {
        flush()
        guard owned else { return }
        let fresh = try LogFile.open(path)
        close(descriptor)
        descriptor = fresh
    }

    /// Adds a line to what is collected.
    func append(_ write: (inout [UInt8]) -> Void) {
        write(&buffer)
        buffer.append(0x0A)
        bufferedLines += 1
        if buffer.count >= LogFile.bufferSize { flush() }
    }

    /// Writes what is collected, however long that takes.
    func flush() {
        if !LogFile.writeAll(descriptor, buffer.span) { lost += bufferedLines }
        buffer.removeAll(keepingCapacity: true)
        bufferedLines = 0
    }

    /// How many lines the file did not take (a full disk, a broken pipe) since the last call.
    func takeLost() -> Int {
        defer { lost = 0 }
        return lost
    }

    /// Whether all of it has been written.
    static func writeAll(_ descriptor: Int32, _ bytes: Span<UInt8>) -> Bool {
        var start = 0
        while start < bytes.count {
            switch writeSome(descriptor, bytes.extracting(start..<bytes.count)) {
            case .moved(let count): start += count
            case .failed: return false
            case .wouldBlock:
                // Somebody has made our stderr non-blocking.
                var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                Glibc.poll(&wait, 1, 1000)
            }
        }
        return true
    }

    private static func open(_ path: String) throws(StartFailure) -> Int32 {
        let flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | O_NONBLOCK
        let descriptor = Glibc.open(path, flags, 0o600)
        guard descriptor >= 0 else { throw StartFailure("log file \(path)", errno: errno) }
        // Only opening must not block.
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
        return descriptor
    }
}
