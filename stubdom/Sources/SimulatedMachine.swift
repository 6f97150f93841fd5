// What a test that drives the machine uses of it: the serial port, and mistakes.

import CMachine
import XenStoreTypes

/// Mistakes such as code makes, so that a test sees what the console says of them; and what nothing must be
/// said of.
enum SimulatedMistake: UInt8 {
    case nullPointer
    case endlessRecursion
    /// Of which the processor cannot even tell.
    case doubleFault
    case noMemory
    case failedCheck
    /// No mistake: an interrupt that comes just before the processor halts.
    case lateInterrupt

    func make(_ bytes: [UInt8]) {
        switch self {
        case .nullPointer:
            // The compiler must not know that it is a null pointer.
            machine_store32(UnsafeMutableRawPointer(bitPattern: UInt(bytes.count) - 1 + 8), 1)
        case .endlessRecursion: _ = Self.sum(bytes, 0)
        case .doubleFault:
            // The gate of exception 13 is not there, and no address has these bits.
            machine_place_interrupt_table()?.storeBytes(of: 0, toByteOffset: 16 * 13, as: UInt64.self)
            machine_store32(UnsafeMutableRawPointer(bitPattern: 0xAAAA_0000_0000_0000 + UInt(bytes.count)), 1)
        case .noMemory:
            while true { machine_store32(.allocate(byteCount: 1 << 20, alignment: 16), 1) }
        case .failedCheck: Console.put(Int(bytes[bytes.count]))
        case .lateInterrupt: machine_wait_too_late()
        }
    }

    @inline(never)
    private static func sum(_ bytes: [UInt8], _ depth: Int) -> Int {
        let deeper = machine_load32(machine_place_arguments()) == 0xFFFF_FFFF ? 0 : sum(bytes, depth + 1)
        return deeper + Int(bytes[0]) + depth
    }
}

/// The first serial port (a 16550), whose interrupt ends a wait.
enum Serial {
    private static let port: UInt16 = 0x3F8

    static func open() {
        // 8 bits, no parity; the FIFOs on and empty; an interrupt for each byte that comes in.
        for (register, value) in [(3, 3), (2, 7), (4, 8), (1, 1)] as [(UInt16, UInt8)] {
            machine_out8(port + register, value)
        }
        // The interrupt controller (an 8259, on its own: edges, an end that it sees by itself): interrupts 0
        // to 7 are vectors from `eventVector` on, and all but the port's, 4, are masked.
        for (register, value) in [
            (0x20, 0x13), (0x21, UInt8(Machine.eventVector)), (0x21, 3), (0x21, 0xEF),
        ] as [(UInt16, UInt8)] {
            machine_out8(register, value)
        }
    }

    static var isReadable: Bool { machine_in8(port + 5) & 1 != 0 }
    static func read() -> UInt8 { machine_in8(port) }

    private static func write(_ byte: UInt8) {
        while machine_in8(port + 5) & 0x20 == 0 { machine_pause() }
        machine_out8(port, byte)
    }

    static func send(_ kind: UInt8, _ domain: DomainID, _ body: UnsafeRawBufferPointer) {
        write(kind)
        write(0)
        write(UInt8(truncatingIfNeeded: domain.rawValue))
        write(UInt8(truncatingIfNeeded: domain.rawValue >> 8))
        for shift in [0, 8, 16, 24] as [UInt32] {
            write(UInt8(truncatingIfNeeded: UInt32(body.count) >> shift))
        }
        for byte in body { write(byte) }
    }

    static func send(_ kind: UInt8, _ domain: DomainID, _ body: [UInt8]) {
        body.withUnsafeBytes { send(kind, domain, $0) }
    }
}
