// What Xen says of its domains. Three sources: up to Xen 4.20 libxenctrl's list of domains
// (XenDomainList.swift), and outside the control domain a hypercall (XenDomainCalls.swift); from 4.21
// libxenmanage's domain states, here.

import CXen
import Glibc
import XenStore
import XenStoreTypes

/// What a source has to say of one domain.
enum XenDomainAnswer: Equatable {
    case exists(DomainIdentity)
    case absent
    /// Nothing is known, for this errno.
    case failed(Int32)
}

/// A source of domain states.
protocol XenDomainSource: AnyObject {
    /// For the log.
    var name: String { get }
    func domain(_ id: DomainID) -> XenDomainAnswer
    /// All domains that exist, in order. For the start: it may take some 30 ms.
    func domains() throws(HypervisorFailure) -> [DomainID]
    /// The last domain with the XenStore capability: where the daemon is outside the control domain, its own.
    func storeDomain() throws(HypervisorFailure) -> DomainID?
}

/// Opens the source that this machine has: libxenmanage if it is there and the running Xen knows its call,
/// else in the control domain the libxenctrl of one of `layouts`, elsewhere libxencall.
///
/// Fails with the reason of each that was tried.
func openDomainSource(
    _ names: XenLibraryNames, inControlDomain: Bool, layouts: [XenDomainLayout] = XenDomainLayout.known
) throws(HypervisorFailure) -> any XenDomainSource {
    do throws(HypervisorFailure) {
        return try XenDomainStates(library: names.manage)
    } catch let manage {
        do throws(HypervisorFailure) {
            if !inControlDomain { return try XenDomainCalls(library: names.hypercalls) }
            return try XenDomainList.newest(names.control, layouts: layouts)
        } catch let control {
            throw HypervisorFailure("\(control); \(manage)")
        }
    }
}

/// The states of domains by libxenmanage (XEN_DOMCTL_get_domain_state, from Xen 4.21).
///
/// A domain's unique id is Xen's own: it is not used twice before the next boot of the host. *Dying* here is
/// Xen's *dead*: its memory is given back, and what it still waits for are mappings such as ours. That is
/// also what getdomaininfo's `dying` flag means (specification, section B).
final class XenDomainStates: XenDomainSource {
    let name: String
    private var calls = xen_manage_calls()
    private let handle: UnsafeMutableRawPointer

    /// Fails if the library, its privileges or the running Xen do not suffice.
    init(library: String) throws(HypervisorFailure) {
        name = library
        try loadXenLibrary(library, into: &calls, xen_load_manage)
        guard let handle = calls.xenmanage_open(nil, 0) else {
            throw HypervisorFailure("\(library): cannot open it", errno: errno)
        }
        self.handle = handle
        // Domain 0 exists on every host that runs tools; its id is what identities are made of.
        switch domain(.zero) {
        case .exists(let found) where found.uniqueID != 0: return
        case .exists: throw HypervisorFailure("\(library): it knows no unique ids")
        case .absent: throw HypervisorFailure("\(library): it does not know domain 0")
        case .failed(let code): throw HypervisorFailure("\(library): no state of domain 0", errno: code)
        }
    }

    deinit { _ = calls.xenmanage_close(handle) }

    func domain(_ id: DomainID) -> XenDomainAnswer { ask(id).answer }

    private func ask(_ id: DomainID) -> (answer: XenDomainAnswer, isStore: Bool) {
        var state: UInt32 = 0
        var (capabilities, uniqueID): (UInt64, UInt64) = (0, 0)
        guard
            calls.xenmanage_get_domain_info(handle, UInt32(id.rawValue), &state, &capabilities, &uniqueID)
                == 0
        else {
            let code = errno
            return (code == ESRCH || code == ENOENT ? .absent : .failed(code), false)
        }
        func has(_ bit: xen_manage_state) -> Bool { state & bit.rawValue != 0 }
        guard has(XEN_MANAGE_EXISTS) else { return (.absent, false) }
        let identity = DomainIdentity(
            uniqueID: uniqueID, isShutdown: has(XEN_MANAGE_SHUTDOWN), isDying: has(XEN_MANAGE_DEAD))
        return (.exists(identity), capabilities & UInt64(XEN_MANAGE_CAP_XENSTORE.rawValue) != 0)
    }

    func domains() throws(HypervisorFailure) -> [DomainID] { try all().map(\.id) }

    func storeDomain() throws(HypervisorFailure) -> DomainID? { try all().last(where: \.isStore)?.id }

    private func all() throws(HypervisorFailure) -> [(id: DomainID, isStore: Bool)] {
        var found: [(id: DomainID, isStore: Bool)] = []
        for number in 0..<DomainID.firstReserved {
            let (answer, isStore) = ask(DomainID(number))
            switch answer {
            case .exists: found.append((DomainID(number), isStore))
            case .absent: continue
            case .failed(let code):
                throw HypervisorFailure("\(name): no state of domain \(number)", errno: code)
            }
        }
        return found
    }
}
