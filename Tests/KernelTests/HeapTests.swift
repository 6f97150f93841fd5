// The kernel's allocator: do pieces keep what is in them, and does fragmentation stay within the bounds that
// its file states? XENSTORE_SEEDS=1000 plays more.

import Foundation
import Testing
import XenStoreTestKit

@testable import StubKernel

@Suite struct HeapTests {
    static let seeds = UInt64(ProcessInfo.processInfo.environment["XENSTORE_SEEDS"] ?? "") ?? 4

    @Test func fragmentationIsBounded() {
        for seed in 0..<Self.seeds {
            var play = HeapPlay(seed)
            play.run()
            if let complaint = play.complaint {
                Issue.record("seed \(seed): \(complaint)")
                return
            }
        }
    }

    /// All of it can be had again as one piece, whatever was there before.
    @Test func aFullHeapComesBack() throws {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 4 << 20, alignment: 4096)
        defer { memory.deallocate() }
        var heap = Heap(UInt(bitPattern: memory), UInt(bitPattern: memory) + 4 << 20)
        let all = heap.total
        var pieces: [UnsafeMutableRawPointer] = []
        while let piece = heap.allocate(5000, alignment: 16) { pieces.append(piece) }
        #expect(heap.free < 2 * 4096)
        // Every other one: no two free pages are together.
        for index in stride(from: 1, to: pieces.count, by: 2) { heap.release(pieces[index]) }
        #expect(heap.largest() == 8192)
        #expect(heap.allocate(3 * 4096, alignment: 16) == nil)
        for index in stride(from: 0, to: pieces.count, by: 2) { heap.release(pieces[index]) }
        #expect(heap.largest() == all)
        #expect(heap.allocate(all, alignment: 16) != nil)
    }
}

/// Pieces that come and go, with what is in them.
private struct HeapPlay {
    private static let count = 8 << 20
    private let memory: UnsafeMutableRawPointer
    private var heap: Heap
    private var random: SplitMix64
    private var pieces: [(at: UnsafeMutableRawPointer, count: Int, mark: UInt8)] = []
    /// Pieces in use by rounded size, now and at most; pages of runs, now and at most; the longest run.
    private var used: [Int: Int] = [:]
    private var peaks: [Int: Int] = [:]
    private var runPages = 0
    private var peakPages = 0
    private var longest = 1
    private(set) var complaint: String?

    init(_ seed: UInt64) {
        memory = UnsafeMutableRawPointer.allocate(byteCount: Self.count, alignment: 4096)
        heap = Heap(UInt(bitPattern: memory), UInt(bitPattern: memory) + UInt(Self.count))
        random = SplitMix64(seed: seed)
    }

    mutating func run() {
        defer { memory.deallocate() }
        for _ in 0..<8 {
            // Up and down, since what is left in between is what makes holes.
            let wanted = random.below(3000)
            for _ in 0..<2000 {
                if pieces.count < wanted ? random.chance(70) : random.chance(30) { take() } else { give() }
            }
            check()
            if complaint != nil { return }
        }
        while !pieces.isEmpty { give() }
        check()
        let use = heap.examine()
        if use.cut.values.contains(where: { $0 > 1 }) { complaint = "empty pages of pieces are kept" }
        if heap.freePages < heap.pageCount - 22 || use.freeRuns > 23 { complaint = "not all came back" }
    }

    private static func rounded(_ count: Int) -> Int? {
        pieceSizes.indices.map { Int(pieceSizes[$0]) }.first { $0 >= count }
    }

    private mutating func take() {
        let count = random.chance(85) ? 1 + random.below(600) : 1 + random.below(40_000)
        guard let at = heap.allocate(count, alignment: 16) else { return }
        let mark = UInt8(truncatingIfNeeded: random.next())
        at.initializeMemory(as: UInt8.self, repeating: mark, count: count)
        pieces.append((at, count, mark))
        if let size = Self.rounded(count) {
            used[size, default: 0] += 1
            peaks[size] = max(peaks[size] ?? 0, used[size] ?? 0)
        } else {
            let pages = (count + 4095) / 4096
            runPages += pages
            longest = max(longest, pages)
        }
        let cut = used.reduce(0) { $0 + ($1.value + 4096 / $1.key - 1) / (4096 / $1.key) }
        peakPages = max(peakPages, runPages + cut)
    }

    private mutating func give() {
        if pieces.isEmpty { return }
        let index = random.below(pieces.count)
        let piece = pieces[index]
        pieces[index] = pieces[pieces.count - 1]
        pieces.removeLast()
        for offset in 0..<piece.count
        where piece.at.load(fromByteOffset: offset, as: UInt8.self) != piece.mark {
            complaint = "a piece of \(piece.count) bytes has changed"
            return
        }
        heap.release(piece.at)
        if let size = Self.rounded(piece.count) {
            used[size, default: 0] -= 1
        } else {
            runPages -= (piece.count + 4095) / 4096
        }
    }

    private mutating func check() {
        let use = heap.examine()
        if let mistake = use.mistake { complaint = "\(mistake)" }
        var cutMax = 0
        for (size, peak) in peaks {
            let bound = (peak + 4096 / size - 1) / (4096 / size)
            cutMax += bound
            if use.cut[size] ?? 0 > bound {
                complaint = "\(use.cut[size] ?? 0) pages of \(size) bytes, of \(bound)"
            }
        }
        // Cut pages stay while one piece is used: they count with their highest number.
        let bound = (peakPages + cutMax) * (1 + Int.bitWidth - longest.leadingZeroBitCount)
        if use.end > bound { complaint = "page \(use.end) is used, beyond \(bound)" }
    }
}
