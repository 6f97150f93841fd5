// The configuration of the stub domain's kernel, as one blob: `xenstored --compile-config` writes it, the
// kernel reads it as its ramdisk.
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 8 | `XSKERNEL` |
// | 8 | 4 | version, 2 |
// | 12 | 4 | bytes of the whole blob |
// | 16 | 8 | checksum of all that follows |
// | 24 | - | sections: u32 kind, u32 bytes of content, the content, zeros to a multiple of 8 |
//
// Kind 1, the settings, is there once:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | log level, as `LogLevel`'s raw value |
// | 4 | 4 | trace switches, as `TraceSwitches`' raw value |
// | 8 | 8 | bytes that transactions may keep |
// | 16 | 4 | the domain that may do everything |
// | 20 | 4 | soft limit of memory, in bytes |
// | 24 | 36 | quotas, u32 each, in the order of `QuotaName` |
//
// Kind 2 is an access policy. They are asked in the order of their sections:
//
// | offset | size | meaning |
// |---|---|---|
// | 0 | 4 | bytes of the module's name, 1 to 64 |
// | 4 | n | the name |
// | 4 + n | - | what the module decides by, in a form of its own |
//
// A kernel refuses a kind that it does not know, and a module that it does not link: it must not drop a rule.
// All numbers are little-endian.

import XenStoreTypes

/// What the kernel is told, and what is wrong with what it was given.
public struct KernelConfiguration: Equatable, Sendable {
    public enum Mistake: Error, Equatable, Sendable {
        /// It does not begin as one does.
        case isNone
        /// It is of another version.
        case version(UInt32)
        /// It is cut short, or its checksum is not that of its content.
        case isDamaged
        /// A section that this kernel knows nothing of, or a second or no section of settings.
        case section(UInt32)
        /// A setting that is out of range: where in the section.
        case setting(Int)
        /// A policy, from 0 in their order, whose name is none.
        case policy(Int)
    }

    /// An access policy: a module that the kernel links, and what it decides by.
    public struct CompiledPolicy: Equatable, Sendable {
        public var module: [UInt8]
        public var form: [UInt8]

        public init(module: [UInt8], form: [UInt8]) {
            self.module = module
            self.form = form
        }
    }

    public var logLevel = LogLevel.info
    public var tracing: TraceSwitches = []
    /// Bytes; the kernel takes no more than an eighth of its memory.
    public var snapshotMemory = ServerConfiguration().snapshotMemory
    public var privilegedDomain = DomainID.zero
    public var quotas = QuotaLimits()
    /// In the order in which they are asked.
    public var policies: [CompiledPolicy] = []

    private static let magic: StaticString = "XSKERNEL"
    private static let version: UInt32 = 2
    private static let headSize = 24
    private static let settingsKind: UInt32 = 1
    private static let policyKind: UInt32 = 2
    private static let nameMax = 64
    private static let settingsSize = 24 + 4 * QuotaName.allCases.count

    public init() {}

    // MARK: Writing

    public var compiled: [UInt8] {
        var content: [UInt8] = []
        content.append(word: Self.settingsKind)
        content.append(word: UInt32(Self.settingsSize))
        content.append(word: UInt32(logLevel.rawValue))
        content.append(word: UInt32(tracing.rawValue))
        content.append(word: UInt32(truncatingIfNeeded: snapshotMemory))
        content.append(word: UInt32(truncatingIfNeeded: snapshotMemory >> 32))
        content.append(word: UInt32(privilegedDomain.rawValue))
        content.append(word: quotas.softMemory)
        for quota in QuotaName.allCases { content.append(word: quotas[quota]) }
        while content.count & 7 != 0 { content.append(0) }
        for policy in policies {
            content.append(word: Self.policyKind)
            content.append(word: UInt32(4 + policy.module.count + policy.form.count))
            content.append(word: UInt32(policy.module.count))
            content += policy.module + policy.form
            while content.count & 7 != 0 { content.append(0) }
        }
        return Self.blob(content)
    }

