// Is each permission list there once, as long as somebody holds it and no longer?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite final class PermissionListsTests {
    let store = ByteStore()
    let lists: PermissionLists

    init() { lists = PermissionLists(store, KeyedHash(seed: (3, 4))) }

    deinit {
        store.destroy()
    }

    private static func list(_ random: inout SplitMix64) -> [Permission] {
        (0...random.below(4)).map { _ in
            Permission(
                random.one(of: [.none, .read, .write, .both]),
                DomainID(UInt16(random.one(of: [0, 1, 257, 32757]))),
                ignored: random.chance(20))
        }
    }

    @Test(arguments: seeds) func countsItsHolders(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var held: [[Permission]: (id: PermissionsID, count: Int)] = [:]
        var holders: [[Permission]] = []
        for step in 0..<5000 {
            let isGrowing = step % 1000 < 500
            if holders.isEmpty || random.chance(isGrowing ? 65 : 30) {
                let list = holders.isEmpty || random.chance(50) ? Self.list(&random) : random.one(of: holders)
                if let known = held[list], random.chance(50) {
                    lists.retain(known.id)
                } else {
                    let id = lists.intern(list)
                    let before = held[list]?.id
                    try demand(before == nil || before == id, seed, step, "\(list) is there twice")
                    held[list] = (id, held[list]?.count ?? 0)
                }
                held[list]?.count += 1
                holders.append(list)
            } else {
                holders.swapAt(random.below(holders.count), holders.count - 1)
                let list = holders.removeLast()
                let known = try #require(held[list])
                lists.release(known.id)
                held[list] = known.count == 1 ? nil : (known.id, known.count - 1)
            }
            try demand(lists.count == held.count, seed, step, "\(lists.count) lists")
            if holders.isEmpty { continue }
            let list = random.one(of: holders)
            let known = try #require(held[list])
            try demand(lists.entries(known.id) == list, seed, step, "\(lists.entries(known.id))")
            try demand(lists.references(known.id) == known.count, seed, step, "holders of \(list)")
            try demand(lists.owner(known.id) == list[0].domain, seed, step, "owner of \(list)")
        }
        for list in holders { lists.release(held[list]!.id) }
        #expect(lists.count == 0 && store.used == 0, "seed \(seed)")
    }

    @Test func orderAndIgnoredEntriesCount() {
        let ids = [
            [Permission(.read, DomainID(1)), Permission(.read, DomainID(2))],
            [Permission(.read, DomainID(2)), Permission(.read, DomainID(1))],
            [Permission(.read, DomainID(1)), Permission(.read, DomainID(2), ignored: true)],
            [Permission(.read, DomainID(1))],
        ].map { lists.intern($0) }
        #expect(Set(ids).count == 4)
    }

    @Test func childOfAPrivilegedCreatorHasItsParentsList() {
        let parent = lists.intern([Permission(.none, DomainID(3)), Permission(.read, DomainID(4))])
        #expect(lists.inherited(parent, creator: nil) == parent)
        #expect(lists.inherited(parent, creator: DomainID(3)) == parent)
        #expect(lists.references(parent) == 3)
    }

    /// A copy, whose first entry names the creator (specification, section A, "Permissions").
    @Test func childBelongsToItsCreator() {
        let parent = lists.intern([
            Permission(.both, DomainID(0), ignored: true), Permission(.read, DomainID(4), ignored: true),
        ])
        let child = lists.inherited(parent, creator: DomainID(9))
        let expected = [Permission(.both, DomainID(9)), Permission(.read, DomainID(4), ignored: true)]
        #expect(lists.entries(child) == expected)
        #expect(lists.references(parent) == 1)
        // The parent's owner was another domain of that id, which is gone: the creator is not ignored.
        let revived = lists.inherited(parent, creator: DomainID(0))
        #expect(lists.entry(revived, 0) == Permission(.both, DomainID(0)))
    }
}
