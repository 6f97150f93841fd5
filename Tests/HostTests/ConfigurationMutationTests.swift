// The shipped configuration, damaged at random: every variant is read, or refused with a place in it.

import Testing
import XenStoreHost
import XenStoreTestKit

@Suite struct ConfigurationMutationTests {
    /// splitmix64: the same series for the same seed.
    struct Series: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }

    /// The words that YAML and the configuration care about.
    static let words = [
        ":", ": ", "- ", "\n", "\n  ", "\t", "#", "&a ", "*a", "!t ", "[", "]", "{", "}", "\"", "'", "|\n",
        "? ",
        "---\n", "...\n", "%YAML 9.9\n", "\u{85}", "\u{2028}", "\u{FEFF}", "\0", "\u{1B}", "é", "99999999",
        "-1",
        "GiB", "none", "sockets: []\n", "path", "~", "<<: ", "\r",
    ].map { Array($0.utf8) }

    /// `bytes` after one to eight small damages.
    private func damaged(_ bytes: [UInt8], _ series: inout Series) -> [UInt8] {
        var result = bytes
        for _ in 0..<Int.random(in: 1...8, using: &series) {
            let at = Int.random(in: 0...result.count, using: &series)
            let length = min(Int.random(in: 0...40, using: &series), result.count - at)
            switch Int.random(in: 0..<6, using: &series) {
            case 0: result.removeSubrange(at..<(at + length))
            case 1: result.insert(contentsOf: Self.words.randomElement(using: &series) ?? [], at: at)
            case 2: result.insert(contentsOf: Array(result[at..<(at + length)]), at: at)
            case 3: if at < result.count { result[at] = UInt8.random(in: 0...255, using: &series) }
            case 4: if at < result.count { result[at] ^= 1 << UInt8.random(in: 0..<8, using: &series) }
            default:
                let from = Int.random(in: 0...result.count, using: &series)
                let moved = result[from..<min(from + length, result.count)]
                result.insert(contentsOf: Array(moved), at: at)
            }
        }
        return result
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>) func damageIsSurvived(_ seed: UInt64) throws {
        var series = Series(state: seed)
        let whole = try packageFile("config/xenstored.yaml")
        // Without its comments more of the damage hits something.
        let lines = whole.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let bare = lines.filter { !$0.contains(UInt8(ascii: "#")) }.joined(separator: [UInt8(ascii: "\n")])
        var good = 0
        let rounds = 400
        for round in 0..<rounds {
            if fuzzConfiguration(damaged(round % 4 == 0 ? whole : Array(bare), &series)) { good += 1 }
        }
        // Both outcomes are met, or the damage is too small or too great to show anything.
        #expect(good > 0 && good < rounds)
    }

    @Test func everyBeginningOfTheFileIsSurvived() throws {
        let whole = try packageFile("config/demo.yaml")
        for length in 0...whole.count { fuzzConfiguration(Array(whole[..<length])) }
        #expect(fuzzConfiguration(whole))
    }

    /// As large as a file may be, and made to be slow: none takes a second where the time grows with the
    /// size.
    static let hostile: [(start: String, repeated: String)] = [
        ("", "["), ("", "[\n"), ("", "{a: "), ("", "- "), ("", "x x "), ("\"", "\\n"), ("a: |\n", " x\n"),
        ("log: {trace: [", "io, "), ("a: [", "&a 1, "), ("a: [", "!a 1, "), ("sockets:\n", " - {path: /a}\n"),
        ("", "a: 1\n"), ("", "%TAG !a! b\n"), ("", "\u{85}"),
    ]

    @Test(.timeLimit(.minutes(10)), arguments: hostile)
    func largeHostileFilesEndToo(_ hostile: (start: String, repeated: String)) {
        let room = Configuration.fileMax - hostile.start.utf8.count
        let text =
            hostile.start + String(repeating: hostile.repeated, count: room / hostile.repeated.utf8.count)
        // Nothing but line ends is an empty file.
        #expect(fuzzConfiguration(Array(text.utf8)) == (hostile.repeated == "\u{85}"))
    }

    @Test(.timeLimit(.minutes(10))) func manyDifferentNamesEndToo() {
        #expect(!fuzzConfiguration(Array((0..<24000).map { "k\($0): 1\n" }.joined().utf8)))
        #expect(!fuzzConfiguration(Array((0..<15000).map { "%TAG !a\($0)! b\n" }.joined().utf8)))
    }
}
