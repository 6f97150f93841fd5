// Is the hash SipHash-1-3 of the previous hash's eight bytes and the name behind them?

import Testing
import XenStoreTestKit

@testable import XenStore

/// SipHash-c-d as its paper has it: the message is padded first, then taken word by word.
private func sipHash(_ c: Int, _ d: Int, _ key: (UInt64, UInt64), _ message: [UInt8]) -> UInt64 {
    var v: [UInt64] = [
        key.0 ^ 0x736f_6d65_7073_6575, key.1 ^ 0x646f_7261_6e64_6f6d, key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ]
    func left(_ word: UInt64, _ bits: UInt64) -> UInt64 { word << bits | word >> (64 - bits) }
    func round() {
        v[0] &+= v[1]
        v[1] = left(v[1], 13) ^ v[0]
        v[0] = left(v[0], 32)
        v[2] &+= v[3]
        v[3] = left(v[3], 16) ^ v[2]
        v[0] &+= v[3]
        v[3] = left(v[3], 21) ^ v[0]
        v[2] &+= v[1]
        v[1] = left(v[1], 17) ^ v[2]
        v[2] = left(v[2], 32)
    }
    var padded = message
    while padded.count % 8 != 7 { padded.append(0) }
    padded.append(UInt8(truncatingIfNeeded: message.count))
    for start in stride(from: 0, to: padded.count, by: 8) {
        let word = (0..<8).reduce(UInt64(0)) { $0 | UInt64(padded[start + $1]) << UInt64($1 * 8) }
        v[3] ^= word
        for _ in 0..<c { round() }
        v[0] ^= word
    }
    v[2] ^= 0xFF
    for _ in 0..<d { round() }
    return v[0] ^ v[1] ^ v[2] ^ v[3]
}

private func littleEndian(_ number: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64($0 * 8)) }
}

@Suite struct KeyedHashTests {
    static let paperKey: (UInt64, UInt64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)

    /// The reference below is right: the test vectors of SipHash-2-4's paper and sources.
    @Test func referenceGivesThePapersNumbers() {
        #expect(sipHash(2, 4, Self.paperKey, Array(0..<15)) == 0xa129_ca61_49be_45e5)
        #expect(sipHash(2, 4, Self.paperKey, []) == 0x726f_db47_dd0e_0e31)
    }

    /// Every length over three words, and long ones, where the length's byte wraps.
    @Test func isSipHash13() {
        var random = SplitMix64(seed: 1)
        for count in Array(0...32) + [247, 248, 255, 256, 257, 2048] {
            let (key, previous) = ((random.next(), random.next()), random.next())
            let name = random.bytes(count)
            let hash = name.withBytes { KeyedHash(seed: key)(previous, $0) }
            #expect(hash == sipHash(1, 3, key, littleEndian(previous) + name), "\(count) bytes")
        }
    }

    @Test func ofTwoNumbersIsThatOfTheirBytes() {
        var random = SplitMix64(seed: 2)
        for _ in 0..<100 {
            let (key, first, second) = ((random.next(), random.next()), random.next(), random.next())
            let hash = KeyedHash(seed: key)(first, second)
            #expect(hash == sipHash(1, 3, key, littleEndian(first) + littleEndian(second)))
        }
    }

    @Test func differsWithEachHalfOfTheSeed() {
        let name = Array("domain".utf8)
        let hashes = [(0, 0), (1, 0), (0, 1), (1, 1)].map { seed in
            name.withBytes { KeyedHash(seed: seed)(0, $0) }
        }
        #expect(Set(hashes).count == 4)
    }

    /// Zero bytes count, and so does where the name is cut.
    @Test func differsWithTheLength() {
        let hash = KeyedHash(seed: (1, 2))
        let hashes = (0...40).map { [UInt8](repeating: 0, count: $0).withBytes { hash(0, $0) } }
        #expect(Set(hashes).count == 41)
    }

    @Test func doesNotDependOnWhatLiesBehind() {
        let hash = KeyedHash(seed: (1, 2))
        for count in 0...24 {
            let name = [UInt8](repeating: 0x61, count: count)
            let alone = name.withBytes { hash(5, $0) }
            for filler: UInt8 in [0x00, 0x62, 0xFF] {
                let more = [filler] + name + [UInt8](repeating: filler, count: 16)
                #expect(more.withBytes { hash(5, $0.slice(1, 1 + count)) } == alone, "\(count) bytes")
            }
        }
    }
}
