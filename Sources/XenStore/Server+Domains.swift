// The requests about domains (specification, sections A and B). Domains are introduced by their rings, which
// a server without a hypervisor has none of: then only the daemon's own domain is there.

import XenStoreTypes

extension Server {
    /// The protocol features that the server offers: ring reconnection, error indicator, watch depth,
    /// DOMID_ANY.
    static let features: UInt32 = 15
    static let featureAnyDomain: UInt32 = 8

    /// INTRODUCE, RELEASE, RESUME: EINVAL, since no hypervisor is there to introduce domains of.
    func changeDomain(_ request: Request) throws(ErrorName) {
        throw .inval
    }

    /// `domid|tdomid|`: the first domain may do with the second's nodes what the second may.
    func setTarget(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 2, 2)
        let domain = try domainID(strings[0])
        let target = try domainID(strings[1])
        if !world.hasHypervisor { throw .inval }
        if !isIntroduced(domain) || !isIntroduced(target) { throw .noent }
        accounts.table[accounts.account(of: domain)].target = target
        replyOK(request)
    }

    func getDomainPath(_ request: Request) throws(ErrorName) {
        let domain = try domainID(argument(request))
        reply(request) {
            $0.append(Bytes("/local/domain/"))
            $0.append(decimal: UInt64(domain.rawValue))
            $0.append(byte: 0)
        }
    }

    func isDomainIntroduced(_ request: Request) throws(ErrorName) {
        let domain = try domainID(argument(request))
        let isIntroduced = self.isIntroduced(domain) || domain == .me
        reply(request) {
            $0.append(byte: isIntroduced ? 0x54 : 0x46)
            $0.append(byte: 0)
        }
    }

    private func isIntroduced(_ domain: DomainID) -> Bool {
        if domain == configuration.domain { return true }
        guard let account = accounts.known(domain) else { return false }
        return accounts.table[account].rings > 0
    }

    /// `` (what the server offers) or `domid|` (what a domain has).
    func getFeature(_ request: Request) throws(ErrorName) {
        var features = Self.features
        if !request.payload.isEmpty {
            let domain = try existingDomain(argument(request))
            if let account = accounts.known(domain) { features = accounts.table[account].features }
        }
        reply(request) {
            $0.append(decimal: UInt64(features))
            $0.append(byte: 0)
        }
    }

    /// `domid|features|`, before the domain is introduced.
    func setFeature(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 2, 2)
        guard let features = strings[1].decimal else { throw .inval }
        let domain = try existingDomain(strings[0])
        if isIntroduced(domain) { throw .busy }
        if features & ~Self.features != 0 { throw .inval }
        accounts.table[accounts.account(of: domain)].features = features
        replyOK(request)
    }

    /// The domain id that the text writes. Throws EINVAL if it writes none, ENOENT if there is no such
    /// domain.
    func existingDomain(_ text: Bytes) throws(ErrorName) -> DomainID {
        let domain = try domainID(text)
        let isOurs = domain == configuration.domain || domain == configuration.privilegedDomain
        if !isOurs && world.domain(domain) == nil { throw .noent }
        return domain
    }
}
