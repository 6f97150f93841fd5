// Are paths taken, refused and cut as the specification says (section A, "Paths")?

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

@Suite struct ParsedPathTests {
    let path = ParsedPath(KeyedHash(seed: (11, 12)))

    @Test(arguments: [
        ("/", "/", 0), ("/a", "/a", 1), ("/a/b", "/a/b", 2), ("/A-Z_9@", "/A-Z_9@", 1), ("/@", "/@", 1),
        ("a", "/local/domain/7/a", 4), ("a/b@c", "/local/domain/7/a/b@c", 5),
        ("local/domain/7", "/local/domain/7/local/domain/7", 6), ("-", "/local/domain/7/-", 4),
    ]) func good(given: String, canonical: String, depth: Int) {
        #expect(path.refusal(given) == nil)
        #expect(path.string == canonical)
        #expect(path.depth == depth)
        #expect(!path.isSpecial)
        #expect(path.homeCount == (given.hasPrefix("/") ? 0 : 16))
        let names = canonical.split(separator: "/").map(String.init)
        for (level, name) in names.enumerated() {
            #expect(path.withName(level + 1) { String(decoding: $0.array, as: UTF8.self) } == name)
        }
    }

    @Test(arguments: [
        "", "//", "/a/", "a/", "/a//b", "a//b", "//a", "///", "/local/domain/", "@x", "@", "/a b", "/a.b",
        "/a\0", "\0", "/ü", "/a/\u{7F}", "/a:", "/a`", "/a[", "/a{",
    ]) func bad(given: String) { #expect(path.refusal(given) == "EINVAL") }

    @Test func specialNamesPassWhereTheyMay() {
        #expect(path.refusal("@releaseDomain") == "EINVAL")
        #expect(path.refusal("@releaseDomain", allowSpecial: true) == nil)
        #expect(path.isSpecial && path.depth == 1 && path.string == "@releaseDomain")
        #expect(path.refusal("@releaseDomain/7", allowSpecial: true) == nil)
        #expect(path.depth == 2)
        for given in ["@x/", "@x//y", "@x y"] {
            #expect(path.refusal(given, allowSpecial: true) == "EINVAL", "\(given)")
        }
        // Only a special path is one: the next is not.
        #expect(path.refusal("/x", allowSpecial: true) == nil)
        #expect(!path.isSpecial)
    }

    /// A special node is not the ordinary one of that name.
    @Test func specialHashesAreOthers() {
        #expect(path.refusal("@x", allowSpecial: true) == nil)
        let special = path.hash(at: 1)
        #expect(path.refusal("/@x") == nil)
        #expect(path.hash(at: 1) != special)
    }

    @Test func everyByteAsACharacter() {
        let letters = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@".utf8)
        for byte in UInt8.min...UInt8.max {
            let isGood = letters.contains(byte)
            // Alone, and among others; a slash between others parts them.
            #expect((path.refusal([0x2F, byte]) == nil) == isGood, "byte \(byte)")
            let isGoodWithin = isGood || byte == 0x2F
            #expect((path.refusal([0x2F, 0x61, byte, 0x62]) == nil) == isGoodWithin, "byte \(byte)")
            #expect((path.refusal([0x61, byte, 0x62]) == nil) == isGoodWithin, "byte \(byte)")
        }
    }

    @Test(arguments: [
        ("/", 2048, true), ("/", 2049, true), ("/", 3072, true), ("/", 3073, false), ("", 2048, true),
        ("", 2049, false), ("@", 2048, true), ("@", 2049, false), ("", 3072, false),
    ]) func lengths(start: String, count: Int, isGood: Bool) {
        let long = Array(start.utf8) + [UInt8](repeating: 0x61, count: count - start.utf8.count)
        let deep =
            Array(start.utf8) + (0..<count).map { $0 % 2 == 0 ? 0x62 : 0x2F }.prefix(count - start.utf8.count)
        for given in [long, deep.last == 0x2F ? long : deep] {
            #expect(given.count == count)
            #expect((path.refusal(given, allowSpecial: true) == nil) == isGood)
        }
    }

    /// A home does not count towards the length of what is completed with it, whatever its number.
    @Test func homesAreOfAnyLength() {
        #expect(path.refusal([UInt8](repeating: 0x61, count: 2048), home: 65535) == nil)
        #expect(path.text.count == 2048 + "/local/domain/65535/".utf8.count)
        #expect(path.refusal("a", home: 0) == nil)
        #expect(path.string == "/local/domain/0/a")
    }

    @Test(arguments: [
        ("/local/domain/7/a/b", 3), ("/local/domain/65535/a", 1), ("a/b", 3), ("/local/domain/7", 15),
        ("/local/domain", 13), ("/local/domain/x7/a", 18), ("/local/domains/7/a", 18),
        ("/tool/domain/7/a", 16),
        ("/x/local/domain/7/a", 19), ("/", 1),
    ]) func countedLength(given: String, count: Int) {
        #expect(path.refusal(given) == nil)
        #expect(path.countedLength == count)
    }

    @Test func countedLengthOfASpecialPath() {
        #expect(path.refusal("@local/domain/7/a", allowSpecial: true) == nil)
        #expect(path.countedLength == 17)
    }

    /// A prefix of a path is the path that it would be alone.
    @Test(arguments: seeds) func prefixesAreThePathsAlone(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let alone = ParsedPath(KeyedHash(seed: (11, 12)))
        var seen: [String: UInt64] = [:]
        for step in 0..<200 {
            let names = (0...random.below(12)).map { _ in
                String(
                    decoding: (0...random.below(20)).map { _ in random.one(of: Array("abcXYZ09-_@".utf8)) },
                    as: UTF8.self)
            }
            let text = "/" + names.joined(separator: "/")
            try demand(path.refusal(text) == nil, seed, step, text)
            for level in 0...names.count {
                let prefix = "/" + names.prefix(level).joined(separator: "/")
                try demand(alone.refusal(prefix) == nil, seed, step, prefix)
                try demand(alone.hash(at: level) == path.hash(at: level), seed, step, "hash of \(prefix)")
                try demand(path.withPrefix(level) { $0.array } == Array(prefix.utf8), seed, step, prefix)
                let other = seen.updateValue(path.hash(at: level), forKey: prefix)
                try demand(other == nil || other == path.hash(at: level), seed, step, "\(prefix) changes")
            }
            path.withText { alone.load(canonical: $0) }
            try demand(alone.text == path.text && alone.depth == path.depth, seed, step, text)
        }
        #expect(Set(seen.values).count == seen.count, "seed \(seed): two paths of one hash")
    }

    /// What a path has in common with the one before is not cut anew: it is the same path all the same,
    /// whatever came before it, refused ones too.
    @Test(arguments: seeds) func theOneBeforeDoesNotShow(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var texts = ["/", "a", "/a", "@x"]
        for step in 0..<3000 {
            var given = Array(random.one(of: texts).utf8)
            switch random.below(8) {
            case 0: given += Array("/ab".utf8)
            case 1: given = Array(given.prefix(random.below(given.count + 1)))
            case 2 where !given.isEmpty:
                given[random.below(given.count)] = random.one(of: Array("a/b@ ".utf8))
            case 3: given.append(random.one(of: Array("ab/".utf8)))
            case 4 where given.count < 200: given += given
            case 5: path.clear()
            default: break
            }
            let alone = ParsedPath(KeyedHash(seed: (11, 12)))
            let home = UInt16(random.below(3))
            let expected = alone.refusal(given, home: home, allowSpecial: true)
            try demand(
                path.refusal(given, home: home, allowSpecial: true) == expected, seed, step, "\(given)")
            guard expected == nil else { continue }
            try demand(path.text == alone.text && path.depth == alone.depth, seed, step, "\(given)")
            try demand(path.isSpecial == alone.isSpecial, seed, step, "\(given)")
            try demand(path.homeCount == alone.homeCount, seed, step, "\(given)")
            for level in 0...alone.depth {
                let (one, other) = (path.components[level], alone.components[level])
                try demand(one.begin == other.begin && one.end == other.end, seed, step, "\(given) \(level)")
                try demand(one.hash == other.hash, seed, step, "\(given) hash \(level)")
            }
            if random.below(4) == 0 { texts.append(String(decoding: given, as: UTF8.self)) }
        }
    }

    /// Where names are cut counts: /ab/c is not /a/bc.
    @Test func hashesSeeTheSlashes() {
        let hashes = ["/abc", "/ab/c", "/a/bc", "/a/b/c"].map { text in
            #expect(path.refusal(text) == nil)
            return path.hash(at: path.depth)
        }
        #expect(Set(hashes).count == 4)
    }
}
