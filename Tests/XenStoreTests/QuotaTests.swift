// Is who is over a quota refused, told so in the log, and still able to go below it (specification,
// section E)?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct QuotaTests {
    static let smallLimits: [(QuotaName, UInt32)] = [
        (.nodes, 1), (.watches, 1), (.transactionNodes, 2), (.memory, 2000), (.nodeSize, 10), (.pathMax, 12),
        (.nodePermissions, 2),
    ]

    /// Each refusal's line names the domain, the quota, its limit and the path of that very request.
    @Test(arguments: Self.smallLimits) func refusalNamesItAll(quota: QuotaName, limit: UInt32) throws {
        let test = TestServer { $0.quotas[quota] = limit }
        let guest = test.ring(3)
        #expect(guest.write("/mine")?.outcome == "OK")
        _ = guest.request(.watch, ["/mine", "t"])
        _ = guest.takeEvents()
        let id = quota == .transactionNodes ? try guest.start() : 0
        _ = test.control.write("/not/this")
        _ = test.takeWarnings()
        let reply: Message?
        switch quota {
        case .watches: reply = guest.request(.watch, ["/refused", "t"])
        case .nodePermissions: reply = guest.request(.setPermissions, ["/refused", "n3", "r1", "r2"])
        case .nodeSize: reply = guest.write("/refused", String(repeating: "v", count: 11))
        case .memory: reply = guest.write("/refused", String(repeating: "v", count: 1950))
        case .pathMax: reply = guest.write("/refused/long")
        case .transactionNodes:
            _ = guest.read("/mine", transaction: id)
            reply = guest.write("/refused/a/b", transaction: id)
        default: reply = guest.write("/refused")
        }
        #expect(reply?.errorName == (quota == .pathMax ? "EINVAL" : "ENOSPC"))
        let lines = test.takeWarnings().filter { $0.hasPrefix("quota ") }
        #expect(lines.count == 1)
        let line = lines.first ?? ""
        #expect(line.hasPrefix("quota \(quota.name) of domain 3 exceeded: limit \(limit), path /refused"))
        #expect(test.server.checkInvariants() == 0)
    }

    /// A request without a path: the line has none, rather than the one of a request before.
    @Test func refusalOfATransactionHasNoPath() throws {
        let test = TestServer { $0.quotas[.transactions] = 1 }
        let guest = test.ring(3)
        _ = try guest.start()
        _ = test.control.write("/not/this")
        #expect(guest.request(.transactionStart, [""])?.errorName == "ENOSPC")
        let line = test.takeWarnings().last ?? ""
        #expect(line.hasPrefix("quota transactions of domain 3 exceeded: limit 1"))
        #expect(!line.contains("/"))
    }

    /// At commit too.
    @Test func refusalOfACommitHasNoPath() throws {
        let test = TestServer { $0.quotas[.nodes] = 1 }
        let guest = test.ring(3)
        let id = try guest.start()
        #expect(guest.write("/one", transaction: id)?.outcome == "OK")
        #expect(guest.write("/two")?.outcome == "OK")
        _ = test.control.write("/not/this")
        _ = test.takeWarnings()
        #expect(guest.end(id) == "ENOSPC")
        #expect(guest.read("/one") == "ENOENT")
        let line = test.takeWarnings().last ?? ""
        #expect(line.hasPrefix("quota nodes of domain 3 exceeded: limit 1") && !line.contains("/"))
        #expect(test.server.checkInvariants() == 0)
    }

    /// A path that is none is not written down.
    @Test func refusalBeforeThePathIsChecked() {
        let test = TestServer { $0.quotas[.nodePermissions] = 1 }
        let guest = test.ring(3)
        #expect(guest.request(.setPermissions, ["/bad path\n", "n3", "r1"])?.errorName == "ENOSPC")
        let line = test.takeWarnings().last ?? ""
        #expect(line.hasPrefix("quota node-permissions of domain 3") && !line.contains("bad"))
    }

    /// One line in five seconds for each domain, which counts what was not told.
    @Test func refusalsAreLoggedNowAndThen() {
        let test = TestServer { $0.quotas[.nodeSize] = 1 }
        let (guest, other) = (test.ring(3), test.ring(4))
        _ = test.takeWarnings()
        for _ in 0..<10 { _ = guest.write("/a", "xx") }
        #expect(test.takeWarnings().map { $0.hasSuffix("since the last line 1") } == [true])
        _ = other.write("/b", "xx")
        #expect(test.takeWarnings().map { $0.contains("domain 4") } == [true])
        test.pass(5 * second - 1)
        _ = guest.write("/a", "xx")
        #expect(test.takeWarnings().isEmpty)
        test.pass(1)
        _ = guest.write("/a", "xx")
        #expect(test.takeWarnings().map { $0.hasSuffix("since the last line 11") } == [true])
    }

    /// At four fifths, once, and again when it has been below and there was no warning of late.
    @Test func warningAtFourFifths() {
        let test = TestServer { $0.quotas[.nodes] = 10 }
        let guest = test.ring(3)
        _ = test.takeWarnings()
        for number in 1...7 { _ = guest.write("/\(number)") }
        #expect(test.takeWarnings().isEmpty)
        _ = guest.write("/8")
        #expect(test.takeWarnings() == ["domain 3 uses 8 of its quota nodes, 10"])
        _ = guest.write("/9")
        #expect(test.takeWarnings().isEmpty)
        for number in 5...9 { _ = guest.request(.remove, ["/\(number)"]) }
        test.pass(5 * second)
        for number in 5...8 { _ = guest.write("/\(number)") }
        #expect(test.takeWarnings() == ["domain 3 uses 8 of its quota nodes, 10"])
    }

    @Test(arguments: [QuotaName.watches, .transactions]) func warningOf(quota: QuotaName) throws {
        let test = TestServer { $0.quotas[quota] = 5 }
        let guest = test.ring(3)
        _ = test.takeWarnings()
        for number in 1...5 {
            if quota == .watches {
                _ = guest.request(.watch, ["/w", "\(number)"])
            } else {
                _ = try guest.start()
            }
            let lines = test.takeWarnings()
            #expect(lines == (number == 4 ? ["domain 3 uses 4 of its quota \(quota.name), 5"] : []))
        }
    }

    /// The control domain has no quota, and is not warned of any.
    @Test func controlDomainIsNotLimited() {
        let test = TestServer {
            for quota in QuotaName.allCases { $0.quotas[quota] = 1 }
            $0.quotas.softMemory = 1
        }
        for number in 0..<20 { #expect(test.control.write("/a/\(number)", "value")?.outcome == "OK") }
        #expect(test.control.request(.watch, ["/a", "t"])?.outcome == "OK")
        #expect(test.takeWarnings().isEmpty)
    }

    @Test func softMemoryWarns() {
        let test = TestServer { $0.quotas.softMemory = 3000 }
        let guest = test.ring(3)
        _ = test.takeWarnings()
        _ = guest.write("/a", String(repeating: "v", count: 2000))
        #expect(test.takeWarnings().isEmpty)
        _ = guest.write("/b", String(repeating: "v", count: 2000))
        #expect(test.takeWarnings().map { $0.hasPrefix("domain 3 uses 4") } == [true])
    }

    /// Over its memory: what would store more is refused, what stores less or nothing is not.
    @Test func memoryRefusesGrowthOnly() throws {
        let test = TestServer { $0.quotas[.memory] = 8000 }
        let guest = test.ring(3)
        let value = String(repeating: "v", count: 2000)
        for number in 0..<3 { #expect(guest.write("/\(number)", value)?.outcome == "OK") }
        // The output of this very request counts, if only until it is read.
        #expect(guest.write("/3", value)?.errorName == "ENOSPC")
        #expect(
            guest.request(.watch, ["/" + String(repeating: "w", count: 1800), "t"])?.errorName == "ENOSPC")
        #expect(guest.write("/0", "short")?.outcome == "OK")
        #expect(guest.write("/0", value)?.outcome == "OK")
        #expect(guest.read("/0") == value)
        #expect(guest.request(.remove, ["/0"])?.outcome == "OK")
        #expect(guest.write("/3", value)?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
    }

    /// Also far over it, since the limit came later.
    @Test func memoryBelowWhatIsUsed() {
        let test = TestServer()
        let guest = test.ring(3)
        let value = String(repeating: "v", count: 2000)
        for number in 0..<3 { #expect(guest.write("/\(number)", value)?.outcome == "OK") }
        #expect(test.control.request(.setQuota, ["3", "memory", "1000"])?.outcome == "OK")
        #expect(guest.write("/0", value + "v")?.errorName == "ENOSPC")
        #expect(guest.write("/new")?.errorName == "ENOSPC")
        #expect(guest.write("/0", value)?.outcome == "OK")
        #expect(guest.write("/0", "short")?.outcome == "OK")
        #expect(guest.read("/1") == value)
        #expect(guest.request(.remove, ["/1"])?.outcome == "OK")
        #expect(test.server.checkInvariants() == 0)
    }

    /// A transaction's own changes count too, and go with it.
    @Test func memoryCountsTransactions() throws {
        let test = TestServer { $0.quotas[.memory] = 8000 }
        let guest = test.ring(3)
        let before = test.server.accounts.table[test.server.accounts.account(of: DomainID(3))].memory.now
        let id = try guest.start()
        let value = String(repeating: "v", count: 1500)
        var count = 0
        while count < 20, guest.write("/\(count)", value, transaction: id)?.outcome == "OK" { count += 1 }
        #expect((3...5).contains(count))
        #expect(guest.write("/out", value)?.errorName == "ENOSPC")
        #expect(guest.end(id, "F") == "OK")
        let after = test.server.accounts.table[test.server.accounts.account(of: DomainID(3))].memory.now
        #expect(after == before)
    }

    /// While its output is unread and it is over its memory, a guest is not read; then it is.
    @Test func memoryStopsTheReading() {
        let test = TestServer {
            $0.quotas[.memory] = 10_000
            $0.quotas[.outstanding] = 0
        }
        let guest = test.ring(3)
        _ = guest.write("/n", String(repeating: "v", count: 2000))
        guest.send((1...50).flatMap { Message(.read, requestID: $0, [UInt8](strings: ["/n"])).bytes })
        #expect(!test.server.wantsInput(guest.id))
        #expect(test.server.outputCount(guest.id) < 12_100)
        guest.fetch(2016 * 3)
        #expect(test.server.outputCount(guest.id) < 12_100)
        #expect(guest.drain().map(\.requestID) == Array(1...50))
        #expect(test.server.wantsInput(guest.id))
        #expect(test.server.checkInvariants() == 0)
    }

    /// A limit of a domain's own holds instead of the one for all.
    @Test func ownLimitOverrides() {
        let test = TestServer { $0.quotas[.nodes] = 1 }
        let (guest, other) = (test.ring(3), test.ring(4))
        #expect(test.control.request(.setQuota, ["3", "nodes", "2"])?.outcome == "OK")
        #expect((0..<3).map { guest.write("/g\($0)")?.outcome } == ["OK", "OK", "ENOSPC"])
        #expect((0..<3).map { other.write("/o\($0)")?.outcome } == ["OK", "ENOSPC", "ENOSPC"])
    }
}
