// A path as requests name it, made canonical and cut into components (specification, section A, "Paths").
//
// Invariants: `depth` components stand in `components[1...depth]`; component 0 is the root ("/", or "@" for
// special nodes, which is no prefix that anybody can name). `text` holds the whole absolute path; component
// i's name ends at `components[i].end`, and the path of the first i components is `text[0 ..<
// components[i].end]` ("/" for i = 0). They are right also where a path is refused: for as much of `text` as
// was cut before its mistake.

import XenStoreTypes

/// A canonical absolute path with the chained hash of each of its prefixes. One is used again for every
/// request, so that parsing allocates nothing; what a path has in common with the one before, which is much
/// as clients go, is not hashed anew.
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

    private static let slash: UInt8 = 0x2F
    private static let at: UInt8 = 0x40

    private let hash: KeyedHash
    // Every request comes through here: checking at run time that nobody else is at these costs more than the
    // rest.
    @exclusivity(unchecked) private(set) var text: [UInt8] = []
    /// The path before, while the next one is cut.
    @exclusivity(unchecked) private var previous: [UInt8] = []
    @exclusivity(unchecked) private(set) var components = ReusedList<Component>()
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
        previous.reserveCapacity(Self.absoluteMax + 32)
        clear()
    }

    /// Takes a path from a request. Throws EINVAL where the specification has it; a leading `@` only passes
    /// if `allowSpecial`. `home` is the domain to which a relative path belongs.
    func parse(_ given: Bytes, home: DomainID, allowSpecial: Bool = false) throws(ErrorName) {
        let first = given.isEmpty ? 0 : given[0]
        let longest = first == Self.slash ? Self.absoluteMax : Self.relativeMax
        if given.isEmpty || given.count > longest || first == Self.at && !allowSpecial {
            clear()
            throw .inval
        }
        begin(first)
        if first != Self.slash && first != Self.at { appendHome(home) }
        homeCount = text.count
        text.append(given)
        if !cut() { throw .inval }
    }

    /// Takes a path that is known to be right: one that is stored.
    func load(canonical path: Bytes) {
        begin(path[0])
        homeCount = 0
        text.append(path)
        if !cut() { preconditionFailure("a stored path is canonical") }
    }

    /// Makes room for a path that begins with this byte, and keeps the one before to compare.
    private func begin(_ first: UInt8) {
        if isSpecial != (first == Self.at) {
            clear()
            isSpecial = first == Self.at
            components[0] = Component(begin: 0, end: 0, hash: isSpecial ? specialHash : rootHash)
        }
        swap(&text, &previous)
        text.removeAll(keepingCapacity: true)
    }

    /// Becomes the root without a text: for a request that names no path. That names no node, not even the
    /// root.
    func clear() {
        text.removeAll(keepingCapacity: true)
        components.removeAll()
        components.append(Component(begin: 0, end: 0, hash: rootHash))
        isSpecial = false
        homeCount = 0
    }

    private func appendHome(_ domain: DomainID) {
        text.append(Bytes("/local/domain/"))
        text.append(decimal: UInt64(domain.rawValue))
        text.append(Self.slash)
    }

    /// Cuts `text` at its slashes, checking characters and lengths on the way. False: a name is empty, or a
    /// character in one is not allowed.
    private func cut() -> Bool {
        if !isSpecial { components[0].end = 1 }
        return text.withBytes { path in
            keep(path, previous.withBytes { path.sharedCount($0) })
            if path.count == 1 && !isSpecial { return true }
            let last = components[depth]
            if depth > 0 && Int(last.end) == path.count { return true }
            return cut(path, from: depth > 0 ? Int(last.end) + 1 : Int(last.end), last.hash)
        }
    }

    /// Leaves those components of the path before which `path` has too, since the first `shared` bytes are
    /// the same in both.
    @inline(__always) private func keep(_ path: Bytes, _ shared: Int) {
        while depth > 0 {
            let end = Int(components[depth].end)
            if end <= shared && (end == path.count || path[end] == Self.slash) { return }
            components.keepFirst(depth)
        }
    }

    @inline(__always) private func cut(_ path: Bytes, from start: Int, _ parent: UInt64) -> Bool {
        var parent = parent
        var begin = start
        var end = start
        while end < path.count {
            let byte = path[end]
            if byte != Self.slash {
                if !Self.isAllowed(byte) { return false }
                end += 1
                continue
            }
            if end == begin { return false }
            parent = add(path, begin, end, parent)
            end += 1
            begin = end
        }
        if end == begin { return false }
        _ = add(path, begin, end, parent)
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
