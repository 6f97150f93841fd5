// The host's system calls that take buffers, and its unsafe code: spans and strings on one side, pointers
// on the other. None of them retries, allocates per call or keeps anything.

import CLinux
import Glibc

/// What one non-blocking read or write came to.
enum Transfer: Equatable {
    /// So many bytes; after a read 0 means that the peer has closed its side.
    case moved(Int)
    /// Nothing can be moved now: ask epoll when.
    case wouldBlock
    /// The peer or the descriptor is gone, for this errno.
    case failed(Int32)

    init(_ result: Int) {
        if result >= 0 {
            self = .moved(result)
        } else {
            let code = errno
            self = code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
        }
    }
}

/// One write(2) of `bytes`, as much of it as fits.
func writeSome(_ descriptor: Int32, _ bytes: Span<UInt8>) -> Transfer {
    bytes.withUnsafeBufferPointer { Transfer(write(descriptor, $0.baseAddress, $0.count)) }
}

/// Memory to read into, allocated once and for good.
struct ReadBuffer: ~Copyable {
    private let memory: UnsafeMutableBufferPointer<UInt8>

    init(capacity: Int) { memory = .allocate(capacity: capacity) }
    deinit { memory.deallocate() }

    /// One read(2). After `.moved(n)` the first n bytes are the peer's.
    func fill(from descriptor: Int32) -> Transfer {
        Transfer(read(descriptor, memory.baseAddress, memory.count))
    }

    /// Lends the first `count` bytes, which the last `fill` must have brought.
    func with<R>(first count: Int, _ body: (Span<UInt8>) -> R) -> R {
        body(UnsafeBufferPointer(rebasing: memory[..<count]).span)
    }
}

/// Nanoseconds of a clock that only goes forward. The kernel is not entered.
func monotonicNow() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// The time of day.
func wallClock() -> timespec {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return time
}

/// What an errno means, in words.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

/// The working directory, `/` where it has none.
func workingDirectory() -> String {
    guard let path = getcwd(nil, 0) else { return "/" }
    defer { free(path) }
    return String(cString: path)
}

/// Writes a line to stderr, for what must be said when there is no log.
func printError(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = writeSome(2, bytes.span)
}

/// 128 bits from the kernel that nobody outside can guess.
func randomSeed() throws(StartFailure) -> (UInt64, UInt64) {
    var seed: (UInt64, UInt64) = (0, 0)
    let size = MemoryLayout.size(ofValue: seed)
    guard getrandom(&seed, size, 0) == size else { throw StartFailure("no random seed", errno: errno) }
    return seed
}

/// Makes sure that stdin, stdout and stderr are open, so that no client's socket becomes one of them.
func occupyStandardDescriptors() {
    for standard in Int32(0)...2 where fcntl(standard, F_GETFD) < 0 {
        _ = open("/dev/null", O_RDWR | O_NOCTTY)
    }
}

/// Lets the process open as many files as its hard limit allows: each client is one.
func raiseDescriptorLimit() {
    var limit = rlimit()
    let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(kind, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(kind, &limit)
}
