// Looking at a tdb file before libtdb touches it: whose it is, and what its header says.
//
// libtdb writes a new, empty database over a file whose header it does not know if it may create one, follows
// symbolic links and asks nobody for the owner. So what is there is looked at first, and libtdb creates
// nothing but a file that we have made.
//
// The header, in the byte order of the machine that made the file:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 32 | "TDB file\n" and NULs |
// | 32 | 4 | version: 0x2601196D; Xen's own copy of libtdb wrote 0x2601196E |
// | 36 | 4 | number of hash chains, h |
// | 40 | 4 | 0, or a magic number: which hash, which features |
// | 44 | 4 | where the area for recovery begins; 0: there is none |
// | 48 | 4 | sequence number |
// | 52 | 8 | what the file's hash makes of two known words |
// | 60 | 4 | features, if offset 40 says that there are any (1: mutexes in the file) |
// | 64 | 104 | not for us |
// | 168 | 4 (h+1) | where the free list and each chain begins |

import Glibc
import XenStorePlugin

struct TDBHeader {
    static let size = 168
    static let magic = Array("TDB file\n".utf8)
    static let version: UInt32 = 0x2601_196D
    static let bundledVersion: UInt32 = 0x2601_196E
    private static let featureMagic: UInt32 = 0xBAD_1A52

    /// What stands at a path.
    enum Finding: Equatable {
        case missing
        /// A file without a byte in it.
        case empty
        case sound
        /// What libtdb would not open.
        case damaged(String)
    }

    /// Looks at the file at `path`.
    ///
    /// Throws for what must not be touched: a symbolic link, another's file, one that others may write, no
    /// regular file, one that cannot be written, or another version of tdb.
    static func inspect(_ path: String) throws(PluginFailure) -> Finding {
        let descriptor = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else {
            let code = errno
            if code == ENOENT { return .missing }
            if code == ELOOP { throw PluginFailure("\(path): this is a symbolic link", errno: code) }
            throw PluginFailure("\(path): cannot be opened: \(errorText(code))", errno: code)
        }
        defer { close(descriptor) }
        let size = try check(descriptor, path)
        if size == 0 { return .empty }
        guard size <= Int(UInt32.max) else { return .damaged("it has \(size) bytes, more than a tdb can") }
        let header = ByteBuffer(capacity: Self.size)
        let count = pread(descriptor, header.extend(Self.size), Self.size, 0)
        guard count == Self.size else {
            return .damaged("it has \(max(count, 0)) bytes, less than a tdb's header")
        }
        return try judge(header.bytes, size, path)
    }

    /// The file's size.
    private static func check(_ descriptor: Int32, _ path: String) throws(PluginFailure) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw PluginFailure("\(path): cannot be looked at: \(errorText(errno))", errno: errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw PluginFailure("\(path): this is no regular file", errno: EINVAL)
        }
        guard status.st_uid == geteuid() else {
            throw PluginFailure(
                "\(path): belongs to user \(status.st_uid), expected \(geteuid())", errno: EPERM)
        }
        guard status.st_mode & 0o022 == 0 else {
            throw PluginFailure(
                "\(path): its mode is \(String(status.st_mode & 0o7777, radix: 8)), so that others may "
                    + "write it; expected 600", errno: EPERM)
        }
        return Int(status.st_size)
    }

    private static func judge(
        _ bytes: UnsafeRawBufferPointer, _ size: Int, _ path: String
    ) throws(PluginFailure) -> Finding {
        guard bytes.starts(with: magic) else { return .damaged("it does not begin with \"TDB file\"") }
        let found = bytes.little(32, as: UInt32.self)
        if found == bundledVersion {
            throw PluginFailure(
                "\(path): this is a tdb of the libtdb that Xen 4.17 and earlier had a copy of (version "
                    + "0x2601196e), which the common libtdb does not read; expected version 0x2601196d",
                errno: EINVAL)
        }
        // Of this family, in either byte order: another version, and no damage.
        if found != version, found >> 8 == version >> 8 || found.byteSwapped >> 8 == version >> 8 {
            throw PluginFailure(
                "\(path): a tdb of version 0x\(String(found, radix: 16)) or of another byte order; "
                    + "expected 0x2601196d", errno: EINVAL)
        }
        guard found == version else {
            return .damaged("its version is 0x\(String(found, radix: 16)), expected 0x2601196d")
        }
        if bytes.little(40, as: UInt32.self) == featureMagic, bytes.little(60, as: UInt32.self) & 1 != 0 {
            throw PluginFailure(
                "\(path): a tdb with mutexes in it, which is of no use to other processes", errno: EINVAL)
        }
        let chains = Int(bytes.little(36, as: UInt32.self))
        guard chains >= 1, Self.size + 4 * (chains + 1) <= size else {
            return .damaged("it has \(chains) hash chains in \(size) bytes")
        }
        return .sound
    }
}

/// An errno, as the C library names it.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }
