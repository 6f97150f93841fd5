// Permission lists, each stored once: most nodes share theirs with their parent.
//
// Invariants: a list has at least one entry, the first of which names the owner. Lists of equal entries have
// the same id, unless they have become equal by the end of a domain in which they differed. `references`
// counts the nodes, versions and transactions' entries that hold it.

import XenStoreTypes

/// The number of a list in `PermissionLists`. 0: none.
typealias PermissionsID = UInt32

final class PermissionLists {
    /// A stored list; its entries are four bytes each: u16 domain id, u8 mode, u8 flags (1: ignored).
    private struct List: BitwiseCopyable {
        var hash: UInt64
        var references: UInt32
        var entries: Blob
        var count: UInt32
        var firstNaming: UInt32 = 0
    }

    /// That a list has an entry for a domain which is not ignored.
    private struct Naming: BitwiseCopyable {
        var list: PermissionsID
        var domain: DomainID
        /// The domain has ended since: it is in no domain's list any more.
        var isOver = false
        /// Neighbours among the namings of the same domain.
        var next: UInt32
        var previous: UInt32 = 0
        /// The next naming of the same list.
        var nextOfList: UInt32
    }

    private let lists = Arena<List>()
    private let namings = Arena<Naming>()
    /// The first naming of each domain, by its id; 0: none.
    private var firstNaming: [UInt32] = []
    private let index = HashIndex()
    private let store: ByteStore
    private let hash: KeyedHash

    init(_ store: ByteStore, _ hash: KeyedHash) {
        self.store = store
        self.hash = hash
    }

    deinit {
        lists.destroy()
        namings.destroy()
        index.destroy()
    }

    var count: Int { lists.count }

    /// The id of this list, with one reference more.
    func intern(_ entries: [Permission]) -> PermissionsID {
        precondition(!entries.isEmpty)
        return Self.bytes(entries).withBytes { bytes in
            let key = hash(1, bytes)
            let known = index.first(key) { id in
                lists[id].hash == key && store.bytes(lists[id].entries, Int(lists[id].count) * 4) == bytes
            }
            if known != 0 {
                lists[known].references += 1
                return known
            }
            let list = List(
                hash: key, references: 1, entries: store.insert(bytes), count: UInt32(entries.count))
            let id = lists.insert(list)
            index.insert(key, id)
            for entry in entries where !entry.ignored && entry.domain != .any { name(entry.domain, in: id) }
            return id
        }
    }

