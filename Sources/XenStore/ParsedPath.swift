// A path as requests name it, made canonical and cut into components (specification, section A, "Paths").
//
// Invariants: `depth` components stand in `components[1...depth]`; component 0 is the root ("/", or "@" for
// special nodes, which is no prefix that anybody can name). `bytes` holds the whole absolute path; component
// i's name ends at `components[i].end`, and the path of the first i components is `bytes[0 ..<
// components[i].end]` ("/" for i = 0).

import XenStoreTypes

/// A canonical absolute path with the chained hash of each of its prefixes. One is used again for every
/// request, so that parsing allocates nothing.
final class ParsedPath {
    struct Component: BitwiseCopyable {
        /// Where the name begins and ends in the path.
        var begin: UInt16
        var end: UInt16
        /// The hash of the path up to and including this component.
        var hash: UInt64
    }

    /// Longest path in bytes as a request may give it, absolute and relative.
    static let absoluteMax = 3072
    static let relativeMax = 2048

    private let hash: KeyedHash
    // Every request comes through here: checking at run time that nobody else is at these costs more than the
    // rest.
    @exclusivity(unchecked) private(set) var text: [UInt8] = []
    @exclusivity(unchecked) private(set) var components: [Component] = []
    /// Number of names below the root.
    var depth: Int { components.count - 1 }
    @exclusivity(unchecked) private(set) var isSpecial = false
    /// How many bytes at the start are the home that a relative path was completed with, its closing slash
    /// included.
    @exclusivity(unchecked) private(set) var homeCount = 0

    let rootHash: UInt64
    let specialHash: UInt64

    init(_ hash: KeyedHash) {
        self.hash = hash
        rootHash = hash(0, Bytes("/"))
        specialHash = hash(0, Bytes("@"))
        text.reserveCapacity(Self.absoluteMax + 32)
        components.reserveCapacity(64)
    }

    /// Takes a path from a request. Throws EINVAL where the specification has it; a leading `@` only passes
    /// if `allowSpecial`. `home` is the domain to which a relative path belongs.
    func parse(_ given: Bytes, home: DomainID, allowSpecial: Bool = false) throws(ErrorName) {
        if given.isEmpty { throw .inval }
        text.removeAll(keepingCapacity: true)
        let first = given[0]
        isSpecial = first == 0x40
        let isRelative = first != 0x2F && !isSpecial
        if isSpecial && !allowSpecial { throw .inval }
        if given.count > (first == 0x2F ? Self.absoluteMax : Self.relativeMax) { throw .inval }
        if isRelative { appendHome(home) }
        homeCount = text.count
        text.append(given)
        try cut()
    }

    /// Takes a path that is known to be right: one that is stored.
    func load(canonical path: Bytes) {
        text.removeAll(keepingCapacity: true)
        text.append(path)
        isSpecial = path[0] == 0x40
        homeCount = 0
        do { try cut() } catch { preconditionFailure("a stored path is canonical") }
    }

    /// Becomes the root without a text: for a request that names no path.
    func clear() {
        text.removeAll(keepingCapacity: true)
        components.removeAll(keepingCapacity: true)
        components.append(Component(begin: 0, end: 0, hash: rootHash))
        isSpecial = false
        homeCount = 0
    }

    private func appendHome(_ domain: DomainID) {
        text.append(Bytes("/local/domain/"))
        text.append(decimal: UInt64(domain.rawValue))
        text.append(0x2F)
    }

    /// Cuts `text` at its slashes, checking characters and lengths on the way.
    private func cut() throws(ErrorName) {
        components.removeAll(keepingCapacity: true)
        let root = isSpecial ? specialHash : rootHash
        components.append(Component(begin: 0, end: isSpecial ? 0 : 1, hash: root))
        if text.count == 1 && !isSpecial { return }
        if !text.withBytes({ cut($0, root) }) { throw .inval }
    }

    /// False: a name is empty, or a character in one is not allowed.
    @inline(__always) private func cut(_ path: Bytes, _ root: UInt64) -> Bool {
        var previous = root
        var begin = isSpecial ? 0 : 1
        var end = begin
        while end < path.count {
            let byte = path[end]
            if byte != 0x2F {
                if !Self.isAllowed(byte) { return false }
                end += 1
                continue
            }
            if end == begin { return false }
            previous = add(path, begin, end, previous)
            end += 1
            begin = end
        }
        if end == begin { return false }
        _ = add(path, begin, end, previous)
        return true
    }

    @inline(__always) private func add(
        _ path: Bytes, _ begin: Int, _ end: Int, _ parent: UInt64
    ) -> UInt64 {
        let own = hash(parent, path.slice(begin, end))
        components.append(Component(begin: UInt16(begin), end: UInt16(end), hash: own))
        return own
    }

    /// `A-Z a-z 0-9 - _ @`
    @inline(__always) private static func isAllowed(_ byte: UInt8) -> Bool {
        // One bit a character, from 0 to 63 and from 64 to 127.
        let low: UInt64 = 0x03FF_2000_0000_0000
        let high: UInt64 = 0x07FF_FFFE_87FF_FFFF
        return byte < 128 && (byte < 64 ? low : high) &>> UInt64(byte) & 1 != 0
    }

    /// The hash of the path's first `level` components.
    @inline(__always) func hash(at level: Int) -> UInt64 { components[level].hash }

    /// Calls `body` with the name of component `level`, 1 or more.
    @inline(__always) func withName<Result>(_ level: Int, _ body: (Bytes) -> Result) -> Result {
        let component = components[level]
        return text.withBytes { body($0.slice(Int(component.begin), Int(component.end))) }
    }

    /// Calls `body` with the path's first `level` components.
    @inline(__always) func withPrefix<Result>(_ level: Int, _ body: (Bytes) -> Result) -> Result {
        let end = Int(components[level].end)
        return text.withBytes { body($0.slice(0, end)) }
    }

    /// Calls `body` with the whole path.
    @inline(__always) func withText<Result>(_ body: (Bytes) -> Result) -> Result { text.withBytes(body) }

    /// Bytes that count against the `path-max` quota: those after a leading `/local/domain/N/`.
    var countedLength: Int {
        if depth < 4 || isSpecial { return text.count }
        let isInHome =
            withName(1) { $0.equals("local") } && withName(2) { $0.equals("domain") }
            && withName(3) { $0.decimal != nil }
        return isInHome ? text.count - Int(components[4].begin) : text.count
    }
}
