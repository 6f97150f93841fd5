// Names, values, tokens and permission lists: byte strings of up to 8 KiB, addressed by a number.
//
// One of the module's three files with unsafe pointers. A blob's number is `page << 11 | offset in units of 8
// bytes`; 0 means "no bytes". Pages are 16 KiB and serve one size at a time; a page of which nothing is used
// serves any size again, and its memory goes back to the system if an eighth of all pages, and eight more,
// are empty already. What is wasted: by rounding to a size, at most an eighth over 64 bytes; at a page's
// end, less than one piece; one page a size that is not full yet; and what has been freed in pages of which
// something is still used, so never more than was used at once.

/// The number of a byte string in a `ByteStore`. Its length is kept by whoever keeps the number.
typealias Blob = UInt32

/// The sizes in which blobs are cut: every 8 bytes to 64, then eight steps to each doubling, to 8192.
private enum SizeClass {
    @inline(__always) static func index(_ count: Int) -> Int {
        if count <= 64 { return (count + 7) / 8 - 1 }
        let shift = Int.bitWidth - (count - 1).leadingZeroBitCount - 4
        return 8 + (shift - 3) * 8 + ((count - 1) >> shift) - 8
    }

    @inline(__always) static func size(_ index: Int) -> Int {
        if index < 8 { return (index + 1) * 8 }
        let shift = (index - 8) / 8 + 3
        return ((index - 8) % 8 + 9) << shift
    }

    static let number = 8 + 7 * 8
}

/// Storage for byte strings.
struct ByteStore {
    private struct Page: BitwiseCopyable {
        var start: UnsafeMutableRawPointer
        /// Neighbours in the list of pages of this size that have room, or in the list of empty pages.
        var next: UInt32 = 0
        var previous: UInt32 = 0
        var sizeClass: UInt8 = 0
        /// First free piece of the page, as a unit number + 1, linked through the pieces' first two bytes; 0:
        /// none.
        var firstFree: UInt16 = 0
        /// Units from here on have never been handed out since the page got its size.
        var fresh: UInt16 = 0
        var used: UInt16 = 0
    }

    private struct Root {
        /// First page with room, by size.
        var open: UnsafeMutablePointer<UInt32>
        var empty: UInt32 = 0
        var emptyCount = 0
        /// The first page that has no memory at present, linked through `next`.
        var absent: UInt32 = 0
        var absentCount = 0
        var bytes = 0
    }

    private static var pageBytes: Int { 16384 }
    /// In place of a size: the page has no memory, and `start` means nothing.
    private static var absentClass: UInt8 { 255 }
    /// Empty pages that are always kept.
    private static var keptCount: Int { 8 }
    private let pages: Arena<Page>
    private let root: UnsafeMutablePointer<Root>

    init() {
        pages = Arena()
        let open = UnsafeMutablePointer<UInt32>.allocate(capacity: SizeClass.number)
        open.initialize(repeating: 0, count: SizeClass.number)
        root = .allocate(capacity: 1)
        root.initialize(to: Root(open: open))
    }

    func destroy() {
        // Pages are never removed from the arena, so their numbers are 1...count.
        if pages.count > 0 {
            for page in 1...UInt32(pages.count) where pages[page].sizeClass != Self.absentClass {
                pages[page].start.deallocate()
            }
        }
        pages.destroy()
        root.pointee.open.deallocate()
        root.deallocate()
    }

    /// The bytes that its pages occupy.
    var memory: Int { presentCount * Self.pageBytes }
    private var presentCount: Int { pages.count - root.pointee.absentCount }
    /// Bytes of its pages of which nothing is used.
    var spare: Int { root.pointee.emptyCount * Self.pageBytes }
    /// The bytes that are handed out, rounding included.
    var used: Int { root.pointee.bytes }

    @inline(__always) private func pointer(_ blob: Blob) -> UnsafeMutableRawPointer {
        pages[blob >> 11].start + Int(blob & 2047) * 8
    }

    /// The first `count` bytes of a blob.
    @inline(__always) func bytes(_ blob: Blob, _ count: Int) -> Bytes {
        if count == 0 { return .empty }
        return Bytes(start: UnsafePointer(pointer(blob).assumingMemoryBound(to: UInt8.self)), count: count)
    }

