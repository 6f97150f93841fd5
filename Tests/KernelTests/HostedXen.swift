// Xen as the kernel sees it, in the test's process: hypercalls on structures, domains that grant a page each,
// event channels by either ABI. Any of the calls can be made to fail.

import CMachine
import Glibc
import XenStoreRing
import XenStoreTestKit
import XenStoreTypes

@testable import StubKernel

final class HostedXen {
    struct Domain {
        var page = [UInt8](repeating: 0, count: 4096)
        var flags: UInt32 = 0
        var handle: UInt8 = 0
        /// Ports that it has for us.
        var ports: Set<UInt32> = []
        var signals = 0
    }

    /// What a call is to answer instead.
    struct Fault {
        /// The number of the call, from 0 on; negative: none.
        var call = -1
        var code: Int64 = -22
        /// The call itself succeeds, but its structure has an error (grants only; others fail).
        var isStatus = false
    }

    /// The kernel's RAM ends here, and the place for granted pages begins.
    static let memoryEnd: UInt = 0x4020_0000
    private nonisolated(unsafe) static let low = address(0x4000_0000)
    private static let lowCount = 4 << 20
    private static let consoleFrame: UInt64 = 0x40001

    nonisolated(unsafe) private static weak var current: HostedXen?

    var domains: [UInt16: Domain] = [:]
    var fault = Fault()
    /// All calls of this name fail with the fault's code.
    var failing: String?
    /// The names of the calls that were made.
    private(set) var calls: [String] = []
    private(set) var text = ""
    private(set) var shared = HostedXen.address(0x1000)
    private(set) var mapped: [UInt64: UInt16] = [:]
    /// Where each domain's page was mapped last.
    private var places: [UInt16: UInt64] = [:]
    /// Bound ports, and whose they are; virtual interrupts: 0xFFFF.
    private(set) var ports: [UInt32: UInt16] = [:]
    private(set) var virtualPorts: [UInt32: UInt32] = [:]
    private let hasQueues: Bool
    private var queues: QueueModel?
    /// The first port that is given out.
    private let firstPort: UInt32
    private(set) var timer: UInt64?

    init(hasQueues: Bool = true, firstPort: UInt32 = 2) {
        self.hasQueues = hasQueues
        self.firstPort = firstPort
        _ = Self.region
        memset(Self.low, 0, Self.lowCount)
        Self.current = self
        domains[0] = Domain(ports: [7])
        hosted_set_domain(9)
        hosted_play(
            { number, first, second, third in
                HostedXen.current?.call(number, first, second, third) ?? -38
            }, nil, { byte in HostedXen.current?.text.unicodeScalars.append(Unicode.Scalar(byte)) })
        heap = Heap(0x4000_4000, Self.memoryEnd)
    }

    deinit {
        hosted_play(nil, nil, nil)
        heap = nil
    }

    /// Memory below 4 GiB, where the kernel takes all addresses to be.
    private nonisolated(unsafe) static let region: UnsafeMutableRawPointer = {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | 0x100000  // MAP_FIXED_NOREPLACE
        let found = mmap(low, lowCount, PROT_READ | PROT_WRITE, flags, -1, 0)
        precondition(found == low, "the memory at 1 GiB is not free")
        return low
    }()

