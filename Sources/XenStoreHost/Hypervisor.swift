// What the host needs of Xen. Real Xen and the simulated one are two classes behind this protocol.
//
// Everything here is called on the loop's thread, and nothing blocks. A *remote* port is the guest's end of
// an event channel, as INTRODUCE names it; a *local* one is ours, and is what all the calls but `bind` take.

import XenStore
import XenStoreTypes

/// Why a step with a domain failed, as one line for the log: what was tried, on what, and why it failed.
struct HypervisorFailure: Error, Equatable, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }

    /// `what`, and the meaning of the system call's `errno`.
    init(_ what: String, errno code: Int32) { description = what + ": " + errorText(code) }
}

/// Domains, their pages and their event channels.
protocol Hypervisor: AnyObject {
    /// For the log, such as `Xen 4.17`.
    var name: String { get }

    // MARK: Event channels

    /// Readable while event channels are pending.
    var descriptor: Int32 { get }
    /// `takePending` hands over all there are but where `hasMorePending` says so: who waits for `descriptor`
    /// may wait for the next one.
    var isEdgeTriggered: Bool { get }
    /// The last `takePending` has left some.
    var hasMorePending: Bool { get }
    /// Hands over local ports that are pending, each of which is masked until `unmask`. Not more than some
    /// hundred in one call: `descriptor` stays readable while there are more.
    func takePending(_ body: (UInt32) -> Void)
    func unmask(_ port: UInt32)
    /// The local port of VIRQ_DOM_EXC: a domain has been shut down, or is gone.
    var domainPort: UInt32 { get }
    /// Binds the domain's `remotePort` to a new local port. Whether it is pending at once is not said: the
    /// caller looks at the ring as if it were.
    func bind(_ domain: DomainID, remotePort: UInt32) throws(HypervisorFailure) -> UInt32
    func unbind(_ port: UInt32)
    /// Signals the domain at the other end. A full memory barrier: what was written before is seen there, and
    /// what is read afterwards is not older.
    func notify(_ port: UInt32)

    // MARK: Domains

    /// What is known of the domain now; nil: there is none of this id.
    func domain(_ id: DomainID) -> DomainIdentity?
    /// All that exist, for the start.
    func domains() -> [DomainID]
    /// The domain that the daemon runs in, where that is not the one of `ownRing`.
    var ownDomain: DomainID? { get }
    /// Tells this boot of the host from others; nil: as the machine's kernel does.
    var bootID: String? { get }

    // MARK: Pages

    /// The page of 4096 bytes that the domain shares with us: grant 1, else the frame `gfn` (`noFrame`: only
    /// by grant).
    func map(_ domain: DomainID, gfn: UInt64) throws(HypervisorFailure) -> UnsafeMutableRawPointer
    /// Of a page of `map` or `ownRing`. It must not be touched any more.
    func unmap(_ page: UnsafeMutableRawPointer)
    /// Whether a mapped page is lost: it does not reach the domain any more, and reads as anything.
    func isLost(_ page: UnsafeMutableRawPointer) -> Bool
    /// Maps a lost page anew, in its place. If it fails the page stays lost.
    func restore(_ page: UnsafeMutableRawPointer) throws(HypervisorFailure)
    /// The ring of the domain that the daemon runs in, or with `ownDomain` of the control domain, and the
    /// port of that domain's kernel; nil: there is none, since no kernel of this machine speaks XenStore.
    func ownRing() throws(HypervisorFailure) -> (page: UnsafeMutableRawPointer, remotePort: UInt32)?
}

/// Real Xen: it takes no page back that is mapped.
extension Hypervisor {
    var isEdgeTriggered: Bool { false }
    var hasMorePending: Bool { false }
    var bootID: String? { nil }
    var ownDomain: DomainID? { nil }
    func isLost(_ page: UnsafeMutableRawPointer) -> Bool { false }
    func restore(_ page: UnsafeMutableRawPointer) throws(HypervisorFailure) {}
}

/// A frame number that no domain has.
let noFrame = UInt64.max
