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

    /// What is known of the domain; nil: there is none of this number.
    func identity(_ domain: DomainID) -> DomainIdentity? {
        let (code, answer) = Self.ask(domain, version)
        if code != 0 && code != Self.notFound {
            stop(Failure("Xen does not tell us of domain ", Int(domain.rawValue), code: code))
        }
        guard code == 0, answer.get(16, UInt16.self) == domain.rawValue else { return nil }
        let flags = answer.get(20, UInt32.self)
        return DomainIdentity(
            uniqueID: Self.uniqueID(answer, flags), isShutdown: flags & 4 != 0, isDying: flags & 1 != 0)
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