    private static func bytes(_ entries: [Permission]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.count * 4)
        for entry in entries {
            bytes.append(UInt8(truncatingIfNeeded: entry.domain.rawValue))
            bytes.append(UInt8(truncatingIfNeeded: entry.domain.rawValue >> 8))
            bytes.append(entry.mode.rawValue)
            bytes.append(entry.ignored ? 1 : 0)
        }
        return bytes
    }

    /// Another holder of the list.
    @inline(__always) func retain(_ id: PermissionsID) { lists[id].references += 1 }

    /// One holder less; the last one takes the list with it.
    @inline(__always) func release(_ id: PermissionsID) {
        lists[id].references -= 1
        if lists[id].references == 0 { drop(id) }
    }

    private func drop(_ id: PermissionsID) {
        dropNamings(id)
        index.remove(lists[id].hash, id)
        store.remove(lists[id].entries, Int(lists[id].count) * 4)
        lists.remove(id)
    }

    // MARK: Domains that end

    private func name(_ domain: DomainID, in id: PermissionsID) {
        let number = Int(domain.rawValue)
        if number >= firstNaming.count {
            firstNaming.append(contentsOf: repeatElement(0, count: number + 1 - firstNaming.count))
        }
        let first = firstNaming[number]
        let naming = namings.insert(
            Naming(list: id, domain: domain, next: first, nextOfList: lists[id].firstNaming))
        if first != 0 { namings[first].previous = naming }
        firstNaming[number] = naming
        lists[id].firstNaming = naming
    }

    private func dropNamings(_ id: PermissionsID) {
        var naming = lists[id].firstNaming
        while naming != 0 {
            let it = namings[naming]
            if !it.isOver {
                if it.next != 0 { namings[it.next].previous = it.previous }
                if it.previous != 0 {
                    namings[it.previous].next = it.next
                } else {
                    firstNaming[Int(it.domain.rawValue)] = it.next
                }
            }
            namings.remove(naming)
            naming = it.nextOfList
        }
    }

    /// Marks every entry that names the domain as ignored, in all lists, whoever holds them. Costs what names
    /// it.
    func ignore(_ domain: DomainID) {
        let number = Int(domain.rawValue)
        if number >= firstNaming.count { return }
        var naming = firstNaming[number]
        firstNaming[number] = 0
        while naming != 0 {
            let next = namings[naming].next
            namings[naming].isOver = true
            ignore(domain, in: namings[naming].list)
            naming = next
        }
    }

    private func ignore(_ domain: DomainID, in id: PermissionsID) {
        var list = entries(id)
        for position in list.indices where list[position].domain == domain { list[position].ignored = true }
        index.remove(lists[id].hash, id)
        let bytes = Self.bytes(list)
        lists[id].entries = bytes.withBytes { store.replace(lists[id].entries, $0.count, with: $0) }
        lists[id].hash = bytes.withBytes { hash(1, $0) }
        index.insert(lists[id].hash, id)
    }

    /// Checks lists against their holders, and namings against lists. `held`: the holders of each list.
    func check(_ held: Tally, _ expect: Server.Expect) {
        var named = 0
        for id in 1..<UInt32(max(held.limit, 1)) where held[id] > 0 {
            expect(Int(lists[id].references) == held[id], "a list's references are miscounted", id)
            for position in 0..<count(id) {
                let entry = entry(id, position)
                if entry.ignored || entry.domain == .any { continue }
                named += 1
                expect(isFound(id, by: entry.domain), "a list that the domain it names does not find", id)
            }
        }
        var current = 0
        for first in firstNaming {
            var naming = first
            while naming != 0 {
                current += 1
                let next = namings[naming].next
                expect(!namings[naming].isOver, "the naming of a domain that has ended", naming)
                expect(next == 0 || namings[next].previous == naming, "namings are not linked", naming)
                naming = next
            }
        }
        expect(current == named, "namings and the entries of lists differ", UInt32(current))
    }

    /// Calls `body` with each domain that an entry names which is not ignored.
    func forEachNamed(_ body: (DomainID) -> Void) {
        for number in firstNaming.indices where firstNaming[number] != 0 { body(DomainID(UInt16(number))) }
    }

    private func isFound(_ id: PermissionsID, by domain: DomainID) -> Bool {
        var naming = lists[id].firstNaming
        while naming != 0 {
            if namings[naming].domain == domain && !namings[naming].isOver { return true }
            naming = namings[naming].nextOfList
        }
        return false
    }

    /// Whether two lists say the same.
    func areEqual(_ left: PermissionsID, _ right: PermissionsID) -> Bool {
        left == right || lists[left].hash == lists[right].hash && entries(left) == entries(right)
    }

    /// How many holders the list has.
    func references(_ id: PermissionsID) -> Int { Int(lists[id].references) }

    @inline(__always) func count(_ id: PermissionsID) -> Int { Int(lists[id].count) }

    @inline(__always) func entry(_ id: PermissionsID, _ position: Int) -> Permission {
        let bytes = store.bytes(lists[id].entries, Int(lists[id].count) * 4)
        let at = position * 4
        return Permission(
            AccessMode(rawValue: bytes[at + 2]) ?? .none,
            DomainID(UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8), ignored: bytes[at + 3] & 1 != 0)
    }

    /// The entries as policies see them: 4 bytes each, u16 domain id, u8 mode, u8 flags.
    func raw(_ id: PermissionsID) -> UnsafeRawBufferPointer {
        store.bytes(lists[id].entries, Int(lists[id].count) * 4).raw
    }

    @inline(__always) func owner(_ id: PermissionsID) -> DomainID { entry(id, 0).domain }

    func entries(_ id: PermissionsID) -> [Permission] { (0..<count(id)).map { entry(id, $0) } }

    /// The list that a node gets whose parent has list `id`, with one reference more: a copy, whose first
    /// entry names the creator if it is an unprivileged domain (specification, section A, "Permissions").
    func inherited(_ id: PermissionsID, creator: DomainID?) -> PermissionsID {
        guard let creator, owner(id) != creator || entry(id, 0).ignored else {
            retain(id)
            return id
        }
        var list = entries(id)
        list[0].domain = creator
        list[0].ignored = false
        return intern(list)
    }
}
