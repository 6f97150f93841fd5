// Bytes that grow, and views of bytes. Unsafe code: the memory under the module's queues and scratch space.

import Glibc

/// A growing run of bytes that keeps its memory when it is emptied.
final class ByteBuffer {
    private(set) var start: UnsafeMutableRawPointer
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 4096) {
        self.capacity = capacity
        start = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { start.deallocate() }

    /// What is in it: valid until it is next appended to.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    /// Empties it. Memory beyond `keeping` bytes is given back.
    func removeAll(keeping: Int = .max) {
        count = 0
        guard capacity > keeping else { return }
        start.deallocate()
        capacity = keeping
        start = .allocate(byteCount: capacity, alignment: 16)
    }

    /// Makes room for `size` bytes behind what is there, whose content the caller then writes.
    func extend(_ size: Int) -> UnsafeMutableRawPointer {
        if capacity - count < size { grow(size) }
        defer { count += size }
        return start + count
    }

    func append(_ bytes: UnsafeRawBufferPointer) {
        guard let from = bytes.baseAddress else { return }
        extend(bytes.count).copyMemory(from: from, byteCount: bytes.count)
    }

    func append<Number: FixedWidthInteger>(_ number: Number) {
        extend(MemoryLayout<Number>.size).storeBytes(of: number.littleEndian, as: Number.self)
    }

    func append(byte: UInt8) { extend(1).storeBytes(of: byte, as: UInt8.self) }

    private func grow(_ size: Int) {
        let wanted = max(capacity * 2, count + size)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
        larger.copyMemory(from: start, byteCount: count)
        start.deallocate()
        (start, capacity) = (larger, wanted)
    }
}

extension UnsafeRawBufferPointer {
    /// A part of it; the positions count from its own start.
    func part(_ from: Int, _ size: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[from..<from + size])
    }

    func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let a = baseAddress, let b = other.baseAddress else { return true }
        return memcmp(a, b, count) == 0
    }

    /// For messages: what is printable ASCII, and the rest as `\xNN`; at most 80 bytes of it.
    var shown: String {
        var text = ""
        for byte in prefix(80) {
            if byte >= 0x20, byte < 0x7F {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16)
                text += "\\x" + (digits.count == 1 ? "0" : "") + digits
            }
        }
        return count > 80 ? text + "..." : text
    }
}
