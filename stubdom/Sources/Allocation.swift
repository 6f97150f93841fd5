// The heap: all memory that is not the image, in pages of 4096 bytes.
//
// Small pieces, up to 2048 bytes, come from pages that are cut into pieces of one size; larger ones are runs
// of whole pages, the lowest that is long enough. A free run's neighbours are never free.
//
// What is wasted is bounded:
// - By rounding: at most a third of a piece (of one of over 32 bytes), and less than a page of a run.
// - By free pieces: a page is cut only when no other of its size has room. So there are never more pages of a
//   size than its pieces would fill at the highest number that was ever used at once, and one that is empty
//   goes back, unless it is the only one that has room: 22 such pages at most.
// - By free runs: the lowest place for each keeps all runs, of n pages at most and never more than M pages in
//   use at once, within some M * log2(n) pages (Robson, 1977); what is in use does not move. The core
//   asks for the longest run (`largest`), not only for what is free, before it lets anybody have more.
// - When everything is given back: those 22 pages, and the free runs between them.
//
// Invariants:
// - Each page has a record. The first and the last page of a run, used or free, have its length.
// - A page of pieces is in the list of its size exactly while it has room.
// - Pages below `lowest` are used.
//
// The memory is one to one with the machine's. Nothing here allocates, and nothing is called from an
// interrupt.

import CMachine

/// What is known of a page, 16 bytes.
struct PageRecord: BitwiseCopyable {
    enum State: UInt8, BitwiseCopyable {
        /// Within a run, where nobody looks.
        case inner
        case free
        case used
        /// Cut into pieces.
        case pieces
    }

    /// Pages of the run; of a page of pieces: the page before it in its list.
    var link: UInt32 = 0
    var state = State.inner
    var sizeClass: UInt8 = 0
    /// Pieces that are used.
    var used: UInt16 = 0
    /// The first piece that was freed, as its number + 1, linked through the pieces' first two bytes; 0:
    /// none.
    var firstFree: UInt16 = 0
    /// Pieces from here on have never been used.
    var fresh: UInt16 = 0
    /// The page behind it in its list, as its number + 1; 0: none.
    var next: UInt32 = 0
}

/// Sizes of pieces in bytes, all multiples of 16: of each, as many as a page holds.
let pieceSizes: InlineArray<22, UInt16> = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 304, 368, 448, 512, 576, 672, 816, 1024, 1360, 2048,
]

struct Heap {
    static var pageSize: Int { 4096 }
    /// The largest piece; what is larger is a run.
    static var pieceMax: Int { 2048 }

    private let records: UnsafeMutablePointer<PageRecord>
    /// The first page of each size that has room, as its number + 1; 0: none.
    private let open: UnsafeMutablePointer<UInt32>
    /// The class of each multiple of 16 bytes.
    private let classes: UnsafeMutablePointer<UInt8>
    private let start: UInt
    let pageCount: Int
    private(set) var freePages = 0
    private var lowest = 0
    /// Pages of the longest free run; nil: to be looked for.
    private var longest: Int?

    /// Takes over the memory from `start` to `end`, which is at least 64 KiB.
    init(_ start: UInt, _ end: UInt) {
        let first = (start + 4095) & ~4095
        let pages = Int(end - first) / Self.pageSize
        // The tables come first: classes, sizes, lists, records.
        let tables = UnsafeMutableRawPointer(bitPattern: first)!  // The image lies below it.
        classes = tables.assumingMemoryBound(to: UInt8.self)
        open = (tables + 256).assumingMemoryBound(to: UInt32.self)
        records = (tables + 512).assumingMemoryBound(to: PageRecord.self)
        let taken = (512 + pages * MemoryLayout<PageRecord>.stride + 4095) / Self.pageSize
        self.start = first + UInt(taken * Self.pageSize)
        pageCount = pages - taken
        fillTables()
        for page in 0..<pageCount { records[page] = PageRecord() }
        mark(0, pageCount, .free)
        freePages = pageCount
    }

    private func fillTables() {
        var sixteens = 0
        for number in pieceSizes.indices {
            open[number] = 0
            while sixteens * 16 <= Int(pieceSizes[number]) {
                classes[sixteens] = UInt8(number)
                sixteens += 1
            }
        }
    }

    /// Bytes that are free in whole pages.
    var free: Int { freePages * Self.pageSize }
    var total: Int { pageCount * Self.pageSize }

    /// What a test checks.
    struct Use {
        /// Pages that are cut into pieces, by size in bytes.
        var cut: [Int: Int] = [:]
        var freeRuns = 0
        /// The end of the highest page that is used.
        var end = 0
        /// What is wrong with the records; nil: nothing.
        var mistake: StaticString?
    }

    /// Walks all pages.
    func examine() -> Use {
        var use = Use()
        var page = 0
        var (isAfterFree, free) = (false, 0)
        while page < pageCount {
            let record = records[page]
            let count = length(page)
            switch record.state {
            case .inner: use.mistake = "a run begins within another"
            case .free:
                if isAfterFree { use.mistake = "two free runs are neighbours" }
                if records[page + count - 1].link != record.link { use.mistake = "a run's ends differ" }
                use.freeRuns += 1
                free += count
            case .used: use.end = page + count
            case .pieces:
                use.cut[Int(pieceSizes[Int(record.sizeClass)]), default: 0] += 1
                use.end = page + 1
            }
            if use.mistake != nil || count < 1 { break }
            if record.state == .free && page < lowest { use.mistake = "a free page is below the lowest" }
            isAfterFree = record.state == .free
            page += count
        }
        if use.mistake == nil && free != freePages { use.mistake = "the number of free pages is wrong" }
        return use
    }

