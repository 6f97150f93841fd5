// What can be asked about domains and of the daemon itself. Privileged, but for `domainPath` and the caller's
// own features: others get EACCES.

public import XenStoreTypes

/// What a daemon offers to a domain (specification, section B).
public struct XenStoreFeatures: OptionSet, Hashable, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The ring's connection can be made anew by the guest.
    public static let reconnection = XenStoreFeatures(rawValue: 1)
    /// The page's error word says why a connection was cut off.
    public static let error = XenStoreFeatures(rawValue: 2)
    /// Watches may have a depth.
    public static let watchDepth = XenStoreFeatures(rawValue: 4)
    /// Permissions may name `DomainID.any`.
    public static let anyDomain = XenStoreFeatures(rawValue: 8)
}

extension XenStoreClient {
    /// A domain's home, `/local/domain/N`, whether the domain exists or not.
    public func domainPath(_ domain: DomainID) async throws -> String {
        text(try await ask(.getDomainPath, [domain.text]))
    }

    /// Whether the daemon serves the domain's ring.
    public func isIntroduced(_ domain: DomainID) async throws -> Bool {
        switch text(try await ask(.isDomainIntroduced, [domain.text])) {
        case "T": return true
        case "F": return false
        case let other: throw XenStoreError(.answer(other), .isDomainIntroduced)
        }
    }

    /// Has the daemon serve a domain's ring: its page is grant 1 of the domain, or else its frame `gfn`;
    /// `port` is the domain's unbound event channel. Of one that is introduced the event channel is bound
    /// anew.
    public func introduce(_ domain: DomainID, gfn: UInt64, port: UInt32) async throws {
        _ = try await ask(.introduce, [domain.text, "\(gfn)", "\(port)"])
    }

    /// Ends what `introduce` began: the ring, the domain's watches and transactions, and the nodes it owns.
    public func release(_ domain: DomainID) async throws { _ = try await ask(.release, [domain.text]) }

    /// The domain, which had shut down, runs again: its next shutdown is announced.
    public func resume(_ domain: DomainID) async throws { _ = try await ask(.resume, [domain.text]) }

    /// Gives a device model's domain the rights of the domain that it serves.
    public func setTarget(of domain: DomainID, to target: DomainID) async throws {
        _ = try await ask(.setTarget, [domain.text, target.text])
    }

    /// What `xenstore-control` sends: a command and its arguments. Returns the daemon's text.
    public func control(_ command: String, _ arguments: [String] = []) async throws -> String {
        text(try await ask(.control, [command] + arguments))
    }

    /// What the daemon offers: to the domain, or (nil) to whom it offers what it does by default.
    public func features(of domain: DomainID? = nil) async throws -> XenStoreFeatures {
        let reply = try await ask(.getFeature, domain.map { [$0.text] } ?? [])
        return XenStoreFeatures(rawValue: try number(reply, .getFeature))
    }

    /// What the daemon is to offer a domain, which must not be introduced yet (EBUSY).
    public func setFeatures(_ features: XenStoreFeatures, of domain: DomainID) async throws {
        _ = try await ask(.setFeature, [domain.text, "\(features.rawValue)"])
    }

    /// The names of the quotas there are.
    public func quotaNames() async throws -> [String] {
        text(try await ask(.getQuota, [])).split(separator: " ").map(String.init)
    }

    /// A quota: of one domain, or (nil) of all that have none of their own. 0 is unlimited.
    public func quota(_ name: String, of domain: DomainID? = nil) async throws -> UInt32 {
        let reply = try await ask(.getQuota, (domain.map { [$0.text] } ?? []) + [name])
        return try number(reply, .getQuota)
    }

    public func setQuota(_ name: String, to value: UInt32, of domain: DomainID? = nil) async throws {
        _ = try await ask(.setQuota, (domain.map { [$0.text] } ?? []) + [name, "\(value)"])
    }

    private func text(_ reply: [UInt8]) -> String {
        String(decoding: reply.prefix { $0 != 0 }, as: UTF8.self)
    }
}

extension DomainID {
    fileprivate var text: String { "\(rawValue)" }
}
