// The file that lines go to. All of it may wait for the disk; only the first opening is done by the thread
// that reads the configuration, all else by the writer's.
//
// Invariants:
// - What is in the file ends with a newline, or `isTorn`.
// - `size` is that of the open file; 0 while none is open.

import Glibc
import XenStorePlugin

/// A file of lines that is set aside as PATH.1 when it has grown, PATH.1 as PATH.2, and so on.
final class AuditFile {
    let path: String
    /// No file becomes larger; 0: no limit.
    private let limit: Int
    /// How many older files are kept.
    private let keep: Int
    private var descriptor: Int32 = -1
    private var size = 0
    private var isTorn = false
    /// At which size it is set aside: later where that has failed before.
    private var turning: Int
    /// What went wrong last, for the log.
    private(set) var complaint: String?

    init(_ path: String, limit: UInt64, keep: UInt64) {
        self.path = path
        self.limit = Int(limit)
        self.keep = Int(keep)
        turning = limit == 0 ? .max : Int(limit)
    }

    deinit { close() }

    func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
        size = 0
    }

    /// Opens the file of that name, or makes it with mode 0600. Fails, with its errno, for what is no regular
    /// file, a symbolic link, or somebody else's.
    func open() throws(PluginFailure) {
        close()
        let flags = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | O_NONBLOCK
        let opened = Glibc.open(path, flags, 0o600)
        if opened < 0 { throw failure("opened", errno) }
        var status = stat()
        let reason: String? =
            fstat(opened, &status) != 0
            ? "it cannot be looked at"
            : status.st_mode & S_IFMT != S_IFREG
                ? "it is no regular file"
                : status.st_uid != geteuid()
                    ? "it belongs to user \(status.st_uid), not to \(geteuid())" : nil
        if let reason {
            Glibc.close(opened)
            throw PluginFailure("\(path) cannot be used: \(reason)", errno: EPERM)
        }
        descriptor = opened
        size = Int(status.st_size)
        var last: UInt8 = 0x0A
        isTorn = size > 0 && pread(descriptor, &last, 1, off_t(size - 1)) == 1 && last != 0x0A
    }

    /// Writes lines, each with its newline. Answers how many of them the file does not have: it has whole
    /// lines only, and `complaint` says why.
    func append(_ lines: UnsafeRawBufferPointer) -> Int {
        complaint = nil
        var rest = lines
        while !rest.isEmpty {
            if descriptor < 0, !attempt({ () throws(PluginFailure) in try open() }) { return count(rest) }
            var piece = rest
            if size + rest.count > turning {
                let end = wholeLines(rest, atMost: turning - size)
                if end == 0 && size > 0 {
                    _ = attempt { () throws(PluginFailure) in try turn() }
                    continue
                }
                if end > 0 { piece = UnsafeRawBufferPointer(rebasing: rest[..<end]) }
            }
            let written = write(piece)
            if written < piece.count { return count(UnsafeRawBufferPointer(rebasing: rest[written...])) }
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
        return 0
    }

    private func attempt(_ body: () throws(PluginFailure) -> Void) -> Bool {
        do throws(PluginFailure) {
            try body()
            return true
        } catch {
            complaint = error.reason
            return false
        }
    }

    /// Writes what the disk takes of it. Answers how many bytes of whole lines that is.
    private func write(_ lines: UnsafeRawBufferPointer) -> Int {
        if isTorn {
            guard Glibc.write(descriptor, "\n", 1) == 1 else { return fail(0) }
            size += 1
            isTorn = false
        }
        var done = 0
        while done < lines.count {
            let count = Glibc.write(descriptor, lines.baseAddress! + done, lines.count - done)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 {
                let whole = wholeLines(lines, atMost: done)
                let wanted = fail(whole)
                isTorn = done > whole && ftruncate(descriptor, off_t(size + whole)) != 0
                size += isTorn ? done : whole
                return wanted
            }
            done += count
        }
        size += done
        return done
    }

    private func fail(_ result: Int) -> Int {
        complaint = failure("written", errno).reason
        return result
    }

    /// Sets the file aside and begins a new one. Where that fails, the old one is used until as much again
    /// has been written.
    private func turn() throws(PluginFailure) {
        turning = size + limit
        close()
        if keep == 0 {
            if unlink(path) != 0 { throw failure("removed", errno) }
        } else {
            for number in stride(from: keep - 1, to: 0, by: -1) {
                if rename("\(path).\(number)", "\(path).\(number + 1)") != 0 && errno != ENOENT {
                    throw failure("set aside", errno)
                }
            }
            if rename(path, "\(path).1") != 0 { throw failure("set aside", errno) }
        }
        turning = limit
    }

    private func failure(_ what: String, _ code: Int32) -> PluginFailure {
        PluginFailure("\(path) cannot be \(what): \(String(cString: strerror(code)))", errno: code)
    }

    /// Bytes of the whole lines in the first `most` bytes.
    private func wholeLines(_ bytes: UnsafeRawBufferPointer, atMost most: Int) -> Int {
        guard most > 0 else { return 0 }
        return (bytes.prefix(most).lastIndex(of: 0x0A) ?? -1) + 1
    }

    private func count(_ lines: UnsafeRawBufferPointer) -> Int {
        lines.reduce(0) { $1 == 0x0A ? $0 + 1 : $0 }
    }
}
