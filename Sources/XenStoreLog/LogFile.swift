// One log's file: how it is found, made and owned, and its system calls.
//
// It is a regular file of our own user that nobody else may write, reached through no symbolic link; its
// directory stays open, so that names mean the same after a change of the working directory. Its lock
// (flock) is held as long as it is open, and moves with it to another name.

import CLinux
import Glibc

/// The directory that a log and its successor stand in, and the log's name there.
final class LogPlace: Sendable {
    /// As it was given: for messages.
    let path: String
    let name: String
    let directory: Int32

    init(_ path: String) throws(LogFailure) {
        self.path = path
        let end = path.lastIndex(of: "/")
        name = end.map { String(path[path.index(after: $0)...]) } ?? path
        let folder = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        guard !name.isEmpty, name != ".", name != ".." else {
            throw LogFailure(EINVAL, "\(path): expected the path of a file")
        }
        directory = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory < 0 { throw LogFailure(path, "cannot open the directory \(folder)", errno) }
    }

    deinit { close(directory) }

    /// Makes what has been created, renamed and removed in the directory proof against the host's death.
    func sync() throws(LogFailure) {
        if fsync(directory) != 0 { throw LogFailure(path, "cannot sync its directory", errno) }
    }

    /// Removes a file of the directory, if it is there.
    func remove(_ name: String) { unlinkat(directory, name, 0) }
}

/// An open and locked file with a proved head.
final class LogFile: @unchecked Sendable {
    let place: LogPlace
    /// -1 once it is closed, which no other thread may see happen.
    private(set) var descriptor: Int32
    let head: LogHead

    /// Opens the file, or makes it. What it holds already is left as it is.
    init(_ place: LogPlace, kind: [UInt8]) throws(LogFailure) {
        let descriptor = try Self.open(place)
        var isOurs = false
        defer { if !isOurs { Glibc.close(descriptor) } }
        if let head = try Self.findHead(place, descriptor, kind: kind) {
            self.head = head
        } else {
            head = LogHead(kind: kind, salt: try Self.randomSalt(place))
            try Self.write(head, to: descriptor, place)
            try place.sync()
        }
        self.descriptor = descriptor
        self.place = place
        isOurs = true
    }

