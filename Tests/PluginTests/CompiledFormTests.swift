// Do the forms that kernels read say what they were made of, and is everything else refused?
//
// That a compiled policy decides as the one it was made of is tried by the conformance kit
// (Tests/ConformanceTests), on every policy that compiles.

import CXenStorePlugin
import Foundation
import PathRules
import PathRulesFile
import RateLimit
import Testing
import TypeLabels
import XenStoreHost
import XenStorePlugin
import XenStoreTestKit

@testable import RateLimitOptions
@testable import TypeLabelsFile

@Suite struct CompiledFormTests {
    private static let kept = ModuleScratch.top + "/config/policies"

    static func rules() throws -> [UInt8] {
        RuleForm(try RuleFile(path: "\(kept)/hardened-guests.yaml").rules, whyPermissive: "why").bytes
    }

    static func labels() throws -> [UInt8] { try LabelFile.read("\(kept)/type-labels.yaml").compiled }

    static func limits() -> [UInt8] {
        let limit = Limit(5, burst: 7, place: "f.yaml:1:2")
        var limits = RateLimits(requests: limit, transactions: limit, events: limit)
        limits.exempt.domains = [3...9]
        limits.refusal = .noSpace
        return limits.compiled
    }

    @Test func rulesAreReadAsTheyWereWritten() throws {
        let file = try RuleFile(path: "\(Self.kept)/hardened-guests.yaml")
        let form = try RuleForm(try Self.rules())
        #expect(form.whyPermissive == "why")
        #expect(form.rules.map(\.title) == file.rules.map(\.title))
        #expect(form.rules.map(\.effect) == file.rules.map(\.effect))
        #expect(form.rules.map(\.patterns) == file.rules.map(\.patterns))
        #expect(form.rules.map(\.subjects) == file.rules.map(\.subjects))
        #expect(form.rules.map(\.operations) == file.rules.map(\.operations))
        #expect(RuleForm(form.rules, whyPermissive: form.whyPermissive).bytes == (try Self.rules()))
    }

    @Test func labelsAndLimitsAreReadAsTheyWereWritten() throws {
        #expect(try LabelRules(compiled: try Self.labels()).compiled == (try Self.labels()))
        let limits = try RateLimits(compiled: Self.limits())
        #expect(limits.compiled == Self.limits())
        #expect(limits.events == Limit(5, burst: 7, place: "f.yaml:1:2") && limits.refusal == .noSpace)
    }

    /// Each byte changed in each bit, and random bytes behind a sound beginning.
    @Test func nothingTraps() throws {
        let readers: [([UInt8], ([UInt8]) throws -> Void)] = [
            (try Self.rules(), { _ = try RuleTable(try RuleForm($0).rules) }),
            (try Self.labels(), { _ = LabelTable(try LabelRules(compiled: $0)) }),
            (Self.limits(), { _ = try RateLimits(compiled: $0) }),
        ]
        var random = SplitMix64(seed: 7)
        for (form, read) in readers {
            var refused = 0
            for bit in 0..<8 * form.count {
                var changed = form
                changed[bit / 8] ^= 1 << UInt8(bit % 8)
                do { try read(changed) } catch { refused += 1 }
            }
            #expect(refused > form.count && refused < 8 * form.count)
            for _ in 0..<2000 {
                var changed = Array(form.prefix(random.below(form.count)))
                changed += (0..<random.below(100)).map { _ in UInt8(truncatingIfNeeded: random.next() >> 3) }
                try? read(changed)
            }
        }
    }

    @Test(
        arguments: [
            ([2, 0, 0, 0], "before byte 4: expected version 1 of path-rules' form"),
            ([1, 0, 0], "before byte 0: expected a number"),
            ([1, 0, 0, 0, 9, 0, 65], "before byte 6: expected a text of this length"),
            ([1, 0, 0, 0, 0, 0, 255, 255, 0, 0], "before byte 10: expected fewer of them"),
            ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "before byte 10: expected the end"),
        ] as [([UInt8], String)])
    func mistakesSayWhere(bytes: [UInt8], text: String) {
        let failure = #expect(throws: PluginFailure.self) { _ = try RuleForm(bytes) }
        #expect(failure?.reason == "its compiled form, " + text)
    }
}
