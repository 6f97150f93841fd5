// The beginning of a log, mapped to be read at any place, while frames are appended behind it.
//
// Its pages may go away when somebody cuts the file short. They then read as zeros, and `isWhole` is false
// from then on: whoever copies out of a view asks before the copy counts.

import CLinux
import Glibc

/// What stood in a log when the view was made.
public final class LogView {
    private let file: LogFile
    private let start: UnsafeMutableRawPointer
    private let losses: UInt32
    /// Bytes of frames.
    public let count: Int

    fileprivate init(_ file: LogFile, count: Int) throws(LogFailure) {
        let end = LogHead.pageSize + count
        let pages = (end + Int(SHARED_PAGE) - 1) / Int(SHARED_PAGE)
        losses = shared_losses()
        guard let start = shared_reserve(pages) else {
            throw LogFailure(file.place.path, "cannot reserve addresses", errno)
        }
        self.start = start
        self.file = file
        self.count = count
        guard shared_map_from(start, pages, file.descriptor, 0) == 0 else {
            throw LogFailure(file.place.path, "cannot map", errno)
        }
    }

    deinit { shared_release(start) }

    /// Whether everything that was read so far stood in the file.
    public var isWhole: Bool { shared_losses() == losses }

    /// All of it; frames begin at multiples of 8, and their payloads too.
    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: start + LogHead.pageSize, count: count)
    }

    /// Hands over every frame's sequence, and where in `bytes` its payload stands. Throws EUCLEAN where one
    /// is damaged, and what `body` throws.
    public func walk(
        _ body: (_ sequence: UInt64, _ payload: Range<Int>) throws(LogFailure) -> Void
    ) throws(LogFailure) {
        var at = 0
        while at < count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
            guard let frame = Frame.whole(rest, salt: file.head.salt) else {
                let place = LogHead.pageSize + at
                throw LogFailure(EUCLEAN, "\(file.place.path): damaged at byte \(place)")
            }
            let sequence = frame.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            try body(sequence, at + Frame.headSize..<at + frame.count)
            at += Frame.padded(frame.count)
        }
    }
}

extension RecordLog {
    /// The frames up to byte `count` of the log's, where one ends. Any thread.
    public func view(upTo count: Int) throws(LogFailure) -> LogView {
        try LogView(shared.file, count: count)
    }
}