    /// Makes the file `name` beside the log, with another salt, in place of one that a dead process has left.
    init(successor name: String, of file: LogFile) throws(LogFailure) {
        place = file.place
        head = LogHead(kind: file.head.kind, salt: try Self.randomSalt(place))
        place.remove(name)
        let flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        descriptor = openat(place.directory, name, flags, 0o600)
        if descriptor < 0 { throw LogFailure(place.path, "cannot create \(name)", errno) }
        do throws(LogFailure) {
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                throw LogFailure(place.path, "cannot lock \(name)", errno)
            }
            try Self.write(head, to: descriptor, place)
        } catch {
            place.remove(name)
            Glibc.close(descriptor)
            throw error
        }
    }

    deinit { close() }

    /// Mappings, and children that have not executed anything yet, would keep the lock.
    func close() {
        guard descriptor >= 0 else { return }
        flock(descriptor, LOCK_UN)
        Glibc.close(descriptor)
        descriptor = -1
    }

    // MARK: Opening

    private static func open(_ place: LogPlace) throws(LogFailure) -> Int32 {
        // Again when somebody has put a new file in its place between our open and our lock.
        for _ in 0..<8 {
            let flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
            let descriptor = openat(place.directory, place.name, flags, 0o600)
            if descriptor < 0 {
                let code = errno
                let what =
                    code == ELOOP ? "cannot open: expected a file, found a symbolic link" : "cannot open"
                throw LogFailure(place.path, what, code)
            }
            do throws(LogFailure) {
                try check(place, descriptor)
                if isNamed(place, descriptor) { return descriptor }
            } catch {
                Glibc.close(descriptor)
                throw error
            }
            Glibc.close(descriptor)
        }
        throw LogFailure(EBUSY, "\(place.path): is replaced again and again")
    }

    private static func check(_ place: LogPlace, _ descriptor: Int32) throws(LogFailure) {
        var file = stat()
        guard fstat(descriptor, &file) == 0 else { throw LogFailure(place.path, "cannot stat", errno) }
        guard file.st_mode & S_IFMT == S_IFREG else {
            throw LogFailure(EINVAL, "\(place.path): expected a regular file")
        }
        guard file.st_uid == geteuid() else {
            throw LogFailure(
                EPERM,
                "\(place.path): belongs to user \(file.st_uid), expected user \(geteuid()), who opens it")
        }
        guard file.st_mode & 0o022 == 0 else {
            let mode = String(file.st_mode & 0o777, radix: 8)
            throw LogFailure(EPERM, "\(place.path): others may write it: mode \(mode), expected 600")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            if code != EWOULDBLOCK { throw LogFailure(place.path, "cannot lock", code) }
            throw LogFailure(code, "\(place.path): another process has it open")
        }
    }

    /// Whether the log's name still leads to this file.
    private static func isNamed(_ place: LogPlace, _ descriptor: Int32) -> Bool {
        var file = stat()
        var named = stat()
        return fstat(descriptor, &file) == 0
            && fstatat(place.directory, place.name, &named, AT_SYMLINK_NOFOLLOW) == 0
            && file.st_ino == named.st_ino && file.st_dev == named.st_dev
    }

    // MARK: The head

    /// The file's head; nil if nothing has been written to it yet.
    private static func findHead(
        _ place: LogPlace, _ descriptor: Int32, kind: [UInt8]
    ) throws(LogFailure) -> LogHead? {
        var page = [UInt8](repeating: 0, count: LogHead.pageSize)
        let count = try readFully(place, descriptor, &page, at: 0)
        switch page.withUnsafeBytes({ LogHead.find(in: UnsafeRawBufferPointer(rebasing: $0[..<count])) }) {
        case .head(let head, let isWhole):
            guard head.kind == kind else {
                let (found, expected) = (text(head.kind), text(kind))
                throw LogFailure(EINVAL, "\(place.path): it holds \(found), expected \(expected)")
            }
            if !isWhole { try write(head, to: descriptor, place) }
            return head
        case .newer(let version):
            throw LogFailure(
                EPROTO, "\(place.path): is of format version \(version), expected \(LogHead.version) at most")
        case .otherByteOrder:
            throw LogFailure(EPROTO, "\(place.path): was written by a machine of the other byte order")
        case .damaged:
            throw LogFailure(
                EUCLEAN, "\(place.path): both copies of its head are damaged; it is left as it is")
        case .none:
            // A host that died just after the file was made leaves zeros.
            guard try isZero(place, descriptor) else {
                throw LogFailure(EINVAL, "\(place.path): is no log (no magic number at its start)")
            }
            return nil
        }
    }

    private static func write(
        _ head: LogHead, to descriptor: Int32, _ place: LogPlace
    ) throws(LogFailure) {
        let page = head.page
        try page.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in
            try writeFully(place, descriptor, bytes, at: 0)
        }
        if fsync(descriptor) != 0 { throw LogFailure(place.path, "cannot sync", errno) }
    }

    private static func isZero(_ place: LogPlace, _ descriptor: Int32) throws(LogFailure) -> Bool {
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        var at = 0
        while let start = nextStored(descriptor, at) {
            let count = try readFully(place, descriptor, &piece, at: start)
            if count == 0 { break }
            if piece[..<count].contains(where: { $0 != 0 }) { return false }
            at = start + count
        }
        return true
    }

    private static func randomSalt(_ place: LogPlace) throws(LogFailure) -> UInt32 {
        var salt: UInt32 = 0
        guard getrandom(&salt, 4, 0) == 4 else { throw LogFailure(place.path, "no random number", errno) }
        return salt
    }

    private static func text(_ kind: [UInt8]) -> String {
        let isText = kind.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        return isText ? "'\(String(decoding: kind, as: UTF8.self))'" : "another kind of records"
    }
}
