// Who uses how much, for quotas and reports (specification, section E).
//
// Invariants: a domain's account counts the live nodes that name it as owner (special nodes and those that a
// socket's user has created excepted), its connections' watches and transactions, and the bytes of all these.
// A user's account counts the nodes that the user has created. What is refused is never counted.

import XenStoreTypes

/// Who speaks on a connection.
public enum Subject: Hashable, Sendable {
    /// A domain, over its ring or, for the daemon's own domain, over a socket.
    case domain(DomainID)
    /// A socket peer that is neither root nor the daemon's user: nothing is granted to it by node
    /// permissions.
    case user(UInt32)
}

/// The number of an account. 0: none.
typealias AccountID = UInt32

/// What one domain (or one user) has in use.
struct Account: BitwiseCopyable {
    /// Something counted: how many now, and the most there ever were.
    struct Count: BitwiseCopyable {
        var now = 0
        var most = 0
    }

    /// The domain id; a user's id.
    var number: UInt32
    var isUser: Bool
    var nodes = Count()
    var watches = Count()
    var transactions = Count()
    var outstanding = Count()
    var memory = Count()
    /// Limits of its own, by `QuotaName`'s raw value: the bit says that one is set.
    var ownLimits: UInt16 = 0
    var limits: (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32) =
        (0, 0, 0, 0, 0, 0, 0, 0, 0)
    /// The connection by the domain's own ring: it is introduced while it has one.
    var ring: ConnectionID?
    /// What the world said of the domain when it was looked at last; nil: it has not been looked at.
    var identity: DomainIdentity?
    /// Where its ring is, as INTRODUCE named it.
    var gfn: UInt64 = 0
    var port: UInt32 = 0
    /// A session record of it is due.
    var isNoted = false
    /// It has shut down, and those who watch have been told.
    var isShutdown = false
    /// The daemon's own or the control domain, which are there as long as the daemon is.
    var isEverlasting = false
    /// The first of the nodes that the domain owns; 0 for an everlasting one.
    var firstOwned: NodeID = 0
    /// Where it stands in the list of all accounts.
    var position = 0
    /// The domain with whose nodes this one may do what that one may (SET_TARGET); nil: none.
    var target: DomainID?
    /// The protocol features that the domain has, as the bits of specification section B.
    var features = Server.features
    /// Refusals by quota since the last line in the log, and when that was.
    var refusals: UInt32 = 0
    var refusalLogged: UInt64 = 0
    /// Broken connections since the last line in the log, and when that was.
    var breaks: UInt32 = 0
    var breakLogged: UInt64 = 0
    /// Quotas of which 80 % have been reported, by `QuotaName`'s raw value, and when the last one was.
    var warned: UInt16 = 0
    var warnedAt: UInt64 = 0
    /// The domain may take the next reservation from this time on (specification, section C).
    var mayReserveAt: UInt64 = 0
}

final class Accounts {
    let table = Arena<Account>()
    /// Account by domain id.
    @exclusivity(unchecked) private var domains: [AccountID] = []
    private var users: [AccountID] = []
    /// Each account that there is, in the order in which they came.
    private(set) var all: [AccountID] = []
    @exclusivity(unchecked) var limits: QuotaLimits
    /// The most ever seen of each quota's subject, by `QuotaName`'s raw value.
    @exclusivity(unchecked) var most = [UInt32](repeating: 0, count: QuotaName.allCases.count)

    /// `everlasting` are the domains that never end.
    init(_ limits: QuotaLimits, everlasting: [DomainID]) {
        self.limits = limits
        for domain in everlasting { table[account(of: domain)].isEverlasting = true }
    }

    deinit { table.destroy() }

    /// The account of a subject, opened if there is none.
    func account(of subject: Subject) -> AccountID {
        switch subject {
        case .domain(let domain): return account(of: domain)
        case .user(let user):
            for id in users where table[id].number == user { return id }
            let id = open(Account(number: user, isUser: true))
            users.append(id)
            return id
        }
    }

    @inline(__always) func account(of domain: DomainID) -> AccountID {
        let number = Int(domain.rawValue)
        if number < domains.count && domains[number] != 0 { return domains[number] }
        return openDomain(number)
    }

    private func openDomain(_ number: Int) -> AccountID {
        if number >= domains.count {
            domains.append(contentsOf: repeatElement(0, count: number + 1 - domains.count))
        }
        domains[number] = open(Account(number: UInt32(number), isUser: false))
        return domains[number]
    }

    /// The account of a domain, if there is one.
    func known(_ domain: DomainID) -> AccountID? {
        let number = Int(domain.rawValue)
        return number < domains.count && domains[number] != 0 ? domains[number] : nil
    }

