// What the tests of the ring share: memory with nothing beside it, a page in such memory, and threads.

import Glibc
import XenStoreRing

/// Zeroed memory between two pages that nobody may touch: a step outside ends the test process.
final class GuardedMemory: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer
    private let mapping: UnsafeMutableRawPointer
    private let mapped: Int

    /// `count` bytes, a multiple of 4096.
    init(count: Int) {
        precondition(count % 4096 == 0)
        mapped = count + 2 * 4096
        mapping = mmap(nil, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        precondition(mapping != MAP_FAILED && mprotect(mapping + 4096, count, PROT_READ | PROT_WRITE) == 0)
        bytes = UnsafeMutableRawBufferPointer(start: mapping + 4096, count: count)
    }

    deinit { munmap(mapping, mapped) }

    /// The last `count` bytes: one more would be outside.
    func last(_ count: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: bytes.suffix(count))
    }
}

/// A page with a ring on it, and a look at its words past the ring. Its memory is never given back, so that a
/// `RingPage` cannot outlive it.
struct SharedPage: Sendable {
    let memory: GuardedMemory

    init() { memory = Unmanaged.passRetained(GuardedMemory(count: 4096)).takeUnretainedValue() }

    var ring: RingPage { RingPage(memory.bytes.baseAddress!) }

    /// The word at an offset of the specification's table, in section B.
    subscript(word offset: Int) -> UInt32 {
        get { memory.bytes.load(fromByteOffset: offset, as: UInt32.self) }
        nonmutating set { memory.bytes.storeBytes(of: newValue, toByteOffset: offset, as: UInt32.self) }
    }

    /// Sets a ring's indexes as if so many bytes had gone through it, and all were taken.
    func start(_ direction: Direction, at index: UInt32) {
        self[word: direction.consumer] = index
        self[word: direction.producer] = index
    }
}

/// Which ring, with the calls of the side that puts and of the side that takes.
enum Direction: CaseIterable, Sendable {
    case request, response

    var firstByte: Int { self == .request ? 0 : 1024 }
    var consumer: Int { self == .request ? 2048 : 2056 }
    var producer: Int { self == .request ? 2052 : 2060 }

    func put(_ bytes: [UInt8], _ ring: RingPage) -> RingPage.Outcome {
        self == .request ? ring.sendRequest(bytes.span) : ring.send(bytes.span)
    }

    func take(into buffer: UnsafeMutableRawBufferPointer, _ ring: RingPage) -> RingPage.Outcome {
        self == .request ? ring.receive(into: buffer) : ring.receiveResponse(into: buffer)
    }

    /// What is taken with room for `limit` bytes, or nil for a bad index. The room is just that large.
    func take(_ limit: Int, _ ring: RingPage) -> [UInt8]? {
        let memory = GuardedMemory(count: max(4096, (limit + 4095) & ~4095))
        return withExtendedLifetime(memory) {
            guard case .moved(let count) = take(into: memory.last(limit), ring) else { return nil }
            return [UInt8](memory.last(limit).prefix(count))
        }
    }
}

/// Byte number `index` of a stream whose bytes repeat at no multiple of the ring's size.
func streamByte(_ index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: (UInt64(truncatingIfNeeded: index) &* 0x9E37_79B9_7F4A_7C15) >> 52)
}

/// `count` bytes of that stream.
func stream(_ start: Int, _ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for offset in 0..<count { buffer[offset] = streamByte(start + offset) }
        filled = count
    }
}

/// A thread of its own, for code that may spin: Swift's shared threads are few.
struct Thread {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private let thread: pthread_t

    init(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(body)).toOpaque()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument)
        precondition(failure == 0, "no thread")
        self.thread = thread
    }

    /// Waits for its end.
    func join() { pthread_join(thread, nil) }
}
