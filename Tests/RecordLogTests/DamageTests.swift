// Is what is replayed always a beginning of what was appended, whatever became of the file?

import Foundation
import Glibc
import Testing
import XenStoreLog
import XenStoreTestKit

@Suite(.timeLimit(.minutes(10)))
struct DamageTests {
    let directory = TestDirectory()
    private let all = entries(12, seed: 11, max: 60)
    private var path: String { directory / "log" }

    /// The file of a log that holds `all`, as long as its frames need.
    private func original() throws -> [UInt8] {
        try makeLog(path, all)
        return Array(bytes(path)[..<(4096 + size(all))])
    }

    /// Replays; then appends, and replays again: what was cut must not come back. Returns how many frames.
    private func check(_ damaged: [UInt8], _ what: String) throws -> RecordLog.Replay {
        store(damaged, at: path)
        let log = try RecordLog(path, kind: testKind)
        let (found, replay) = try log.entries()
        try #require(found == Array(all[..<found.count]), "\(what)")
        let end = 4096 + size(found)
        if let aside = replay.setAside {
            try #require(bytes(aside) == Array(damaged[end..<(end + replay.cut)]), "\(what)")
            try FileManager.default.removeItem(atPath: aside)
        }
        let more = Entry(sequence: 99, payload: [1, 2, 3])
        try log.append(more)
        log.close()
        let (again, clean) = try entries(at: path)
        try #require(again == found + [more], "\(what)")
        try #require(clean.cut == 0, "\(what)")
        return replay
    }

    @Test func `cut at every byte`() throws {
        let whole = try original()
        for end in 4096...whole.count {
            let replay = try check(Array(whole[..<end]), "cut at \(end)")
            var frames = 0
            while frames < all.count && 4096 + size(Array(all[...frames])) <= end { frames += 1 }
            try #require(replay.frames == frames, "cut at \(end)")
        }
    }

    @Test func `every byte flipped`() throws {
        let whole = try original()
        for at in 0..<whole.count where at < 40 || (2040..<2100).contains(at) || at >= 4096 {
            for bit in [0, 3, 7] as [UInt8] {
                var damaged = whole
                damaged[at] ^= 1 << bit
                let replay = try check(damaged, "byte \(at), bit \(bit)")
                // One copy of the head is enough; a length of zero is none that was ever finished.
                if at < 4096 { try #require(replay.frames == all.count, "byte \(at), bit \(bit)") }
                let isSeen = replay.frames < all.count
                try #require(!isSeen || replay.setAside != nil || replay.cut < 100, "byte \(at), bit \(bit)")
            }
        }
    }

    @Test func `every run of zeros that a lost page leaves`() throws {
        let whole = try original()
        for start in stride(from: 4096, to: whole.count, by: 8) {
            for end in stride(from: start + 8, through: whole.count, by: 104) {
                var damaged = whole
                for at in start..<end { damaged[at] = 0 }
                let replay = try check(damaged, "zeros from \(start) to \(end)")
                // Finished frames behind the hole are kept for whoever looks for them.
                if end <= whole.count - (16 + all[11].payload.count + 7) & ~7 && replay.cut > 0 {
                    try #require(replay.setAside != nil, "zeros from \(start) to \(end)")
                }
            }
        }
    }

    @Test(arguments: 0..<150 as Range<UInt64>)
    func `random damage`(seed: UInt64) throws {
        var choices = SplitMix64(seed: seed)
        var damaged = try original()
        for _ in 0...choices.below(3) {
            let start = 4096 + choices.below(damaged.count - 4096)
            let end = min(start + choices.below(64), damaged.count)
            switch choices.below(4) {
            case 0: for at in start..<end { damaged[at] = UInt8(choices.below(256)) }
            case 1: damaged.removeSubrange(start..<end)
            case 2: damaged.insert(contentsOf: damaged[start..<end], at: start)
            default:
                let from = choices.below(damaged.count)
                let part = Array(damaged[from..<min(from + 200, damaged.count)])
                damaged.replaceSubrange(start..<min(start + part.count, damaged.count), with: part)
            }
            if damaged.count < 4200 { break }
        }
        _ = try check(damaged, "seed \(seed)")
    }

    @Test func `a frame that was never finished is dropped without a copy`() throws {
        var torn = try original()
        torn += [0, 0, 0, 0, 1, 2, 3, 4] + [UInt8](repeating: 0xEE, count: 5000)
        let replay = try check(torn, "torn")
        #expect(replay == .init(frames: all.count, bytes: size(all), cut: 5008))
    }

    @Test func `a frame inside a payload is none`() throws {
        let inner = try original()
        let guest = Entry(sequence: 7, payload: Array(inner[4096...]))
        try makeLog(directory / "other", [guest])
        // The outer head goes; where its payload stood, a log of another salt begins.
        var bytes = bytes(directory / "other")
        bytes.removeSubrange(4096..<4112)
        store(bytes, at: directory / "other")
        let (found, replay) = try entries(at: directory / "other")
        #expect(found == [])
        #expect(replay.setAside == directory / "other.damaged-1")
    }

    @Test func `lengths of every kind`() throws {
        let whole = try original()
        let second = 4096 + size([all[0]])
        for length in [1, 15, 17, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 30, 1 << 26] as [UInt32] {
            var damaged = whole
            withUnsafeBytes(of: length) { damaged.replaceSubrange(second..<second + 4, with: $0) }
            #expect(try check(damaged, "length \(length)").frames == 1)
        }
        // A sparse file that has the bytes for a length that large.
        var damaged = whole
        withUnsafeBytes(of: UInt32(1 << 28)) { damaged.replaceSubrange(second..<second + 4, with: $0) }
        store(damaged, at: path)
        #expect(truncate(path, 1 << 40) == 0)
        let (found, replay) = try entries(at: path)
        #expect(found == [all[0]])
        #expect(replay.setAside == path + ".damaged-1")
    }

    @Test func `damaged ends are never overwritten`() throws {
        let whole = try original()
        for number in 1...3 {
            store(Array(whole[..<(4096 + size(all) - number)]), at: path)
            #expect(try entries(at: path).replay.setAside == path + ".damaged-\(number)")
        }
        #expect(directory.names == ["log", "log.damaged-1", "log.damaged-2", "log.damaged-3"])
    }
}
