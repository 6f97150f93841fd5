// The states of domains by XEN_DOMCTL_getdomaininfo, for a daemon outside the control domain, up to Xen 4.20.
//
// libxenctrl's list (XenDomainList.swift) is a sysctl, which Xen allows the control domain only. This call is
// allowed to a domain with the XenStore capability. The structure:
//
//     offset  size   meaning
//     0       4      5: XEN_DOMCTL_getdomaininfo
//     4       4      version of the interface, which is each release's own
//     8       2      the first domain that is wanted
//     16      -      what is found, the next higher domain if there is none of that number: the fields of
//                    xc_domaininfo_t, at the same offsets in each version that is known (XenDomainLayout)

import CXen
import Glibc
import XenStore
import XenStoreTypes

/// Domains' states by libxencall, whose interface is stable.
final class XenDomainCalls: XenDomainSource {
    let name: String
    /// Of Xen 4.14 to 4.20; the newest is tried first.
    static let versions: ClosedRange<UInt32> = 0x13...0x17
    /// More than any version's structure has.
    private static let size = 512
    private static let found = 16
    private static let getDomainInfo: UInt32 = 5

    private var calls = xen_hypercall_calls()
    private let handle: OpaquePointer
    /// Memory that Xen can write to at any time.
    private let buffer: UnsafeMutableRawPointer
    private var version = versions.upperBound

    /// Fails if the library, its privileges or the running Xen do not suffice.
    init(library: String) throws(HypervisorFailure) {
        name = library
        try loadXenLibrary(library, into: &calls, xen_load_hypercall)
        guard let handle = calls.xencall_open(nil, 0) else {
            throw HypervisorFailure("\(library): cannot open it", errno: errno)
        }
        guard let buffer = calls.xencall_alloc_buffer(handle, Self.size) else {
            let code = errno
            _ = calls.xencall_close(handle)
            throw HypervisorFailure("\(library): no memory for hypercalls", errno: code)
        }
        (self.handle, self.buffer) = (handle, buffer)
        for version in Self.versions.reversed() {
            self.version = version
            if next(from: 0) == 0 { return }
            // Xen's word for another version.
            guard errno == EACCES else {
                throw HypervisorFailure(
                    "\(library): no states of domains (is this the XenStore domain?)", errno: errno)
            }
        }
        throw HypervisorFailure(
            "\(library): found a Xen that is not known, expected one of 4.14 to 4.20", errno: EACCES)
    }

    deinit {
        calls.xencall_free_buffer(handle, buffer)
        _ = calls.xencall_close(handle)
    }

    /// Finds the first domain of `number` or above. Returns 0, or -1 with errno; ESRCH: there is none.
    private func next(from number: UInt16) -> Int32 {
        _ = UnsafeMutableRawBufferPointer(start: buffer, count: Self.size)
            .initializeMemory(as: UInt8.self, repeating: 0)
        buffer.storeBytes(of: Self.getDomainInfo, as: UInt32.self)
        buffer.storeBytes(of: version, toByteOffset: 4, as: UInt32.self)
        buffer.storeBytes(of: number, toByteOffset: 8, as: UInt16.self)
        let address = UInt64(UInt(bitPattern: buffer))
        return calls.xencall1(handle, UInt32(__HYPERVISOR_domctl), address) < 0 ? -1 : 0
    }

    private var entry: XenDomainEntry { XenDomainEntry(buffer + Self.found) }

    func domain(_ id: DomainID) -> XenDomainAnswer {
        if next(from: id.rawValue) < 0 {
            let code = errno
            return code == ESRCH ? .absent : .failed(code)
        }
        return entry.number == id.rawValue ? .exists(entry.identity) : .absent
    }

    func domains() throws(HypervisorFailure) -> [DomainID] {
        try all().map { DomainID($0.number) }
    }

    func storeDomain() throws(HypervisorFailure) -> DomainID? {
        try all().last { $0.isStore }.map { DomainID($0.number) }
    }

    private func all() throws(HypervisorFailure) -> [(number: UInt16, isStore: Bool)] {
        var found: [(number: UInt16, isStore: Bool)] = []
        var number: UInt16 = 0
        while number < DomainID.firstReserved {
            if next(from: number) < 0 {
                if errno == ESRCH { break }
                throw HypervisorFailure("\(name): no list of domains", errno: errno)
            }
            guard entry.number >= number, entry.number < DomainID.firstReserved else { break }
            found.append((entry.number, entry.isStore))
            number = entry.number + 1
        }
        return found
    }
}
