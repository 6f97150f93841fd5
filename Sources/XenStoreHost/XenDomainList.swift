// The states of domains by libxenctrl's xc_domain_getinfolist, up to Xen 4.20.
//
// libxenctrl is of one Xen release, and so is the structure that it stores:
//
//     offset (x86 and Arm)   size   field of xc_domaininfo_t
//     0                      2      domain
//     4                      4      flags: bit 0 dying, bit 1 HVM, bit 2 shut down
//     48                     8      shared_info_frame
//     76                     16     handle, the toolstack's UUID
//     96                     -      what differs between releases; the structure ends in the machine's part
//
// Domains are asked for one by one, so the size is needed for one thing only: it is measured at the start,
// and a library whose structure has another size than its release's is refused.

import CXen
import Glibc
import XenStore
import XenStoreTypes

/// What a release's xc_domaininfo_t looks like. Offsets and sizes in bytes.
struct XenDomainLayout: Equatable {
    /// Such as `4.17`; libxenctrl's soname ends in it.
    var release: String
    var size: Int
    var domain = 0
    var flags = 4
    var sharedInfoFrame = 48
    var handle = 76

    static let dying: UInt32 = 1 << 0
    static let hvm: UInt32 = 1 << 1
    static let shutdown: UInt32 = 1 << 2
    static let store: UInt32 = 1 << 7
    /// Bytes of the handle.
    static let handleSize = 16
    /// More than any release's structure has.
    static let sizeMax = 1024

    init(_ release: String, size: Int) {
        self.release = release
        self.size = size
    }

    /// The newest first.
    #if arch(arm64)
        private static let (recent, old) = (120, 112)
    #else
        private static let (recent, old) = (112, 104)
    #endif
    static let known = [
        XenDomainLayout("4.20", size: recent), XenDomainLayout("4.19", size: recent),
        XenDomainLayout("4.18", size: recent), XenDomainLayout("4.17", size: recent),
        XenDomainLayout("4.16", size: recent), XenDomainLayout("4.15", size: old),
        XenDomainLayout("4.14", size: old),
    ]
}

/// What getdomaininfo has stored of one domain.
///
/// A domain's unique id is a hash of its handle, of whether it is an HVM one, and of a PV domain's
/// shared_info_frame: all that there is that stays as it is for a domain's life. Two domains of the same
/// number, kind and UUID are told apart only where they are PV domains with different frames. While the
/// daemon maps a domain's page Xen does not give its number to another; so this matters for domains that come
/// and go while no daemon runs.
struct XenDomainEntry {
    private let place: UnsafeRawPointer
    private let layout: XenDomainLayout

    /// At `place` for as long as this is used.
    init(_ place: UnsafeRawPointer, _ layout: XenDomainLayout = XenDomainLayout.known[0]) {
        self.place = place
        self.layout = layout
    }

    var number: UInt16 { place.loadUnaligned(fromByteOffset: layout.domain, as: UInt16.self) }
    private var flags: UInt32 { place.loadUnaligned(fromByteOffset: layout.flags, as: UInt32.self) }
    /// The domain has the XenStore capability.
    var isStore: Bool { flags & XenDomainLayout.store != 0 }

    var identity: DomainIdentity {
        DomainIdentity(
            uniqueID: uniqueID, isShutdown: flags & XenDomainLayout.shutdown != 0,
            isDying: flags & XenDomainLayout.dying != 0)
    }

    /// FNV-1a, so that another process of ours, another release too, comes to the same id. Never 0.
    private var uniqueID: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        func mix(_ offset: Int, _ count: Int) {
            for index in 0..<count { mix(place.load(fromByteOffset: offset + index, as: UInt8.self)) }
        }
        mix(layout.handle, XenDomainLayout.handleSize)
        let isHVM = flags & XenDomainLayout.hvm != 0
        mix(isHVM ? 1 : 0)
        if !isHVM { mix(layout.sharedInfoFrame, 8) }
        return hash == 0 ? 1 : hash
    }
}

/// The list of domains of one release's libxenctrl.
final class XenDomainList: XenDomainSource {
    let name: String
    private var calls = xen_control_calls()
    private let layout: XenDomainLayout
    private let handle: OpaquePointer
    /// One structure of the release, with room behind it.
    private let room: UnsafeMutableRawBufferPointer

