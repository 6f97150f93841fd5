// The end of a log's file, where frames are stored through a shared mapping.
//
// Invariants:
// - Every byte from `end` to the end of the file is zero, unless `isBroken`.
// - The disk has room for the bytes below `allocated`; `end <= allocated`.
// - Window w maps bytes w * chunk to (w + 2) * chunk of the file, at one of two places by turns: an even w at
//   the first, an odd w at the second. No window but `window` and the one after it is used, and only the
//   thread that appends moves `window`.
// - `end` is stored by the thread that appends; `allocated`, `window` and `ahead` with `lock` held.

import CLinux
import Glibc

/// The unit in which memory is mapped.
private let pageSize = Int(SHARED_PAGE)

final class LogTail: @unchecked Sendable {
    let file: LogFile
    let chunk: Int

    /// Where the next frame will stand.
    private let endWord: UnsafeMutablePointer<UInt64>
    private let allocatedWord: UnsafeMutablePointer<UInt64>
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let places: UnsafeMutableRawPointer

    /// The thread's that appends: bytes `windowStart` to `windowEnd` of the file stand at `memory`.
    private struct Hot {
        var memory: UnsafeMutableRawPointer
        var windowStart = 0
        var windowEnd = 0
        var isBroken = false
    }
    private let hot: UnsafeMutablePointer<Hot>
    private var window = -1
    /// Whether the window after that one is mapped.
    private var ahead = false

    init(_ file: LogFile, end: Int, chunk: Int) throws(LogFailure) {
        let size = max((chunk + pageSize - 1) & ~(pageSize - 1), pageSize)
        guard let places = shared_reserve(4 * size / pageSize) else {
            throw LogFailure(file.place.path, "cannot reserve addresses", errno)
        }
        self.places = places
        self.file = file
        self.chunk = size
        endWord = .allocate(capacity: 2)
        allocatedWord = endWord + 1
        endWord.initialize(repeating: UInt64(end), count: 2)
        lock = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        hot = .allocate(capacity: 1)
        hot.initialize(to: Hot(memory: places))
    }

    deinit {
        shared_release(places)
        pthread_mutex_destroy(lock)
        lock.deallocate()
        hot.deallocate()
        endWord.deallocate()
    }

    /// Any thread.
    var end: Int { Int(shared_load_long(endWord)) }
    var allocated: Int { Int(shared_load_long(allocatedWord)) }

    /// See `RecordLog.count` and `RecordLog.room`.
    var fill: RecordLog.Fill {
        let end = end
        let room = max(0, (allocated - end - Frame.headSize) & ~7)
        return .init(
            count: end - LogHead.pageSize, room: min(room, Frame.lengthMax - Frame.headSize))
    }

    // MARK: The thread that appends

    /// See `RecordLog.append`.
    func append(_ sequence: UInt64, _ payload: UnsafeRawBufferPointer) throws(LogFailure) {
        let end = Int(endWord.pointee)
        let size = Frame.size(payload: payload.count)
        guard payload.count <= Frame.lengthMax - Frame.headSize, !hot.pointee.isBroken else {
            throw refusal(payload.count)
        }
        if end + size > allocated { try allocate(to: end + size) }
        if end + size > hot.pointee.windowEnd {
            if end + size > (end / chunk + 2) * chunk { return try write(sequence, payload, at: end) }
            try moveWindow(to: end / chunk)
        }
        let losses = shared_losses()
        let length = UInt32(Frame.headSize + payload.count)
        let at = hot.pointee.memory + (end - hot.pointee.windowStart)
        at.storeBytes(of: sequence, toByteOffset: 8, as: UInt64.self)
        if let start = payload.baseAddress { memcpy(at + Frame.headSize, start, payload.count) }
        let sum = Frame.checksum(salt: file.head.salt, length: length, body: at + 8)
        at.storeBytes(of: sum, toByteOffset: 4, as: UInt32.self)
        shared_publish(at, length)
        if shared_losses() != losses { try checkLoss(at, size) }
        shared_publish_long(endWord, UInt64(end + size))
    }

    private func refusal(_ count: Int) -> LogFailure {
        let path = file.place.path
        if hot.pointee.isBroken {
            return LogFailure(EIO, "\(path): has been cut short or cannot be written; nothing is added to it")
        }
        return LogFailure(
            EMSGSIZE,
            "\(path): a frame of \(count) bytes, expected \(Frame.lengthMax - Frame.headSize) at most")
    }

