// The layout of a log's file, in the machine's byte order.
//
// The first page is the head. It stands there twice, at byte 0 and at byte 2048, so that one damaged sector
// does not cost the file:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 8 | magic, `XSRECLOG` |
// | 8 | 4 | version of the format, 1 |
// | 12 | 4 | 0x01020304, which tells the byte order |
// | 16 | 8 | kind: what the frames hold, 8 ASCII characters |
// | 24 | 4 | salt: a random number, with which every checksum of the file begins |
// | 28 | 4 | CRC-32C of the 28 bytes before |
//
// From byte 4096 on, frame after frame, each at a multiple of 8:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | length of head and payload, n = 16 + payload; stored last; 0: no frame stands here |
// | 4 | 4 | CRC-32C, beginning with the salt, of bytes 8 to n and then of the length |
// | 8 | 8 | sequence |
// | 16 | n - 16 | payload |
// | n | 0 to 7 | zeros, to a multiple of 8 |
//
// Behind the last frame there are zeros up to the end of the file, which is allocated ahead. The salt keeps
// what an earlier file left on the same blocks, and what somebody wrote into a payload, from being a frame.

import CLinux

/// The head of one frame.
enum Frame {
    static var headSize: Int { 16 }
    /// No length above this is one: 1 GiB.
    static var lengthMax: Int { 1 << 30 }

    /// The bytes that a frame with a payload of `count` bytes takes.
    static func size(payload count: Int) -> Int { padded(headSize + count) }

    static func padded(_ count: Int) -> Int { (count + 7) & ~7 }

    /// The checksum of a frame whose sequence and payload stand at `body`.
    static func checksum(salt: UInt32, length: UInt32, body: UnsafeRawPointer) -> UInt32 {
        let sum = crc32c(salt, body, Int(length) - 8)
        return withUnsafeBytes(of: length) { crc32c(sum, $0.baseAddress, 4) }
    }

    /// Head and payload of the frame that `bytes` begin with; nil if its length or its checksum says that
    /// there is none.
    static func whole(_ bytes: UnsafeRawBufferPointer, salt: UInt32) -> UnsafeRawBufferPointer? {
        guard let start = bytes.baseAddress, bytes.count >= headSize else { return nil }
        let length = start.loadUnaligned(as: UInt32.self)
        guard length >= headSize, length <= lengthMax, padded(Int(length)) <= bytes.count,
            start.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
                == checksum(salt: salt, length: length, body: start + 8)
        else { return nil }
        return UnsafeRawBufferPointer(start: start, count: Int(length))
    }
}

/// The first page of a file.
struct LogHead: Equatable {
    static var pageSize: Int { 4096 }
    static var version: UInt32 { 1 }
    private static var size: Int { 32 }
    private static var copies: [Int] { [0, 2048] }
    private static let magic = Array("XSRECLOG".utf8)
    private static var order: UInt32 { 0x0102_0304 }

    let kind: [UInt8]
    let salt: UInt32

    enum Found: Equatable {
        /// `isWhole`: both copies of it stand there.
        case head(LogHead, isWhole: Bool)
        case newer(version: UInt32)
        case otherByteOrder
        /// It was a head, and neither copy of it can be trusted.
        case damaged
        case none
    }

    /// The head that stands in a file's first page, or what of it there is.
    static func find(in page: UnsafeRawBufferPointer) -> Found {
        var found: [Found] = []
        for offset in copies {
            let end = min(offset + size, page.count)
            let start = min(offset, end)
            found.append(read(UnsafeRawBufferPointer(rebasing: page[start..<end])))
        }
        if case .head(let head, _) = found[0] {
            return .head(head, isWhole: found[0] == found[1])
        }
        if case .head(let head, _) = found[1] { return .head(head, isWhole: false) }
        return found.first { $0 != .none && $0 != .damaged } ?? (found.contains(.damaged) ? .damaged : .none)
    }

    private static func read(_ bytes: UnsafeRawBufferPointer) -> Found {
        guard bytes.count == size, bytes.starts(with: magic) else { return .none }
        let version = bytes.load(fromByteOffset: 8, as: UInt32.self)
        let isProved = bytes.load(fromByteOffset: 28, as: UInt32.self) == crc32c(0, bytes.baseAddress, 28)
        // A later version may check itself in another way; whatever it is, it is not ours to touch.
        if version > Self.version && version < 1 << 16 { return .newer(version: version) }
        let order = bytes.load(fromByteOffset: 12, as: UInt32.self)
        if order == Self.order.byteSwapped { return .otherByteOrder }
        guard isProved, version == Self.version, order == Self.order else { return .damaged }
        return .head(
            LogHead(kind: Array(bytes[16..<24]), salt: bytes.load(fromByteOffset: 24, as: UInt32.self)),
            isWhole: true)
    }

    /// The whole first page.
    var page: [UInt8] {
        var head = Self.magic
        for number in [Self.version, Self.order] { append(number, to: &head) }
        head += kind
        append(salt, to: &head)
        append(head.withUnsafeBytes { crc32c(0, $0.baseAddress, $0.count) }, to: &head)
        var page = [UInt8](repeating: 0, count: Self.pageSize)
        for offset in Self.copies { page.replaceSubrange(offset..<offset + Self.size, with: head) }
        return page
    }

    private func append(_ number: UInt32, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
    }
}
