// What a log still holds when it is opened, and what is done about the rest.
//
// Behind the last frame there should be zeros. Bytes that are not zero behind a length of zero are a frame
// that was being stored when the process died: nobody was told of it, and it is dropped. Everything else is
// damage: a length that is none, a checksum that differs, or finished frames behind the gap. It is set aside.

import CLinux
import Glibc

struct Recovery {
    private let file: LogFile

    init(_ file: LogFile) { self.file = file }

    /// See `RecordLog.replay`. Returns where the next frame goes, too.
    func run(
        _ body: (_ sequence: UInt64, _ payload: UnsafeRawBufferPointer) throws(LogFailure) -> Void
    ) throws(LogFailure) -> (found: RecordLog.Replay, end: Int) {
        var found = RecordLog.Replay()
        let size = try file.size()
        var reader = try FrameReader(file, from: LogHead.pageSize, to: size)
        var isDamaged = false
        reading: while true {
            switch try reader.next() {
            case .frame(let sequence, let bytes):
                found.frames += 1
                try body(sequence, UnsafeRawBufferPointer(rebasing: bytes[Frame.headSize...]))
            case .nothing: break reading
            case .damage:
                isDamaged = true
                break reading
            }
        }
        let end = reader.position
        found.bytes = end - LogHead.pageSize
        let last = try endOfBytes(from: end, to: size)
        if last > end {
            found.cut = last - end
            if !isDamaged { isDamaged = try holdsFrame(from: end, to: last) }
            if isDamaged {
                found.setAside = try setAside(from: end, to: last)
            }
            try file.cut(at: end)
        }
        return (found, end)
    }

    /// Behind the last byte of a range that is not zero; its start if there is none.
    private func endOfBytes(from start: Int, to end: Int) throws(LogFailure) -> Int {
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        var last = start
        var at = start
        while at < end, let stored = file.nextStored(at), stored < end {
            let count = try LogFile.readFully(file.place, file.descriptor, &piece, at: stored)
            if count == 0 { break }
            if let used = piece[..<min(count, end - stored)].lastIndex(where: { $0 != 0 }) {
                last = stored + used + 1
            }
            at = stored + count
        }
        return last
    }

    /// Whether finished frames stand in a range. When that would take long to find out, they may.
    private func holdsFrame(from start: Int, to end: Int) throws(LogFailure) -> Bool {
        guard end - start <= 1 << 20 else { return true }
        var bytes = [UInt8](repeating: 0, count: Frame.padded(end - start))
        _ = try LogFile.readFully(file.place, file.descriptor, &bytes, at: start)
        var effort = 1 << 26
        return bytes.withUnsafeBytes { all in
            for at in stride(from: 8, through: all.count - Frame.headSize, by: 8) {
                let length = Int(all.load(fromByteOffset: at, as: UInt32.self))
                guard length >= Frame.headSize, length <= all.count - at else { continue }
                effort -= length
                if effort < 0 { return true }
                let rest = UnsafeRawBufferPointer(rebasing: all[at...])
                if Frame.whole(rest, salt: file.head.salt) != nil { return true }
            }
            return false
        }
    }

    /// Copies a range to a file of its own, which is on the disk when this returns.
    private func setAside(from start: Int, to end: Int) throws(LogFailure) -> String {
        for number in 1...9999 {
            let name = "\(file.place.name).damaged-\(number)"
            let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
            let copy = openat(file.place.directory, name, flags, 0o600)
            if copy < 0 && errno == EEXIST { continue }
            if copy < 0 { throw LogFailure(file.place.path, "cannot set its damaged end aside", errno) }
            defer { close(copy) }
            do throws(LogFailure) {
                try self.copy(from: start, to: end, copy)
            } catch {
                file.place.remove(name)
                throw error
            }
            return String(file.place.path.dropLast(file.place.name.count)) + name
        }
        throw LogFailure(EEXIST, "\(file.place.path): too many files of damaged ends beside it")
    }

    private func copy(from start: Int, to end: Int, _ copy: Int32) throws(LogFailure) {
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        var at = start
        while at < end {
            let count = min(try LogFile.readFully(file.place, file.descriptor, &piece, at: at), end - at)
            if count == 0 { break }
            let place = at - start
            try piece.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in
                let part = UnsafeRawBufferPointer(rebasing: bytes[..<count])
                try LogFile.writeFully(file.place, copy, part, at: place)
            }
            at += count
        }
        guard fsync(copy) == 0 else {
            throw LogFailure(file.place.path, "cannot sync what is set aside of it", errno)
        }
        try file.place.sync()
    }
}