    /// The first of `layouts` whose library is here and fits the running Xen.
    ///
    /// Fails with every reason; if there is none of them, with the releases that are here instead.
    static func newest(
        _ library: String, layouts: [XenDomainLayout]
    ) throws(HypervisorFailure) -> XenDomainList {
        var reasons: [String] = []
        for layout in layouts {
            let name = library + layout.release
            do throws(HypervisorFailure) {
                return try XenDomainList(library: name, layout: layout)
            } catch {
                // That a release is not here is no reason; that it lacks a library of its own is one.
                let isAbsent = error.description.contains("\(name): cannot open shared object file")
                if !isAbsent { reasons.append(error.description) }
            }
        }
        guard reasons.isEmpty else { throw HypervisorFailure(reasons.joined(separator: "; ")) }
        let releases = layouts.map(\.release).joined(separator: ", ")
        let present = librariesBeginning(library)
        throw HypervisorFailure(
            "found \(present.isEmpty ? "no \(library)*" : present.joined(separator: ", ")), "
                + "expected \(library)N of a release that is known (\(releases))")
    }

    /// Fails if the library, its privileges or the running Xen do not suffice, or its structure is not
    /// `layout`'s.
    init(library: String, layout: XenDomainLayout) throws(HypervisorFailure) {
        name = library
        self.layout = layout
        try loadXenLibrary(library, into: &calls, xen_load_control)
        guard let handle = calls.xc_interface_open(nil, nil, 0) else {
            throw HypervisorFailure("\(library): cannot open it", errno: errno)
        }
        self.handle = handle
        room = .allocate(byteCount: XenDomainLayout.sizeMax, alignment: 16)
        let size = try measure()
        guard size == layout.size else {
            throw HypervisorFailure(
                "\(library): found \(size) bytes a domain, expected \(layout.size) of Xen \(layout.release)")
        }
    }

    deinit {
        _ = calls.xc_interface_close(handle)
        room.deallocate()
    }

    /// How many bytes the library stores for one domain: up to the last one that is the same whatever stood
    /// there before.
    private func measure() throws(HypervisorFailure) -> Int {
        var images: [[UInt8]] = []
        for fill in [UInt8(0), 0xFF] {
            _ = room.initializeMemory(as: UInt8.self, repeating: fill)
            guard next(from: 0) == 1 else {
                throw HypervisorFailure("\(name): no list of domains", errno: errno)
            }
            images.append(Array(room))
        }
        let last = room.indices.last { images[0][$0] != 0 || images[1][$0] != 0xFF }
        return last.map { $0 + 1 } ?? 0
    }

    /// Stores the first domain of `number` or above in `room`. Returns 1, 0 if there is none, or -1 with
    /// errno.
    private func next(from number: UInt16) -> Int32 {
        let place = room.baseAddress?.assumingMemoryBound(to: xc_domaininfo_t.self)
        return calls.xc_domain_getinfolist(handle, UInt32(number), 1, place)
    }

    private var entry: XenDomainEntry { XenDomainEntry(UnsafeRawPointer(room.baseAddress!), layout) }

    func domain(_ id: DomainID) -> XenDomainAnswer {
        switch next(from: id.rawValue) {
        case 0: return .absent
        case 1: break
        default:
            let code = errno
            return code == ESRCH ? .absent : .failed(code)
        }
        return entry.number == id.rawValue ? .exists(entry.identity) : .absent
    }

    func domains() throws(HypervisorFailure) -> [DomainID] {
        var found: [DomainID] = []
        var number: UInt16 = 0
        while number < DomainID.firstReserved {
            let count = next(from: number)
            if count < 0, errno != ESRCH {
                throw HypervisorFailure("\(name): no list of domains", errno: errno)
            }
            guard count == 1, entry.number >= number else { break }
            found.append(DomainID(entry.number))
            number = entry.number + 1
        }
        return found
    }

    /// The control domain has no use for it: nobody else could be asked.
    func storeDomain() throws(HypervisorFailure) -> DomainID? { nil }
}
