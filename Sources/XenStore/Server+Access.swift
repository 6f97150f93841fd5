// Who may do what to which node (specification, section A, "Permissions"), and how paths and arguments are
// read.

import XenStoreTypes

extension Server {
    /// What the connection's subject may do with a node that has this permission list.
    @inline(__always) func rights(_ connection: Connection, _ list: PermissionsID) -> Rights {
        connection.isPrivileged ? .all : unprivilegedRights(connection, list)
    }

    private func unprivilegedRights(_ connection: Connection, _ list: PermissionsID) -> Rights {
        guard case .domain(let domain) = connection.subject else { return [] }
        let target = accounts.table[connection.account].target ?? domain
        let first = permissions.entry(list, 0)
        if !first.ignored && (first.domain == domain || first.domain == target) { return .all }
        for position in 1..<max(permissions.count(list), 1) {
            let entry = permissions.entry(list, position)
            let names = entry.domain == domain || entry.domain == target || entry.domain == .any
            if names && !entry.ignored { return Rights(entry.mode) }
        }
        return Rights(first.mode)
    }

    /// Throws what a request gets that needs `right` on a path whose nearest existing node is `found`:
    /// nothing if it is granted; EACCES if not. Whether the node itself exists is for the caller to see.
    func check(
        _ request: Request, _ found: (place: Place, level: Int), _ right: Rights
    ) throws(ErrorName) {
        if !isPermitted(request, found, right) { throw .acces }
    }

    /// Whether node permissions give `right` on a path whose nearest existing node is `found`.
    func isPermitted(_ request: Request, _ found: (place: Place, level: Int), _ right: Rights) -> Bool {
        if request.connection.isPrivileged { return true }
        if found.place.isNone { return false }
        let list = transactions.state(request.view, found.place).permissions
        return rights(request.connection, list).contains(right)
    }

    /// Takes the path of the request into `path`. Throws EINVAL.
    func parse(_ text: Bytes, _ connection: Connection, allowSpecial: Bool = false) throws(ErrorName) {
        try path.parse(text, home: connection.home, allowSpecial: allowSpecial)
        if connection.isPrivileged { return }
        let limit = accounts.limit(connection.account, .pathMax)
        if limit != 0 && path.countedLength > Int(limit) {
            refuse(connection, .pathMax)
            throw .inval
        }
        accounts.note(.pathMax, path.countedLength)
    }

    /// The argument of a request that has just one: bytes with one NUL behind them. Throws EINVAL.
    @inline(__always) func argument(_ request: Request) throws(ErrorName) -> Bytes {
        let payload = request.payload
        guard let end = payload.firstIndex(of: 0), end == payload.count - 1 else { throw .inval }
        return payload.slice(0, end)
    }

    /// The NUL-terminated strings of which the payload consists. Throws EINVAL if it does not end in a NUL,
    /// or there are fewer than `least` or more than `most` strings.
    func arguments(_ request: Request, _ least: Int, _ most: Int) throws(ErrorName) -> [Bytes] {
        let payload = request.payload
        var strings: [Bytes] = []
        var begin = 0
        while let end = payload.firstIndex(of: 0, from: begin) {
            if strings.count == most { throw .inval }
            strings.append(payload.slice(begin, end))
            begin = end + 1
        }
        if begin != payload.count || strings.count < least { throw .inval }
        return strings
    }

    /// The domain id that decimal digits write. Throws EINVAL if they do not, or it is over 65535.
    func domainID(_ text: Bytes) throws(ErrorName) -> DomainID {
        guard let number = text.decimal, let id = UInt16(exactly: number) else { throw .inval }
        return DomainID(id)
    }
}

/// What a subject may do with a node.
struct Rights: OptionSet {
    let rawValue: UInt8
    static let read = Rights(rawValue: 1)
    static let write = Rights(rawValue: 2)
    /// May change the permissions.
    static let owner = Rights(rawValue: 4)
    static let all = Rights(rawValue: 7)

    init(rawValue: UInt8) { self.rawValue = rawValue }
    init(_ mode: AccessMode) { rawValue = mode.rawValue }
}
