// The processor, made safe: an interrupt table, and pages that cannot be written or executed by mistake.
//
//     0 to 4096              not mapped: a null pointer traps
//     image: code            read, execute
//     image: constants       read
//     image: all else        read, write; but the hypercall page is code, and the page below the stack is
//                            not mapped
//     up to 4 GiB            read, write
//
// An exception of any kind is our own mistake. It ends the domain, with its number and place on the console.

import CMachine

enum Machine {
    private static let present: UInt64 = 1
    private static let writable: UInt64 = 2
    private static let noExecution: UInt64 = 1 << 63
    private static let largePage: UInt64 = 2 << 20

    /// The vector of Xen's events; qemu's interrupt controller has this one and the next seven.
    static let eventVector = 0x40

    // MARK: Pages

    static func protectPages() {
        let directory = machine_place_directories()!.assumingMemoryBound(to: UInt64.self)
        let table = machine_place_low_table()!.assumingMemoryBound(to: UInt64.self)
        let codeStart = address(machine_place_image_start())
        let codeEnd = address(machine_place_text_end())
        let constantsEnd = address(machine_place_constants_end())
        guard address(machine_place_image_end()) <= largePage else { stop("the image is over 1 MiB") }
        table[0] = 0
        for page in 1..<512 {
            let at = UInt64(page) * 4096
            var entry = at | present
            if at < codeStart || at >= codeEnd { entry |= noExecution }
            if at < codeStart || at >= constantsEnd { entry |= writable }
            if at == address(machine_place_stack_guard()) { entry = 0 }
            if at == address(machine_place_hypercall_page()) { entry = at | present }
            table[page] = entry
        }
        directory[0] = address(UnsafeMutableRawPointer(table)) | present | writable
        for page in 1..<2048 { directory[page] |= noExecution }
        machine_reload_pages()
    }

    private static func address(_ place: UnsafeMutableRawPointer?) -> UInt64 {
        UInt64(UInt(bitPattern: place))
    }

    // MARK: Interrupts

    /// Loads the interrupt table: 32 exceptions, and Xen's events.
    static func catchExceptions() {
        let table = machine_place_interrupt_table()!
        for vector in 0..<32 {
            setGate(table, vector, machine_place_exception_gates()! + 16 * vector)
        }
        for line in 0..<8 { setGate(table, eventVector + line, machine_place_event_gate()!) }
        // Offset 36: the stack (the first of seven, at 36) for what the usual one cannot take; 102: no ports.
        let state = machine_place_task_state()!
        state.storeBytes(of: address(machine_place_fault_stack()), toByteOffset: 36, as: UInt64.self)
        state.storeBytes(of: 104, toByteOffset: 102, as: UInt16.self)
        let descriptors = machine_place_descriptors()!.assumingMemoryBound(to: UInt64.self)
        let base = address(state)
        descriptors[3] =
            103 | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56
        descriptors[4] = base >> 32
        let operand = Arguments()
        operand.set(0, UInt16(4095))
        operand.set(2, UInt16(truncatingIfNeeded: address(table)))
        operand.set(4, UInt32(truncatingIfNeeded: address(table) >> 16))
        machine_load_tables(UnsafeRawPointer(bitPattern: UInt(operand.address)), 0x18)
    }

    /// A gate of 16 bytes: offset bits 0 to 15, selector, stack, type 0x8E (interrupt), offset bits 16 to 63.
    private static func setGate(
        _ table: UnsafeMutableRawPointer, _ vector: Int, _ entry: UnsafeMutableRawPointer
    ) {
        let offset = address(entry)
        // Double fault, page fault: on the stack of their own.
        let stack: UInt64 = vector == 8 || vector == 14 ? 1 : 0
        let low = offset & 0xFFFF | 0x08 << 16 | stack << 32 | 0x8E << 40 | (offset >> 16 & 0xFFFF) << 48
        table.storeBytes(of: low, toByteOffset: 16 * vector, as: UInt64.self)
        table.storeBytes(of: offset >> 32, toByteOffset: 16 * vector + 8, as: UInt64.self)
    }
}

extension Machine {
    /// What an exception says to people.
    fileprivate static func meaning(of vector: UInt64) -> StaticString {
        switch vector {
        case 6: return "a check of the code's own has failed"
        case 8: return "an exception that the processor could not take"
        case 14:
            let place = machine_fault_address()
            let guarding = address(machine_place_stack_guard())
            if place >= guarding && place < guarding + 4096 { return "the stack is used up" }
            return place < 4096 ? "a null pointer was used" : "memory was used as it may not be"
        default: return "the processor cannot go on"
        }
    }
}

@_cdecl("kernel_exception")
public func exception(_ vector: UInt64, _ code: UInt64, _ place: UInt64, _ stack: UInt64) {
    Console.beginLine("stopped")
    Console.put("exception ")
    Console.put(Int(vector))
    Console.put(" at ")
    Console.put(hexadecimal: place)
    Console.put(", code ")
    Console.put(hexadecimal: code)
    if vector == 14 {
        Console.put(", address ")
        Console.put(hexadecimal: machine_fault_address())
    }
    Console.put(", stack ")
    Console.put(hexadecimal: stack)
    Console.put(": ")
    Console.put(Machine.meaning(of: vector))
    Console.endLine()
    shutDown(.crash)
}
