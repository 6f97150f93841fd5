// What the loader left: hvm_start_info, the command line, the configuration.
//
// hvm_start_info, version 0 and 1:
//
//     offset  size  meaning
//     0       4     magic 0x336EC578
//     4       4     version; from 1 on there is a memory map
//     12      4     number of modules (ramdisks)
//     16      8     address of the list of modules: {u64 address, u64 size, u64 command line, u64 0} each
//     24      8     address of the command line, which ends with a NUL
//     40      8     address of the memory map: {u64 address, u64 size, u32 type (1: RAM), u32 0} each
//     48      4     number of its entries
//
// It and what it names may lie anywhere in RAM, right behind the image too. It is read before there is a
// heap, and the heap keeps away from it.

import CMachine

struct Start {
    private static let magic: UInt32 = 0x336E_C578
    private static let commandLineMax = 1024

    private let place: UInt
    let commandLine: UnsafeRawBufferPointer
    /// The ramdisk, or empty.
    let module: UnsafeRawBufferPointer

    /// Reads what is at an address below 4 GiB.
    init(_ place: UInt) {
        self.place = place
        func word(_ offset: UInt) -> UInt { UInt(Self.load(place + offset, UInt64.self)) }
        if place == 0 || Self.load(place, UInt32.self) != Self.magic { stop("there is no hvm_start_info") }
        commandLine = Self.text(word(24))
        let modules = Self.load(place + 12, UInt32.self)
        if modules > 1 { stop("expected one ramdisk at most, found: ", Int(modules)) }
        if modules == 1 {
            let entry = word(16)
            module = Self.bytes(
                UInt(Self.load(entry, UInt64.self)), Int(Self.load(entry + 8, UInt64.self)))
        } else {
            module = UnsafeRawBufferPointer(start: nil, count: 0)
        }
    }

    private static func load<Number: BitwiseCopyable>(_ address: UInt, _: Number.Type) -> Number {
        UnsafeRawPointer(bitPattern: address)!.loadUnaligned(as: Number.self)  // Not 0: what is used is set.
    }

    private static func bytes(_ address: UInt, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: address == 0 ? 0 : count)
    }

    private static func text(_ address: UInt) -> UnsafeRawBufferPointer {
        if address == 0 { return UnsafeRawBufferPointer(start: nil, count: 0) }
        var count = 0
        while count < commandLineMax && load(address + UInt(count), UInt8.self) != 0 { count += 1 }
        return bytes(address, count)
    }

    // MARK: Memory

    /// The end of the RAM that begins at 1 MiB or below, as the memory map has it; 0: there is no map.
    var mappedEnd: UInt {
        guard Self.load(place + 4, UInt32.self) >= 1 else { return 0 }
        let map = UInt(Self.load(place + 40, UInt64.self))
        var found: UInt = 0
        for index in 0..<UInt(Self.load(place + 48, UInt32.self)) {
            let entry = map + 24 * index
            let start = Self.load(entry, UInt64.self)
            let isMemory = Self.load(entry + 16, UInt32.self) == 1
            if isMemory && start <= 1 << 20 {
                found = max(found, UInt(start + Self.load(entry + 8, UInt64.self)))
            }
        }
        return found
    }

    /// The longest piece of RAM below `end`, behind the image and from `least` on, that holds nothing that is
    /// needed.
    func longestGap(from least: UInt = 0, below end: UInt) -> (start: UInt, end: UInt) {
        var best: (start: UInt, end: UInt) = (0, 0)
        var start = max(UInt(bitPattern: machine_place_image_end()), least)
        while start < end {
            var stop = end
            var next = end
            forEachPlace { lower, upper in
                if upper <= start || lower >= stop { return }
                stop = max(lower, start)
                next = upper
            }
            if stop - start > best.end - best.start { best = (start, stop) }
            start = max(next, stop)
        }
        return best
    }

    private func forEachPlace(_ body: (UInt, UInt) -> Void) {
        func report(_ bytes: UnsafeRawBufferPointer) {
            guard let start = bytes.baseAddress else { return }
            body(
                UInt(bitPattern: start) & ~4095, (UInt(bitPattern: start) + UInt(bytes.count) + 4096) & ~4095)
        }
        report(Self.bytes(place, 64))
        report(commandLine)
        report(module)
    }
}
