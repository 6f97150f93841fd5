// Xen's hypercalls, as far as we need them: numbers, structures, and nothing else.
//
// A structure is written into `Arguments`, a page of our own that only one call uses at a time. All fields
// are little-endian and stand at the offsets that the calls name.

import CMachine

enum Hypercall {
    enum Number: UInt64 {
        case memory = 12
        case setTimer = 15
        case version = 17
        case grantTable = 20
        case sched = 29
        case eventChannel = 32
        case hvm = 34
        case domctl = 36
    }

    /// Xen is here: the hypercall page is filled in.
    nonisolated(unsafe) private(set) static var isReady = false
    /// The cpuid leaf that Xen's leaves begin with.
    nonisolated(unsafe) private static var leaf: UInt32 = 0

    /// DOMID_SELF.
    static let me: UInt16 = 0x7FF0

    /// Finds Xen and has its hypercall page filled in. False: there is no Xen.
    static func prepare() -> Bool {
        var base: UInt32 = 0x4000_0000
        while base < 0x4001_0000 {
            let found = machine_cpuid(base)
            // "XenVMMXenVMM"
            if found.ebx == 0x566E_6558, found.ecx == 0x6558_4D4D, found.edx == 0x4D4D_566E {
                leaf = base
                let page = UInt64(UInt(bitPattern: machine_place_hypercall_page()))
                machine_write_msr(machine_cpuid(base + 2).ebx, page)
                isReady = true
                return true
            }
            base += 0x100
        }
        return false
    }

    /// Our own domain id, as Xen's cpuid tells it; nil: it does not.
    static var ownDomain: UInt16? {
        guard machine_cpuid(leaf).eax >= leaf + 4 else { return nil }
        let found = machine_cpuid(leaf + 4)
        return found.eax & 8 != 0 ? UInt16(truncatingIfNeeded: found.ecx) : nil
    }

    @discardableResult
    static func call(
        _ number: Number, _ first: UInt64 = 0, _ second: UInt64 = 0, _ third: UInt64 = 0
    ) -> Int {
        Int(machine_hypercall(number.rawValue, first, second, third, 0, 0))
    }

    @discardableResult
    static func call(_ number: Number, _ command: UInt64, _ arguments: Arguments, count: UInt64 = 0) -> Int {
        call(number, command, arguments.address, count)
    }
}

/// The structure of one hypercall, all zero at first.
struct Arguments {
    static let count = 512
    private let place = machine_place_arguments()!  // An address of the image.

    @inline(never) init() { place.initializeMemory(as: UInt8.self, repeating: 0, count: Self.count) }

    var address: UInt64 { UInt64(UInt(bitPattern: place)) }

    func set<Field: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ value: Field) {
        place.storeBytes(of: value, toByteOffset: offset, as: Field.self)
    }

    func get<Field: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Field.Type) -> Field {
        place.load(fromByteOffset: offset, as: Field.self)
    }
}

/// What the end of the domain means to the toolstack.
enum ShutdownReason: UInt32 {
    case powerOff = 0
    case crash = 3
}

/// The domain is being ended: what goes wrong now only ends it faster.
nonisolated(unsafe) private var isEnding = false

/// Ends the domain. Without Xen, qemu's isa-debug-exit ends it with status 1 (power off) or 7 (crash).
func shutDown(_ reason: ShutdownReason) -> Never {
    if isEnding { while true { machine_halt() } }
    isEnding = true
    if Hypercall.isReady {
        let arguments = Arguments()
        arguments.set(0, reason.rawValue)
        Hypercall.call(.sched, 2, arguments)
    } else {
        machine_out8(0xF4, UInt8(truncatingIfNeeded: reason.rawValue))
    }
    while true { machine_halt() }
}

/// Tells the reader of the console that there is text.
func signalConsole(_ port: UInt32) {
    let arguments = Arguments()
    arguments.set(0, port)
    Hypercall.call(.eventChannel, 4, arguments)
}
