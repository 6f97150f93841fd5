// The states of domains by XEN_DOMCTL_getdomaininfo, which the XenStore capability allows up to Xen 4.20.
//
//     offset  size  meaning
//     0       4     command, 5
//     4       4     the version of the interface, which is each release's own
//     8       2     the first domain that is wanted
//     16      2     the domain that was found, the next higher one if there is none of that number
//     20      4     flags: bit 0 dying, bit 1 HVM, bit 2 shut down
//     64      8     shared_info_frame
//     92      16    handle, the toolstack's UUID

import CMachine
import XenStore
import XenStoreTypes

final class XenDomains {
    /// Versions whose structure begins as above: 0x15 is that of Xen 4.17.
    private static let versions: ClosedRange<UInt32> = 0x13...0x17
    private static let notFound = -3
    private static let wrongVersion = -13
    private let version: UInt32
    /// The domains that there were when we looked last, by rising number.
    private var seen: [(domain: DomainID, identity: DomainIdentity)] = []

    /// Throws where Xen speaks no version that we know, or refuses us: the domain has to be built with the
    /// XenStore capability (init-xenstore-domain does so).
    init() throws(Failure) {
        for version in Self.versions.reversed() {
            let (code, _) = Self.ask(.zero, version)
            if code == Self.wrongVersion { continue }
            if code != 0 {
                throw Failure("Xen does not tell us of domains (this is no XenStore domain?)", code: code)
            }
            self.version = version
            return
        }
        throw Failure("Xen's domctl interface is of a release that is not known, after 4.20 or before 4.14")
    }

    private static func ask(_ domain: DomainID, _ version: UInt32) -> (code: Int, answer: Arguments) {
        let arguments = Arguments()
        arguments.set(0, UInt32(5))
        arguments.set(4, version)
        arguments.set(8, domain.rawValue)
        return (Hypercall.call(.domctl, arguments.address), arguments)
    }

    /// What is known of the domain; nil: there is none of this number. Throws where Xen does not say.
    func identity(_ domain: DomainID) throws(Failure) -> DomainIdentity? {
        let (code, answer) = Self.ask(domain, version)
        if code != 0 && code != Self.notFound {
            throw Failure("Xen does not tell us of domain ", Int(domain.rawValue), code: code)
        }
        var found: DomainIdentity?
        if code == 0, answer.get(16, UInt16.self) == domain.rawValue {
            let flags = answer.get(20, UInt32.self)
            found = DomainIdentity(
                uniqueID: Self.uniqueID(answer, flags), isShutdown: flags & 4 != 0, isDying: flags & 1 != 0)
        }
        note(domain, found)
        return found
    }

    /// What `identity` has answered last; nil: nothing yet, or that there is none.
    func lastSeen(_ domain: DomainID) -> DomainIdentity? {
        let index = place(domain)
        return index < seen.count && seen[index].domain == domain ? seen[index].identity : nil
    }

    private func note(_ domain: DomainID, _ identity: DomainIdentity?) {
        let index = place(domain)
        let isThere = index < seen.count && seen[index].domain == domain
        guard let identity else {
            if isThere { seen.remove(at: index) }
            return
        }
        if isThere { seen[index].identity = identity } else { seen.insert((domain, identity), at: index) }
    }

    /// Where a domain stands in `seen`, or would.
    private func place(_ domain: DomainID) -> Int {
        var (low, high) = (0, seen.count)
        while low < high {
            let middle = (low + high) / 2
            if seen[middle].domain.rawValue < domain.rawValue { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// FNV-1a of what stays as it is for a domain's life: its handle, whether it is an HVM one, and a PV
    /// domain's shared_info_frame. Never 0.
    private static func uniqueID(_ answer: Arguments, _ flags: UInt32) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for offset in 92..<108 { mix(answer.get(offset, UInt8.self)) }
        let isHVM = flags & 2 != 0
        mix(isHVM ? 1 : 0)
        if !isHVM { for offset in 64..<72 { mix(answer.get(offset, UInt8.self)) } }
        return hash == 0 ? 1 : hash
    }
}