    /// Stores a copy of `bytes`; 0 for none.
    @inline(__always) func insert(_ bytes: Bytes) -> Blob {
        if bytes.isEmpty { return 0 }
        let blob = allocate(bytes.count)
        pointer(blob).copyMemory(from: bytes.start, byteCount: bytes.count)
        return blob
    }

    /// Replaces a blob of `count` bytes by a copy of `bytes`, in its place where that fits.
    @inline(__always) func replace(_ blob: Blob, _ count: Int, with bytes: Bytes) -> Blob {
        if blob != 0 && !bytes.isEmpty && SizeClass.index(count) == SizeClass.index(bytes.count) {
            pointer(blob).copyMemory(from: bytes.start, byteCount: bytes.count)
            return blob
        }
        // `bytes` may not be the blob itself, so the order does not matter.
        remove(blob, count)
        return insert(bytes)
    }

    private func allocate(_ count: Int) -> Blob {
        precondition(count <= 8192)
        let sizeClass = SizeClass.index(count)
        let units = SizeClass.size(sizeClass) / 8
        var page = root.pointee.open[sizeClass]
        if page == 0 {
            page = root.pointee.empty
            if page != 0 {
                root.pointee.empty = pages[page].next
                root.pointee.emptyCount -= 1
            } else {
                page = addPage()
            }
            let start = pages[page].start
            pages[page] = Page(start: start, sizeClass: UInt8(sizeClass))
            push(page, sizeClass)
        }
        root.pointee.bytes += units * 8
        pages[page].used += 1
        let unit: Int
        if pages[page].firstFree != 0 {
            unit = Int(pages[page].firstFree) - 1
            pages[page].firstFree = (pages[page].start + unit * 8).load(as: UInt16.self)
        } else {
            unit = Int(pages[page].fresh)
            pages[page].fresh += UInt16(units)
        }
        if isFull(page, units) { unlink(page, sizeClass) }
        return page << 11 | UInt32(unit)
    }

    /// A page with memory, that is in no list.
    private func addPage() -> UInt32 {
        let fresh = Page(start: .allocate(byteCount: Self.pageBytes, alignment: 16))
        let page = root.pointee.absent
        if page == 0 {
            let page = pages.insert(fresh)
            precondition(page < 1 << 21)
            return page
        }
        root.pointee.absent = pages[page].next
        root.pointee.absentCount -= 1
        pages[page] = fresh
        return page
    }

    /// Keeps a page of which nothing is used, or gives its memory back.
    private func retire(_ page: UInt32) {
        if root.pointee.emptyCount < Self.keptCount + presentCount / 8 {
            pages[page].next = root.pointee.empty
            root.pointee.empty = page
            root.pointee.emptyCount += 1
            return
        }
        pages[page].start.deallocate()
        pages[page].sizeClass = Self.absentClass
        pages[page].next = root.pointee.absent
        root.pointee.absent = page
        root.pointee.absentCount += 1
    }

    /// Gives back a blob of `count` bytes; nothing for blob 0.
    func remove(_ blob: Blob, _ count: Int) {
        if blob == 0 { return }
        let sizeClass = SizeClass.index(count)
        let units = SizeClass.size(sizeClass) / 8
        let page = blob >> 11
        let wasFull = isFull(page, units)
        root.pointee.bytes -= units * 8
        pages[page].used -= 1
        pointer(blob).storeBytes(of: pages[page].firstFree, as: UInt16.self)
        pages[page].firstFree = UInt16(blob & 2047) + 1
        if wasFull { push(page, sizeClass) }
        if pages[page].used == 0 {
            unlink(page, sizeClass)
            retire(page)
        }
    }

    @inline(__always) private func isFull(_ page: UInt32, _ units: Int) -> Bool {
        pages[page].firstFree == 0 && Int(pages[page].fresh) + units > Self.pageBytes / 8
    }

    private func push(_ page: UInt32, _ sizeClass: Int) {
        let first = root.pointee.open[sizeClass]
        pages[page].next = first
        pages[page].previous = 0
        if first != 0 { pages[first].previous = page }
        root.pointee.open[sizeClass] = page
    }

    private func unlink(_ page: UInt32, _ sizeClass: Int) {
        let next = pages[page].next
        let previous = pages[page].previous
        if next != 0 { pages[next].previous = previous }
        if previous != 0 { pages[previous].next = next } else { root.pointee.open[sizeClass] = next }
    }
}
