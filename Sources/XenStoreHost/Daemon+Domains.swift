// The domains that are there when the daemon starts (specification, section B, "Start of the daemon").

import XenStore
import XenStoreRing
import XenStoreTypes

extension Daemon {
    /// Introduces the domain whose ring the host has (`ownPort`: of the daemon's own domain, or with --event
    /// the control domain), and those whose pages name a port, for which nobody will. The others are left to
    /// INTRODUCE, and named in the log. Whoever has been attached again is introduced already.
    ///
    /// Fails if the ring that the host has cannot be attached.
    func introduceDomains(ownPort: UInt32?) throws(StartFailure) {
        guard let rings else { return }
        if let ownPort { try introduceOwn(ownPort) }
        var waiting: [DomainID] = []
        for domain in rings.hypervisor.domains() where domain != options.server.domain {
            if rings.isAttached(domain) || domain == rings.hypervisor.ownDomain { continue }
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

    /// Maps the ring of the daemon's own domain, if the host has one. Answers the port of its kernel.
    func prepareOwnRing() throws(StartFailure) -> UInt32? {
        guard let rings else { return nil }
        let domain = options.server.domain
        do throws(HypervisorFailure) {
            guard let (page, port) = try rings.hypervisor.ownRing() else {
                log.write(.notice, "domain \(domain.rawValue), the daemon's own, has no ring")
                return nil
            }
            rings.own = (domain, page)
            return port
        } catch {
            throw ownRingFailure(error)
        }
    }

    private func introduceOwn(_ port: UInt32) throws(StartFailure) {
        let domain = options.server.domain
        if rings?.isAttached(domain) == true { return }
        do throws(ErrorName) {
            try server.introduce(domain, gfn: noFrame, port: port)
        } catch {
            throw ownRingFailure(world.lastFailure ?? HypervisorFailure("\(error)"))
        }
    }

    private func ownRingFailure(_ failure: HypervisorFailure) -> StartFailure {
        let whose = rings?.hypervisor.ownDomain == nil ? "the daemon's own" : "which --event is about"
        return StartFailure("the ring of domain \(options.server.domain.rawValue), \(whose): \(failure)")
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
