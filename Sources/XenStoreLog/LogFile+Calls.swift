// A log file's reads and writes, whole or not at all, and its size.

import CLinux
import Glibc

extension LogFile {
    /// Bytes of the file, what is allocated ahead with it.
    func size() throws(LogFailure) -> Int {
        var file = stat()
        guard fstat(descriptor, &file) == 0 else { throw LogFailure(place.path, "cannot stat", errno) }
        return Int(file.st_size)
    }

    func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(LogFailure) -> Int {
        try Self.readFully(place, descriptor, bytes, at: offset)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(LogFailure) {
        try Self.writeFully(place, descriptor, bytes, at: offset)
    }

    func sync() throws(LogFailure) {
        if fdatasync(descriptor) != 0 { throw LogFailure(place.path, "cannot sync", errno) }
    }

    /// Makes sure that the disk has room for the bytes from `start` to `end`, and that the file is that long.
    func allocate(from start: Int, to end: Int) throws(LogFailure) {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
        // Growing beyond it would be a SIGXFSZ.
        var code = UInt64(limit.rlim_cur) < UInt64(end) ? EFBIG : 0
        while code == 0 {
            code = posix_fallocate(descriptor, off_t(start), off_t(end - start))
            if code == 0 { return }
            if code == EINTR { code = 0 }
        }
        throw LogFailure(place.path, "cannot grow to \(end) bytes", code)
    }

    /// Drops everything from `end` on, for good.
    func cut(at end: Int) throws(LogFailure) {
        guard ftruncate(descriptor, off_t(end)) == 0, fsync(descriptor) == 0 else {
            throw LogFailure(place.path, "cannot cut at byte \(end)", errno)
        }
    }

    /// The first byte at or behind `offset` that may be other than zero, as far as the file system tells.
    func nextStored(_ offset: Int) -> Int? { Self.nextStored(descriptor, offset) }

    static func nextStored(_ descriptor: Int32, _ offset: Int) -> Int? {
        let next = linux_next_stored(descriptor, off_t(offset))
        return next >= 0 ? Int(next) : (errno == ENXIO ? nil : offset)
    }

    /// Fills `bytes` from the file, and returns how many there were: less than asked for at its end only.
    static func readFully(
        _ place: LogPlace, _ descriptor: Int32, _ bytes: UnsafeMutableRawBufferPointer, at offset: Int
    ) throws(LogFailure) -> Int {
        var done = 0
        while done < bytes.count {
            let count = pread(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if count == 0 { break }
            if count > 0 {
                done += count
            } else if errno != EINTR {
                throw LogFailure(place.path, "cannot read at byte \(offset + done)", errno)
            }
        }
        return done
    }

    static func readFully(
        _ place: LogPlace, _ descriptor: Int32, _ bytes: inout [UInt8], at offset: Int
    ) throws(LogFailure) -> Int {
        // The closure may not throw what it wants to.
        let result = bytes.withUnsafeMutableBytes { bytes in
            Result { () throws(LogFailure) in try readFully(place, descriptor, bytes, at: offset) }
        }
        return try result.get()
    }

    static func writeFully(
        _ place: LogPlace, _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int
    ) throws(LogFailure) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if count >= 0 {
                done += count
            } else if errno != EINTR {
                throw LogFailure(place.path, "cannot write at byte \(offset + done)", errno)
            }
        }
    }
}
