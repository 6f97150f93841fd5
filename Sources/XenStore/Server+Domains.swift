// The requests about domains (specification, sections A and B). Their life itself is in
// Server+DomainLife.swift.

import XenStoreTypes

extension Server {
    /// The protocol features that the server offers: ring reconnection, error indicator, watch depth,
    /// DOMID_ANY.
    static let features: UInt32 = 15
    static let featureWatchDepth: UInt32 = 4
    static let featureAnyDomain: UInt32 = 8

    /// `domid|gfn|port|[...]`: maps the domain's ring and listens to it; for one that is introduced already,
    /// anew.
    func introduce(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 3, Int.max)
        let domain = try domainID(strings[0])
        guard let gfn = strings[1].decimal64, let port = strings[2].decimal, port != 0 else { throw .inval }
        if !world.hasHypervisor { throw .inval }
        // As in `release`.
        if !request.connection.isPrivileged && domain == request.connection.home { throw .inval }
        try attach(domain, gfn: gfn, port: port)
        replyOK(request)
    }

    /// `domid|`: the domain is gone, whether it has ended or not.
    func release(_ request: Request) throws(ErrorName) {
        let account = try introduced(request)
        // A policy may grant it to a guest, whose ring has to last until it has the reply.
        if account == request.connection.account { throw .inval }
        endDomain(account)
        replyOK(request)
    }

    /// `domid|`: the domain runs on, so that its next shutdown is news again.
    func resume(_ request: Request) throws(ErrorName) {
        let account = try introduced(request)
        accounts.table[account].isShutdown = false
        noteChange(account)
        replyOK(request)
    }

    /// The account of the introduced domain that the request names. Throws EINVAL for the daemon's own and
    /// the control domain, which never end, ENOENT for one that is not introduced.
    private func introduced(_ request: Request) throws(ErrorName) -> AccountID {
        let domain = try domainID(argument(request))
        if !world.hasHypervisor || isEverlasting(domain) { throw .inval }
        guard let account = accounts.known(domain), accounts.table[account].ring != nil else { throw .noent }
        return account
    }

    /// `domid|tdomid|`: the first domain may do with the second's nodes what the second may.
    func setTarget(_ request: Request) throws(ErrorName) {
        let strings = try arguments(request, 2, 2)
        let domain = try domainID(strings[0])
        let target = try domainID(strings[1])
        if !world.hasHypervisor { throw .inval }
        if !isIntroduced(domain) || !isIntroduced(target) { throw .noent }
        accounts.table[accounts.account(of: domain)].target = target
        noteChange(accounts.account(of: domain))
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

    func isIntroduced(_ domain: DomainID) -> Bool {
        if domain == configuration.domain { return true }
        guard let account = accounts.known(domain) else { return false }
        return accounts.table[account].ring != nil
    }

    /// `` (what the server offers) or `domid|` (what a domain has).
    func getFeature(_ request: Request) throws(ErrorName) {
        var features = Self.features
        if !request.payload.isEmpty {
            let domain = try existingDomain(argument(request), request)
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
        let domain = try existingDomain(strings[0], request, noting: true)
        if isIntroduced(domain) { throw .busy }
        if features & ~Self.features != 0 { throw .inval }
        accounts.table[accounts.account(of: domain)].features = features
        noteChange(accounts.account(of: domain))
        replyOK(request)
    }

    /// The domain id that the text writes. Throws EINVAL if it writes none, ENOENT if there is no such
    /// domain.
    func existingDomain(
        _ text: Bytes, _ request: Request, noting: Bool = false
    ) throws(ErrorName) -> DomainID {
        let domain = try domainID(text)
        if !exists(domain, for: request.connection.account, noting: noting) { throw .noent }
        return domain
    }

    /// The daemon's own domain and the control domain: they are there as long as the daemon is.
    func isEverlasting(_ domain: DomainID) -> Bool {
        domain == configuration.domain || domain == configuration.privilegedDomain
    }
}