    private func open(_ account: Account) -> AccountID {
        let id = table.insert(account)
        table[id].position = all.count
        all.append(id)
        return id
    }

    /// Forgets a domain that has ended: what it used, its limits and features. If something is counted still,
    /// the account stays for that alone.
    func close(_ id: AccountID) {
        let account = table[id]
        let isCounted = account.nodes.now > 0 || account.memory.now > 0 || account.outstanding.now > 0
        if isCounted || account.firstOwned != 0 {
            table[id].ring = nil
            table[id].identity = nil
            table[id].isShutdown = false
            table[id].target = nil
            table[id].ownLimits = 0
            table[id].features = Server.features
            return
        }
        let last = all[all.count - 1]
        all[account.position] = last
        table[last].position = account.position
        all.removeLast()
        domains[Int(account.number)] = 0
        table.remove(id)
    }

    /// The limit that holds for an account; 0: none.
    @inline(__always) func limit(_ id: AccountID, _ quota: QuotaName) -> UInt32 {
        if table[id].ownLimits >> UInt16(quota.rawValue) & 1 == 0 { return limits[quota] }
        return withUnsafeBytes(of: table[id].limits) {
            $0.load(fromByteOffset: Int(quota.rawValue) * 4, as: UInt32.self)
        }
    }

    /// Sets a limit for one account alone.
    func setLimit(_ id: AccountID, _ quota: QuotaName, _ value: UInt32) {
        table[id].ownLimits |= 1 << UInt16(quota.rawValue)
        withUnsafeMutableBytes(of: &table[id].limits) {
            $0.storeBytes(of: value, toByteOffset: Int(quota.rawValue) * 4, as: UInt32.self)
        }
    }

    /// Adds to (or takes from) one of an account's counts.
    @inline(__always) func count(
        _ id: AccountID, _ counted: Counted, _ change: Int
    ) {
        switch counted {
        case .nodes: bump(&table[id].nodes, change, .nodes)
        case .watches: bump(&table[id].watches, change, .watches)
        case .transactions: bump(&table[id].transactions, change, .transactions)
        case .outstanding: bump(&table[id].outstanding, change, .outstanding)
        case .memory: bump(&table[id].memory, change, .memory)
        }
    }

    enum Counted { case nodes, watches, transactions, outstanding, memory }

    @inline(__always) private func bump(_ count: inout Account.Count, _ change: Int, _ quota: QuotaName) {
        count.now += change
        if count.now > count.most {
            count.most = count.now
            note(quota, count.now)
        }
    }

    /// Remembers the most ever seen of a quota's subject.
    @inline(__always) func note(_ quota: QuotaName, _ value: Int) {
        let seen = UInt32(clamping: value)
        if seen > most[Int(quota.rawValue)] { most[Int(quota.rawValue)] = seen }
    }

    /// From now on, the most ever seen is what is there now, of each account and of all.
    func forgetMost() {
        for quota in QuotaName.allCases { most[Int(quota.rawValue)] = 0 }
        for id in all {
            forgetMost(&table[id].nodes, .nodes)
            forgetMost(&table[id].watches, .watches)
            forgetMost(&table[id].transactions, .transactions)
            forgetMost(&table[id].outstanding, .outstanding)
            forgetMost(&table[id].memory, .memory)
        }
    }

    private func forgetMost(_ count: inout Account.Count, _ quota: QuotaName) {
        count.most = count.now
        note(quota, count.now)
    }
}

/// Nodes that sockets' users have created, and who did. Not recorded: after a restart they count as their
/// owners'.
struct UserNodes {
    /// The user's account by the node.
    private let index = HashIndex()

    func destroy() { index.destroy() }

    var count: Int { index.count }

    /// Numbers that come one after the other are spread over the index, in which they would be one long run.
    /// Each step can be undone, so different nodes have different keys.
    private func key(_ node: NodeID) -> UInt64 {
        var mixed = node
        mixed ^= mixed >> 16
        mixed &*= 0x9E37_79B1
        mixed ^= mixed >> 15
        mixed &*= 0x85EB_CA77
        mixed ^= mixed >> 16
        return UInt64(mixed) << 32
    }

    /// 0: none has created it.
    @inline(__always) func user(of node: NodeID) -> AccountID {
        index.count == 0 ? 0 : index.first(key(node)) { _ in true }
    }

    func insert(_ node: NodeID, of user: AccountID) { index.insert(key(node), user) }

    /// Forgets a node. Answers who had created it; 0: none.
    @inline(__always) func remove(_ node: NodeID) -> AccountID {
        let user = user(of: node)
        if user != 0 { index.remove(key(node), user) }
        return user
    }
}
