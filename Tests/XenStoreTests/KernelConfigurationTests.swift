// Does the kernel read what --compile-config wrote, and nothing else?

import Testing
import XenStore
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
        bytes[8] = 2
        #expect(throws: KernelConfiguration.Mistake.version(2)) {
            try KernelConfiguration(compiled: bytes.span)
        }
    }
}