    /// Bytes of the largest piece that there is room for.
    mutating func largest() -> Int {
        if let longest { return longest * Self.pageSize }
        var found = 0
        var page = lowest
        while page < pageCount {
            let length = length(page)
            if records[page].state == .free && length > found { found = length }
            page += length
        }
        longest = found
        return found * Self.pageSize
    }

    // MARK: Runs

    private func length(_ page: Int) -> Int {
        records[page].state == .pieces ? 1 : Int(records[page].link)
    }

    private func mark(_ page: Int, _ count: Int, _ state: PageRecord.State) {
        records[page].state = state
        records[page].link = UInt32(count)
        if count > 1 {
            records[page + count - 1].state = state
            records[page + count - 1].link = UInt32(count)
        }
    }

    /// The first of `count` pages; nil: there are not so many together.
    private mutating func takeRun(_ count: Int) -> Int? {
        var page = lowest
        var isFirst = true
        while page < pageCount {
            let length = length(page)
            if records[page].state == .free {
                if isFirst { lowest = page }
                isFirst = false
                if length >= count { break }
            }
            page += length
        }
        if page >= pageCount { return nil }
        let rest = Int(records[page].link) - count
        mark(page, count, .used)
        if rest > 0 { mark(page + count, rest, .free) }
        if page == lowest { lowest = page + count }
        freePages -= count
        longest = nil
        return page
    }

    private mutating func giveRun(_ page: Int, _ count: Int) {
        var first = page
        var length = count
        let next = page + count
        if next < pageCount && records[next].state == .free { length += Int(records[next].link) }
        if page > 0 && records[page - 1].state == .free {
            first -= Int(records[page - 1].link)
            length += page - first
        }
        mark(first, length, .free)
        lowest = min(lowest, first)
        freePages += count
        longest = nil
    }

    // MARK: Pieces

    private func address(_ page: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(bitPattern: start + UInt(page * Self.pageSize))!  // The image lies below it.
    }

    private func push(_ page: Int, _ sizeClass: Int) {
        let first = open[sizeClass]
        records[page].link = 0
        records[page].next = first
        if first != 0 { records[Int(first) - 1].link = UInt32(page + 1) }
        open[sizeClass] = UInt32(page + 1)
    }

    private func unlink(_ page: Int, _ sizeClass: Int) {
        let (previous, next) = (records[page].link, records[page].next)
        if next != 0 { records[Int(next) - 1].link = previous }
        if previous != 0 { records[Int(previous) - 1].next = next } else { open[sizeClass] = next }
    }

    private func isFull(_ page: Int, _ size: Int) -> Bool {
        records[page].firstFree == 0 && (Int(records[page].fresh) + 1) * size > Self.pageSize
    }

    private mutating func takePiece(_ sizeClass: Int) -> UnsafeMutableRawPointer? {
        let size = Int(pieceSizes[sizeClass])
        if open[sizeClass] == 0 {
            guard let page = takeRun(1) else { return nil }
            records[page] = PageRecord(state: .pieces, sizeClass: UInt8(sizeClass))
            push(page, sizeClass)
        }
        let page = Int(open[sizeClass]) - 1
        let number: Int
        if records[page].firstFree != 0 {
            number = Int(records[page].firstFree) - 1
            records[page].firstFree = (address(page) + number * size).load(as: UInt16.self)
        } else {
            number = Int(records[page].fresh)
            records[page].fresh += 1
        }
        records[page].used += 1
        if isFull(page, size) { unlink(page, sizeClass) }
        return address(page) + number * size
    }

    private mutating func givePiece(_ page: Int, _ piece: UnsafeMutableRawPointer) {
        let sizeClass = Int(records[page].sizeClass)
        let size = Int(pieceSizes[sizeClass])
        let wasFull = isFull(page, size)
        let number = (piece - address(page)) / size
        piece.storeBytes(of: records[page].firstFree, as: UInt16.self)
        records[page].firstFree = UInt16(number + 1)
        records[page].used -= 1
        if wasFull { push(page, sizeClass) }
        let isOnly = open[sizeClass] == UInt32(page + 1) && records[page].next == 0
        if records[page].used == 0 && !isOnly {
            unlink(page, sizeClass)
            records[page].state = .used
            giveRun(page, 1)
        }
    }

    // MARK: Allocating

    /// Nil: there is no room.
    mutating func allocate(_ count: Int, alignment: Int) -> UnsafeMutableRawPointer? {
        if count > Self.pieceMax || alignment > 16 {
            if alignment > Self.pageSize { return nil }
            return takeRun(max((count + 4095) / Self.pageSize, 1)).map(address)
        }
        return takePiece(Int(classes[(count + 15) / 16]))
    }

    /// Takes back what `allocate` has given.
    mutating func release(_ piece: UnsafeMutableRawPointer) {
        let page = Int(UInt(bitPattern: piece) - start) / Self.pageSize
        if records[page].state == .pieces {
            givePiece(page, piece)
        } else {
            giveRun(page, Int(records[page].link))
        }
    }
}

/// The one heap; nil until the memory is known.
nonisolated(unsafe) var heap: Heap?
