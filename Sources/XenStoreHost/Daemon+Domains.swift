// The domains that are there when the daemon starts (specification, section B, "Start of the daemon").

import XenStore
import XenStoreRing
import XenStoreTypes

extension Daemon {
    /// Introduces the daemon's own domain, whose ring the host has, and those whose pages name a port, for
    /// which nobody will. The others are left to INTRODUCE, and named in the log.
    ///
    /// Fails if the daemon's own ring is there and cannot be attached.
    func introduceDomains() throws(StartFailure) {
        guard let rings else { return }
        try introduceOwn(rings)
        var waiting: [DomainID] = []
        for domain in rings.hypervisor.domains() where domain != options.server.domain {
            if let port = namedPort(rings.hypervisor, domain) {
                // That it fails is in the log, and concerns this domain only.
                try? server.introduce(domain, gfn: noFrame, port: port)
            } else {
                waiting.append(domain)
            }
        }
        if waiting.isEmpty { return }
        let named = waiting.prefix(20).map { String($0.rawValue) }.joined(separator: ", ")
        let more = waiting.count > 20 ? " and \(waiting.count - 20) more" : ""
        log.write(.notice, "domains that exist and wait for INTRODUCE: \(named)\(more)")
    }

    private func introduceOwn(_ rings: Rings) throws(StartFailure) {
        let domain = options.server.domain
        do throws(HypervisorFailure) {
            guard let (page, port) = try rings.hypervisor.ownRing() else {
                log.write(.notice, "domain \(domain.rawValue), the daemon's own, has no ring")
                return
            }
            rings.own = (domain, page)
            do throws(ErrorName) {
                try server.introduce(domain, gfn: noFrame, port: port)
            } catch {
                throw world.lastFailure ?? HypervisorFailure("\(error)")
            }
        } catch {
            throw StartFailure("the ring of domain \(domain.rawValue), the daemon's own: \(error)")
        }
    }

    /// The port that a domain's page names; nil: none, or the page cannot be mapped by grant.
    private func namedPort(_ hypervisor: any Hypervisor, _ domain: DomainID) -> UInt32? {
        do throws(HypervisorFailure) {
            let page = try hypervisor.map(domain, gfn: noFrame)
            defer { hypervisor.unmap(page) }
            let port = RingPage(page).eventChannelPort
            return port == 0 ? nil : port
        } catch {
            log.write(.debug, "domain \(domain.rawValue): \(error)")
            return nil
        }
    }
}
