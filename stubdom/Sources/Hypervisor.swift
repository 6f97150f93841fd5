// What the kernel needs of the machine it runs on: Xen, or qemu alone for tests.
//
// The daemon in dom0 has a protocol of the same name and words for Linux (XenStoreHost); this one waits by
// itself, since there is nothing else to wait for. A *remote* port is the guest's end of an event channel, as
// INTRODUCE names it; a *local* one is ours.

import XenStore
import XenStoreTypes

protocol Hypervisor: AnyObject {
    /// The domain that we are.
    var ownDomain: DomainID { get }
    /// Nanoseconds of a clock that never goes back.
    var now: UInt64 { get }

    // MARK: Event channels

    /// The local port of VIRQ_DOM_EXC: a domain has been shut down, or is gone.
    var domainPort: UInt32 { get }
    /// Hands over each local port that is pending, and makes it not pending.
    func takePending(_ body: (UInt32) -> Void)
    /// Returns when an event may be pending, or `deadline` has come. An event that has come since
    /// `takePending` ends it at once.
    func wait(until deadline: UInt64?)
    func bind(_ domain: DomainID, remotePort: UInt32) throws(Failure) -> UInt32
    func unbind(_ port: UInt32)
    /// Signals the domain at the other end. A full memory barrier.
    func notify(_ port: UInt32)

    // MARK: Domains

    /// What is known of the domain now; nil: there is none of this id.
    func domain(_ id: DomainID) -> DomainIdentity?

    // MARK: Pages

    /// The page of 4096 bytes that the domain shares with us by its grant 1.
    func map(_ domain: DomainID) throws(Failure) -> UnsafeMutableRawPointer
    /// Of a page of `map`, which must not be touched any more.
    func unmap(_ page: UnsafeMutableRawPointer)
}
