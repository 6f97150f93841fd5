// A domain's page by its frame number, for domains that grant none.

import CXen
import Glibc

/// libxenforeignmemory, loaded and opened when it is first needed: few hosts need it, and it needs more
/// privileges than a grant.
final class XenForeignMemory {
    private let library: String
    private var calls = xen_foreign_calls()
    private var handle: OpaquePointer?

    init(library: String) { self.library = library }

    deinit { if let handle { _ = calls.xenforeignmemory_close(handle) } }

    /// Maps one page of the domain.
    ///
    /// Fails with the reason, also that the library is not here; the next call tries again.
    func map(_ domain: UInt32, gfn: UInt64) throws(HypervisorFailure) -> UnsafeMutableRawPointer {
        let handle = try opened()
        var frame = xen_pfn_t(gfn)
        var code: Int32 = 0
        guard
            let page = calls.xenforeignmemory_map(
                handle, domain, PROT_READ | PROT_WRITE, 1, &frame, &code)
        else {
            throw HypervisorFailure(
                "cannot map frame 0x\(String(gfn, radix: 16)) of domain \(domain)", errno: errno)
        }
        // With an array for the errors the library hands out a range that may have holes.
        guard code == 0 else {
            _ = calls.xenforeignmemory_unmap(handle, page, 1)
            throw HypervisorFailure(
                "cannot map frame 0x\(String(gfn, radix: 16)) of domain \(domain)", errno: abs(code))
        }
        return page
    }

    /// False, with errno, if it cannot be unmapped.
    func unmap(_ page: UnsafeMutableRawPointer) -> Bool {
        guard let handle else { return false }
        return calls.xenforeignmemory_unmap(handle, page, 1) == 0
    }

    private func opened() throws(HypervisorFailure) -> OpaquePointer {
        if let handle { return handle }
        try loadXenLibrary(library, into: &calls, xen_load_foreign)
        guard let fresh = calls.xenforeignmemory_open(nil, 0) else {
            throw HypervisorFailure("\(library): cannot open it", errno: errno)
        }
        handle = fresh
        return fresh
    }
}