    /// The blob that has these sections.
    public static func blob(_ sections: [UInt8]) -> [UInt8] {
        var all: [UInt8] = []
        all.append(Bytes(Self.magic))
        all.append(word: Self.version)
        all.append(word: UInt32(Self.headSize + sections.count))
        let sum = sections.withBytes { Self.checksum($0) }
        all.append(word: UInt32(truncatingIfNeeded: sum))
        all.append(word: UInt32(truncatingIfNeeded: sum >> 32))
        return all + sections
    }

    private static func checksum(_ content: Bytes) -> UInt64 {
        KeyedHash(seed: (0, 0))(UInt64(content.count), content)
    }

    // MARK: Reading

    /// Reads a blob, behind which zeros may stand up to the end of a page.
    public init(compiled: Span<UInt8>) throws(Mistake) {
        let result: Result<KernelConfiguration, Mistake> = compiled.withBytes { all in
            var configuration = KernelConfiguration()
            do throws(Mistake) {
                try configuration.read(all)
                return .success(configuration)
            } catch {
                return .failure(error)
            }
        }
        self = try result.get()
    }

    private mutating func read(_ all: Bytes) throws(Mistake) {
        let magic = Bytes(Self.magic)
        guard all.count >= Self.headSize, all.slice(0, magic.count) == magic else { throw .isNone }
        if all.word(at: 8) != Self.version { throw .version(all.word(at: 8)) }
        let count = Int(all.word(at: 12))
        guard count >= Self.headSize, count <= all.count else { throw .isDamaged }
        var rest = all.slice(Self.headSize, count)
        let sum = UInt64(all.word(at: 16)) | UInt64(all.word(at: 20)) << 32
        if sum != Self.checksum(rest) { throw .isDamaged }
        var settings: Bytes?
        while !rest.isEmpty {
            guard rest.count >= 8 else { throw .isDamaged }
            let (kind, size) = (rest.word(at: 0), Int(rest.word(at: 4)))
            guard size <= rest.count - 8 else { throw .isDamaged }
            let content = rest.slice(8, 8 + size)
            if kind == Self.policyKind {
                try readPolicy(content)
            } else if kind == Self.settingsKind, settings == nil {
                settings = content
            } else {
                throw .section(kind)
            }
            rest = rest.dropFirst(min(8 + (size + 7) & ~7, rest.count))
        }
        guard let settings else { throw .section(Self.settingsKind) }
        try readSettings(settings)
    }

    private mutating func readPolicy(_ bytes: Bytes) throws(Mistake) {
        guard bytes.count >= 4, case let count = Int(bytes.word(at: 0)), (1...Self.nameMax).contains(count),
            count <= bytes.count - 4, bytes.slice(4, 4 + count).firstIndex(of: 0) == nil
        else { throw .policy(policies.count) }
        policies.append(
            CompiledPolicy(
                module: Array(bytes.slice(4, 4 + count).raw), form: Array(bytes.dropFirst(4 + count).raw)))
    }

    private mutating func readSettings(_ bytes: Bytes) throws(Mistake) {
        guard bytes.count == Self.settingsSize else { throw .isDamaged }
        guard let level = LogLevel(rawValue: UInt8(clamping: bytes.word(at: 0))) else { throw .setting(0) }
        guard bytes.word(at: 4) & ~UInt32(TraceSwitches.all.rawValue) == 0 else { throw .setting(4) }
        guard bytes.word(at: 12) < 1 << 31 else { throw .setting(8) }
        guard bytes.word(at: 16) < UInt32(DomainID.firstReserved) else { throw .setting(16) }
        logLevel = level
        tracing = TraceSwitches(rawValue: .init(bytes.word(at: 4)))
        snapshotMemory = Int(bytes.word(at: 8)) | Int(bytes.word(at: 12)) << 32
        privilegedDomain = DomainID(UInt16(bytes.word(at: 16)))
        quotas.softMemory = bytes.word(at: 20)
        for quota in QuotaName.allCases { quotas[quota] = bytes.word(at: 24 + 4 * Int(quota.rawValue)) }
    }
}
