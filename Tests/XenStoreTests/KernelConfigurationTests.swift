// Does the kernel read what --compile-config wrote, and nothing else?

import Testing
import XenStore
import XenStoreTestKit
import XenStoreTypes

@Suite struct KernelConfigurationTests {
    static var example: KernelConfiguration {
        var example = KernelConfiguration()
        example.logLevel = .debug
        example.tracing = [.io, .acc]
        example.snapshotMemory = 5 << 32
        example.privilegedDomain = DomainID(7)
        for quota in QuotaName.allCases { example.quotas[quota] = 100 + UInt32(quota.rawValue) }
        example.quotas.softMemory = 42
        example.policies = [
            .init(module: Array("path-rules".utf8), form: [1, 2, 3]),
            .init(module: Array("path-rules".utf8), form: []),
            .init(module: [0x61], form: [UInt8](repeating: 7, count: 40)),
        ]
        return example
    }

    @Test(arguments: [KernelConfiguration(), example])
    func whatWasWrittenIsRead(configuration: KernelConfiguration) throws {
        let bytes = configuration.compiled
        #expect(try KernelConfiguration(compiled: bytes.span) == configuration)
        #expect(bytes.count & 7 == 0)
        // A loader may give whole pages.
        let padded = bytes + [UInt8](repeating: 0, count: 4096 - bytes.count)
        #expect(try KernelConfiguration(compiled: padded.span) == configuration)
    }

    @Test func everyBitCounts() {
        let bytes = Self.example.compiled
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: KernelConfiguration.Mistake.self) {
                try KernelConfiguration(compiled: damaged.span)
            }
        }
    }

    @Test func whatIsCutShortIsRefused() {
        let bytes = Self.example.compiled
        for count in 0..<bytes.count {
            #expect(throws: KernelConfiguration.Mistake.self) {
                try KernelConfiguration(compiled: Array(bytes[..<count]).span)
            }
        }
    }

    @Test func anotherVersionIsNamed() {
        var bytes = Self.example.compiled
        bytes[8] = 1
        #expect(throws: KernelConfiguration.Mistake.version(1)) {
            try KernelConfiguration(compiled: bytes.span)
        }
    }

    /// Sections as nobody writes them, in a blob that is whole.
    @Test func everySectionIsLookedAt() throws {
        func mistake(_ sections: [UInt8]) -> KernelConfiguration.Mistake? {
            do throws(KernelConfiguration.Mistake) {
                _ = try KernelConfiguration(compiled: KernelConfiguration.blob(sections).span)
                return nil
            } catch {
                return error
            }
        }
        let settings = Array(KernelConfiguration().compiled[24...])
        func section(_ kind: UInt8, _ content: [UInt8]) -> [UInt8] {
            [kind, 0, 0, 0, UInt8(content.count), 0, 0, 0] + content
        }
        let policy = section(2, [1, 0, 0, 0, 0x61, 0, 0, 0])
        #expect(mistake(settings) == nil)
        #expect(mistake(policy + settings) == nil)
        #expect(mistake(settings + section(9, [])) == .section(9))
        #expect(mistake(settings + settings) == .section(1))
        #expect(mistake(policy) == .section(1))
        #expect(mistake([]) == .section(1))
        #expect(mistake(settings + [2, 0, 0, 0, 9, 0, 0, 0] + [UInt8](repeating: 0, count: 8)) == .isDamaged)
        #expect(mistake(settings + [2, 0, 0, 0]) == .isDamaged)
        let names: [[UInt8]] = [
            [], [1, 0, 0], [0, 0, 0, 0, 0x61], [2, 0, 0, 0, 0x61], [255, 255, 255, 255, 0x61],
        ]
        for content in names { #expect(mistake(settings + policy + section(2, content)) == .policy(1)) }
        let long = [65, 0, 0, 0] + [UInt8](repeating: 0x61, count: 65)
        #expect(mistake(settings + section(2, long)) == .policy(0))
    }

    /// Random changes of the sections, with a checksum that fits: refused, or read as something else.
    @Test(arguments: 1...4 as ClosedRange<UInt64>) func noSectionsTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let sections = Array(Self.example.compiled[24...])
        var read = 0
        for _ in 0..<4000 {
            var changed = sections
            for _ in 0...random.below(4) {
                changed[random.below(changed.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            if random.chance(30) { changed.removeLast(random.below(changed.count)) }
            let blob = KernelConfiguration.blob(changed)
            if (try? KernelConfiguration(compiled: blob.span)) != nil { read += 1 }
        }
        #expect(read > 100 && read < 3900)
    }
}
