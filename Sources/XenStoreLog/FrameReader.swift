// Frames of a file in order, read into memory of ours, so that nobody can change them behind a checksum.
//
// Every frame before `position` has been proved. The buffer holds `count` bytes of the file from byte
// `start` on; it grows to the longest frame that the file has bytes for.

import Glibc

struct FrameReader: ~Copyable {
    enum Found {
        /// `bytes` is head and payload, as long as the next call.
        case frame(sequence: UInt64, bytes: UnsafeRawBufferPointer)
        /// No frame was finished here.
        case nothing
        /// Something stands here that is no frame.
        case damage
    }

    private let file: LogFile
    /// Where the next frame would stand.
    private(set) var position: Int
    /// Nothing is read from here on.
    private let limit: Int

    private var buffer: UnsafeMutableRawPointer
    private var capacity = 1 << 18
    private var start: Int
    private var count = 0

    init(_ file: LogFile, from position: Int, to limit: Int) throws(LogFailure) {
        guard let buffer = malloc(capacity) else {
            throw LogFailure(ENOMEM, "\(file.place.path): no memory to read it")
        }
        self.buffer = buffer
        self.file = file
        self.position = position
        self.limit = limit
        start = position
    }

    deinit { free(buffer) }

    /// The frame at `position`, and moves behind it.
    mutating func next() throws(LogFailure) -> Found {
        let rest = limit - position
        guard try hold(min(Frame.headSize, rest)) else { return .nothing }
        var at = buffer + (position - start)
        if rest < Frame.headSize {
            let isZero = UnsafeRawBufferPointer(start: at, count: max(rest, 0)).allSatisfy { $0 == 0 }
            return isZero ? .nothing : .damage
        }
        let length = Int(at.load(as: UInt32.self))
        if length == 0 { return .nothing }
        let size = Frame.padded(length)
        guard length >= Frame.headSize, length <= Frame.lengthMax, size <= rest, try hold(size) else {
            return .damage
        }
        at = buffer + (position - start)
        guard let frame = Frame.whole(UnsafeRawBufferPointer(start: at, count: size), salt: file.head.salt)
        else { return .damage }
        position += size
        return .frame(sequence: at.load(fromByteOffset: 8, as: UInt64.self), bytes: frame)
    }

    /// Brings `wanted` bytes from `position` on into the buffer; false if the file has less.
    private mutating func hold(_ wanted: Int) throws(LogFailure) -> Bool {
        let kept = start + count - position
        if kept >= wanted { return true }
        memmove(buffer, buffer + (position - start), kept)
        if wanted > capacity {
            guard let larger = realloc(buffer, wanted) else {
                throw LogFailure(ENOMEM, "\(file.place.path): no memory for a frame of \(wanted) bytes")
            }
            buffer = larger
            capacity = wanted
        }
        start = position
        count = kept
        let room = min(capacity - kept, limit - position - kept)
        count += try file.read(
            UnsafeMutableRawBufferPointer(start: buffer + kept, count: room), at: position + kept)
        return count >= wanted
    }
}