    private static func address(_ number: UInt) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(bitPattern: number)!  // The kernel names no page at 0.
    }

    // MARK: Hypercalls

    private func call(_ number: UInt64, _ first: UInt64, _ second: UInt64, _ third: UInt64) -> Int64 {
        let isDirect = number == 15 || number == 36
        let place = UnsafeMutableRawPointer(bitPattern: UInt(isDirect ? first : second))
        calls.append(Self.name(number, first))
        let isFault = calls.count - 1 == fault.call || calls.last == failing
        if isFault && !(fault.isStatus && number == 20) { return fault.code }
        if number == 15 {
            timer = first
            return 0
        }
        guard let place else { return -14 }
        let arguments = Structure(place: place)
        switch number {
        case 12: return memory(first, arguments)
        case 20: return grant(first, arguments, isFault ? Int16(fault.code) : 0)
        case 29: return 0
        case 32: return eventChannel(first, arguments)
        case 34: return parameter(first, arguments)
        case 36: return domainState(arguments)
        default: return -38
        }
    }

    private static func name(_ number: UInt64, _ command: UInt64) -> String {
        switch (number, command) {
        case (12, 3): "reservation"
        case (12, 7): "add_to_physmap"
        case (15, _): "set_timer"
        case (20, 0): "map"
        case (20, 1): "unmap"
        case (29, _): "shutdown"
        case (32, 0): "bind_interdomain"
        case (32, 1): "bind_virq"
        case (32, 3): "close"
        case (32, 4): "send"
        case (32, 9): "unmask"
        case (32, 11): "init_control"
        case (32, 12): "expand_array"
        case (34, 0): "set_param"
        case (34, 1): "get_param"
        case (36, _): "domctl"
        default: "\(number)/\(command)"
        }
    }

    private func memory(_ command: UInt64, _ arguments: Structure) -> Int64 {
        if command == 3 { return Int64(Self.memoryEnd / 4096) + 8 }
        shared = Self.address(UInt(arguments[16, UInt64.self]) * 4096)
        memset(shared, 0, 4096)
        return 0
    }

    private func parameter(_ command: UInt64, _ arguments: Structure) -> Int64 {
        if command == 0 { return 0 }
        arguments.set(8, arguments[4, UInt32.self] == 17 ? Self.consoleFrame : 1)
        return 0
    }

    private func grant(_ command: UInt64, _ arguments: Structure, _ status: Int16) -> Int64 {
        let place = arguments[0, UInt64.self]
        guard let page = UnsafeMutableRawPointer(bitPattern: UInt(place)) else { return -14 }
        if command == 0 {
            let domain = arguments[16, UInt16.self]
            let isThere = mapped[place] == nil && domains[domain] != nil
            arguments.set(18, status != 0 ? status : isThere ? 0 : -3)
            if status != 0 || !isThere { return 0 }
            mapped[place] = domain
            places[domain] = place
            arguments.set(20, UInt32(truncatingIfNeeded: place / 4096))
            domains[domain]?.page.withUnsafeBytes { page.copyMemory(from: $0.baseAddress!, byteCount: 4096) }
            return 0
        }
        let isThere = mapped[place] != nil && arguments[16, UInt32.self] == UInt32(place / 4096)
        arguments.set(20, status != 0 ? status : isThere ? 0 : -3)
        if status != 0 || !isThere { return 0 }
        if let domain = mapped[place] { domains[domain]?.page = [UInt8](Self.bytes(page)) }
        mapped[place] = nil
        memset(page, 0, 4096)
        return 0
    }

    private static func bytes(_ page: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: page, count: 4096)
    }

    private func domainState(_ arguments: Structure) -> Int64 {
        if arguments[4, UInt32.self] != 0x15 { return -13 }
        let wanted = arguments[8, UInt16.self]
        guard let found = domains.keys.filter({ $0 >= wanted }).min(), let domain = domains[found] else {
            return -3
        }
        arguments.set(16, found)
        arguments.set(20, domain.flags | 2)
        for offset in 92..<108 { arguments.set(offset, domain.handle) }
        return 0
    }

    // MARK: Event channels

    private func newPort(_ owner: UInt16) -> UInt32 {
        var port = firstPort
        while ports[port] != nil { port += 1 }
        ports[port] = owner
        return port
    }

    private func eventChannel(_ command: UInt64, _ arguments: Structure) -> Int64 {
        let port = arguments[0, UInt32.self]
        switch command {
        case 0:
            let domain = arguments[0, UInt16.self]
            guard domains[domain]?.ports.contains(arguments[4, UInt32.self]) == true else { return -22 }
            let local = newPort(domain)
            arguments.set(8, local)
            raise(local)
        case 1:
            let local = newPort(0xFFFF)
            virtualPorts[port] = local
            arguments.set(8, local)
        case 3:
            if ports.removeValue(forKey: port) == nil { return -22 }
            _ = queues?.forget(port)
        case 4:
            guard let domain = ports[port] else { return -22 }
            domains[domain]?.signals += 1
        case 9:
            if ports[port] == nil { return -22 }
            unmask(port)
        case 11:
            if !hasQueues { return -38 }
            queues = QueueModel(control: Self.address(UInt(arguments[0, UInt64.self]) * 4096))
        case 12:
            queues?.add(Self.address(UInt(arguments[0, UInt64.self]) * 4096))
        default: return -38
        }
        return 0
    }

    private func bit(_ offset: Int, _ port: UInt32) -> UnsafeMutablePointer<UInt64> {
        (shared + offset + 8 * Int(port / 64)).assumingMemoryBound(to: UInt64.self)
    }

    private func unmask(_ port: UInt32) {
        if let queues { return queues.unmask(port) }
        bit(2560, port).pointee &= ~(1 << UInt64(port % 64))
        if bit(2048, port).pointee >> UInt64(port % 64) & 1 != 0 { select(port) }
    }

    private func select(_ port: UInt32) {
        bit(8, 0).pointee |= 1 << UInt64(port / 64)
        shared.storeBytes(of: 1, as: UInt8.self)
    }

    /// Something has happened at the other end.
    func raise(_ port: UInt32) {
        if let queues {
            // A port beyond the array is told of when its page comes.
            if Int(port) >= 1024 * queues.pages.count { return }
            queues.signal(port)
            return queues.finish()
        }
        bit(2048, port).pointee |= 1 << UInt64(port % 64)
        if bit(2560, port).pointee >> UInt64(port % 64) & 1 == 0 { select(port) }
    }

    /// Lets time go by, in nanoseconds: the clock that Xen keeps in shared_info.
    func advance(by time: UInt64) {
        let start = (shared + 48).load(as: UInt64.self)
        shared.storeBytes(of: start + time, toByteOffset: 48, as: UInt64.self)
    }

    // MARK: The other domains

    /// Its page, while we have it mapped.
    func ring(of domain: UInt16) -> RingPage? {
        guard let place = places[domain], mapped[place] == domain else { return nil }
        return UnsafeMutableRawPointer(bitPattern: UInt(place)).map { RingPage($0) }
    }

    /// The domain signals us.
    func raise(by domain: UInt16) { for (port, owner) in ports where owner == domain { raise(port) } }

    /// VIRQ_DOM_EXC.
    func tellOfDomains() { if let port = virtualPorts[3] { raise(port) } }
}

/// A hypercall's structure.
private struct Structure {
    let place: UnsafeMutableRawPointer

    subscript<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Number.Type) -> Number {
        place.load(fromByteOffset: offset, as: Number.self)
    }

    func set<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ value: Number) {
        place.storeBytes(of: value, toByteOffset: offset, as: Number.self)
    }
}
