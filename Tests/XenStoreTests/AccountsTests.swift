// Does everybody have one account, which counts what is his, and the limit that was set for him?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct AccountsTests {
    let accounts = Accounts(QuotaLimits(), everlasting: [.zero])

    @Test func oneForEachSubject() {
        let subjects: [Subject] = [
            .domain(DomainID(0)), .domain(DomainID(3)), .domain(DomainID(65535)), .user(0), .user(3),
            .user(.max),
        ]
        let ids = subjects.map { accounts.account(of: $0) }
        #expect(Set(ids).count == ids.count && !ids.contains(0))
        #expect(subjects.map { accounts.account(of: $0) } == ids)
        #expect(accounts.all == ids)
        #expect(accounts.account(of: DomainID(3)) == ids[1])
        #expect(accounts.table[ids[4]].isUser && !accounts.table[ids[1]].isUser)
    }

    @Test func askingOpensNone() {
        #expect(accounts.known(DomainID(5)) == nil)
        #expect(accounts.all.count == 1, "the control domain's")
        let id = accounts.account(of: DomainID(6))
        #expect(accounts.known(DomainID(5)) == nil)
        #expect(accounts.known(DomainID(6)) == id)
    }

    /// Each quota's own limit is its own, also if it is 0, unlimited.
    @Test(arguments: QuotaName.allCases) func ownLimitHolds(quota: QuotaName) {
        let (one, other) = (accounts.account(of: DomainID(1)), accounts.account(of: DomainID(2)))
        let before = QuotaName.allCases.map { accounts.limit(one, $0) }
        accounts.setLimit(one, quota, 123_456)
        accounts.limits[quota] = 99
        #expect(accounts.limit(one, quota) == 123_456)
        #expect(accounts.limit(other, quota) == 99)
        for (index, name) in QuotaName.allCases.enumerated() where name != quota {
            #expect(accounts.limit(one, name) == before[index])
        }
        accounts.setLimit(one, quota, 0)
        #expect(accounts.limit(one, quota) == 0)
    }

    @Test(arguments: seeds) func countsAndRemembersTheMost(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let kinds: [(Accounts.Counted, QuotaName)] = [
            (.nodes, .nodes), (.watches, .watches), (.transactions, .transactions),
            (.outstanding, .outstanding), (.memory, .memory),
        ]
        let ids = (0..<4).map { accounts.account(of: DomainID($0)) }
        var now = [[Int]](repeating: [0, 0, 0, 0, 0], count: 4)
        var most = now
        var mostOfAll = [0, 0, 0, 0, 0]
        func check(_ step: Int) throws {
            for (at, id) in ids.enumerated() {
                let record = accounts.table[id]
                let counts = [
                    record.nodes, record.watches, record.transactions, record.outstanding, record.memory,
                ]
                try demand(counts.map(\.now) == now[at], seed, step, "now \(counts)")
                try demand(counts.map(\.most) == most[at], seed, step, "most \(counts)")
            }
            let seen = kinds.map { Int(accounts.most[Int($0.1.rawValue)]) }
            try demand(seen == mostOfAll, seed, step, "most of all \(seen)")
        }
        for step in 0..<1000 {
            let (at, kind) = (random.below(4), random.below(5))
            let change = random.below(100) - min(now[at][kind], 50)
            accounts.count(ids[at], kinds[kind].0, change)
            now[at][kind] += change
            most[at][kind] = max(most[at][kind], now[at][kind])
            mostOfAll[kind] = max(mostOfAll[kind], now[at][kind])
            try check(step)
            if step == 700 {
                accounts.forgetMost()
                most = now
                mostOfAll = (0..<5).map { kind in now.map { $0[kind] }.max()! }
                try check(step)
            }
        }
    }
}