    /// A page that went away took the frame with it: what stands in the file from here on is unknown.
    private func checkLoss(_ at: UnsafeMutableRawPointer, _ size: Int) throws(LogFailure) {
        let first = Int(bitPattern: at) & ~(pageSize - 1)
        for page in stride(from: first, to: Int(bitPattern: at) + size, by: pageSize)
        where shared_is_lost(UnsafeRawPointer(bitPattern: page)) != 0 {
            hot.pointee.isBroken = true
            throw refusal(size)
        }
    }

    /// A frame that fits no window: the same through system calls, the length word last.
    private func write(
        _ sequence: UInt64, _ payload: UnsafeRawBufferPointer, at end: Int
    ) throws(LogFailure) {
        let length = UInt32(Frame.headSize + payload.count)
        var sum = withUnsafeBytes(of: sequence) { crc32c(file.head.salt, $0.baseAddress, 8) }
        sum = crc32c(sum, payload.baseAddress, payload.count)
        sum = withUnsafeBytes(of: length) { crc32c(sum, $0.baseAddress, 4) }
        do throws(LogFailure) {
            try file.write(payload, at: end + Frame.headSize)
            try store(sequence, at: end + 8)
            try store(sum, at: end + 4)
            try store(length, at: end)
        } catch {
            hot.pointee.isBroken = true
            throw error
        }
        shared_publish_long(endWord, UInt64(end + Frame.size(payload: payload.count)))
    }

    private func store<Number: BitwiseCopyable>(_ number: Number, at offset: Int) throws(LogFailure) {
        try withUnsafeBytes(of: number) { bytes throws(LogFailure) in try file.write(bytes, at: offset) }
    }

    private func moveWindow(to wanted: Int) throws(LogFailure) {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        if wanted != window {
            if !(ahead && wanted == window + 1) {
                // Nothing but the old window may be where the new one goes.
                window = -1
                ahead = false
                hot.pointee.windowEnd = 0
                try map(wanted)
            }
            window = wanted
            ahead = false
        }
        hot.pointee.memory = address(wanted)
        hot.pointee.windowStart = wanted * chunk
        hot.pointee.windowEnd = (wanted + 2) * chunk
    }

    // MARK: Ahead of it, on any one thread

    /// Makes sure that frames can be stored below `wanted`, and maps the window after this one.
    func prepare(to wanted: Int) throws(LogFailure) {
        if wanted > allocated { try allocate(to: wanted) }
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        guard window >= 0, !ahead else { return }
        try map(window + 1)
        ahead = true
    }

    /// Makes the pages of the next `count` bytes writable, as far as they are mapped and allocated.
    func warm(_ count: Int) {
        pthread_mutex_lock(lock)
        let mapped = window < 0 ? 0..<0 : window..<window + (ahead ? 2 : 1)
        pthread_mutex_unlock(lock)
        // The windows may be moved meanwhile: then the wrong pages become writable, which harms nobody.
        var at = end & ~(pageSize - 1)
        let stop = min(end + count, allocated) & ~(pageSize - 1)
        for number in mapped where at < stop && at >= number * chunk {
            let part = min(stop, (number + 2) * chunk)
            if part <= at { continue }
            shared_warm(address(number) + (at - number * chunk), (part - at) / pageSize)
            at = part
        }
    }

    private func allocate(to wanted: Int) throws(LogFailure) {
        let target = (wanted + chunk - 1) / chunk * chunk
        // Another thread may have come to it meanwhile: the same blocks twice harm nobody, none are an error.
        let start = allocated
        if wanted <= start { return }
        do throws(LogFailure) {
            try file.allocate(from: start, to: target)
        } catch  where error.isFull && wanted < target {
            // A whole chunk is a wish; what is asked for is not.
            try file.allocate(from: start, to: wanted)
            return raiseAllocated(to: wanted)
        }
        raiseAllocated(to: target)
    }

    private func raiseAllocated(to value: Int) {
        pthread_mutex_lock(lock)
        if value > allocated { shared_publish_long(allocatedWord, UInt64(value)) }
        pthread_mutex_unlock(lock)
    }

    private func address(_ number: Int) -> UnsafeMutableRawPointer { places + (number & 1) * 2 * chunk }

    private func map(_ number: Int) throws(LogFailure) {
        let pages = 2 * chunk / pageSize
        guard shared_map_from(address(number), pages, file.descriptor, UInt64(number * chunk)) == 0 else {
            throw LogFailure(file.place.path, "cannot map", errno)
        }
    }
}
