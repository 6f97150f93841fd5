// Does the shared page keep its promises, one call at a time?

import Testing
import XenStoreRing

/// Both directions, each with indexes from which a stream starts: plain ones, and ones that wrap around.
private let starts: [(Direction, UInt32)] = Direction.allCases.flatMap { direction in
    [0, 1, 1023, 1024, 1025, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FC00, 0xFFFF_FFFF].map { (direction, $0) }
}

@Suite struct LayoutTests {
    @Test func wordsStandWhereTheTableSays() {
        let page = SharedPage()
        page.ring.setFeatures(0x0102_0304)
        page.ring.requestReconnection()
        page.ring.setError(.protocol)
        page.ring.setEventChannelPort(77)
        #expect(page[word: 2064] == 0x0102_0304 && page.ring.features == 0x0102_0304)
        #expect(page[word: 2068] == 1 && page.ring.isReconnectRequested)
        #expect(page[word: 2072] == 3 && page.ring.error == 3)
        #expect(page[word: 2076] == 77 && page.ring.eventChannelPort == 77)
        page.ring.confirmConnection()
        #expect(page[word: 2068] == 0 && !page.ring.isReconnectRequested)
        #expect([RingError.none, .communication, .badIndex, .protocol].map(\.rawValue) == [0, 1, 2, 3])
        for offset in stride(from: 2064, to: 2080, by: 4) { page[word: offset] = 0 }
        #expect(page.memory.bytes.allSatisfy { $0 == 0 })
    }

    @Test(arguments: [0, 2, 0xFF, 0xFFFF_FFFF] as [UInt32])
    func onlyTheWordOneAsksForAReconnection(word: UInt32) {
        let page = SharedPage()
        page[word: 2068] = word
        #expect(!page.ring.isReconnectRequested)
    }

    @Test(arguments: Direction.allCases) func bytesAndIndexesStandWhereTheTableSays(direction: Direction) {
        let page = SharedPage()
        #expect(direction.put([0xA1, 0xA2, 0xA3], page.ring) == .moved(3))
        #expect(page.memory.bytes[direction.firstByte...].prefix(4).elementsEqual([0xA1, 0xA2, 0xA3, 0]))
        #expect(page[word: direction.producer] == 3 && page[word: direction.consumer] == 0)
        #expect(direction.take(2, page.ring) == [0xA1, 0xA2])
        #expect(page[word: direction.producer] == 3 && page[word: direction.consumer] == 2)
        for offset in [0, direction.firstByte, direction.consumer, direction.producer] {
            page[word: offset] = 0
        }
        #expect(page.memory.bytes.allSatisfy { $0 == 0 })
    }

    @Test func resetEmptiesBothRingsAndNothingElse() {
        let page = SharedPage()
        for offset in stride(from: 0, to: 4096, by: 4) { page[word: offset] = 0xDEAD_BEEF }
        page.ring.reset()
        for offset in stride(from: 0, to: 4096, by: 4) {
            let isReset = (2048..<2064).contains(offset) || offset == 2072
            #expect(page[word: offset] == (isReset ? 0 : 0xDEAD_BEEF), "offset \(offset)")
        }
    }
}

@Suite struct IndexTests {
    @Test(arguments: starts) func anEmptyRingGivesNothing(direction: Direction, start: UInt32) {
        let page = SharedPage()
        page.start(direction, at: start)
        #expect(direction.take(1024, page.ring) == [])
        #expect(page[word: direction.consumer] == start && page[word: direction.producer] == start)
    }

    /// Every length, from every start: what is put comes out, and the indexes run on modulo 2^32.
    @Test(arguments: starts) func anyCountFits(direction: Direction, start: UInt32) {
        let page = SharedPage()
        for count in 1...1024 {
            page.start(direction, at: start)
            let sent = stream(count, count)
            #expect(direction.put(sent, page.ring) == .moved(count))
            #expect(page[word: direction.producer] == start &+ UInt32(count))
            #expect(direction.take(4096, page.ring) == sent)
            #expect(page[word: direction.consumer] == start &+ UInt32(count))
        }
    }

    @Test(arguments: starts) func aFullRingIsLegal(direction: Direction, start: UInt32) {
        let page = SharedPage()
        page.start(direction, at: start)
        let sent = stream(0, 3000)
        #expect(direction.put(sent, page.ring) == .moved(1024))
        #expect(direction.put(sent, page.ring) == .moved(0))
        if direction == .request { #expect(page.ring.requestCount == .moved(1024)) }
        #expect(page[word: direction.producer] &- page[word: direction.consumer] == 1024)
        #expect(direction.take(1, page.ring) == [sent[0]])
        #expect(direction.put([0xEE, 0xEF], page.ring) == .moved(1))
        #expect(direction.take(2000, page.ring) == Array(sent[1..<1024]) + [0xEE])
    }

    /// Byte `i` stands at `i` modulo 1024, across the end of the ring and the wrap of the index.
    @Test(arguments: Direction.allCases) func theRingWrapsWhereTheIndexDoes(direction: Direction) {
        let page = SharedPage()
        page.start(direction, at: 0xFFFF_FFFE)
        #expect(direction.put([1, 2, 3, 4], page.ring) == .moved(4))
        #expect(page[word: direction.producer] == 2)
        let ring = page.memory.bytes[direction.firstByte..<(direction.firstByte + 1024)]
        #expect(ring.suffix(2).elementsEqual([1, 2]) && ring.prefix(2).elementsEqual([3, 4]))
        #expect(direction.take(3, page.ring) == [1, 2, 3])
        #expect(page[word: direction.consumer] == 1)
    }

    @Test(arguments: Direction.allCases) func noRoomAndNoBytesAreNoProgress(direction: Direction) {
        let page = SharedPage()
        #expect(direction.put([], page.ring) == .moved(0))
        #expect(direction.put([1], page.ring) == .moved(1))
        #expect(
            direction.take(into: UnsafeMutableRawBufferPointer(start: nil, count: 0), page.ring) == .moved(0))
        #expect(direction.take(1, page.ring) == [1])
    }

    @Test func waitingRequestsCanBeCountedWithoutTakingThem() {
        let page = SharedPage()
        #expect(page.ring.requestCount == .moved(0))
        page.start(.request, at: 0xFFFF_FFF0)
        #expect(page.ring.sendRequest(stream(0, 100).span) == .moved(100))
        #expect(page.ring.requestCount == .moved(100))
        #expect(Direction.request.take(40, page.ring) == stream(0, 40))
        #expect(page.ring.requestCount == .moved(60))
    }

    /// Distances that are no ring's: one too many, half the range, and backwards, from every start.
    @Test(arguments: starts) func badIndexesChangeNothing(direction: Direction, start: UInt32) {
        for distance in [1025, 2048, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FBFF, 0xFFFF_FFFF] as [UInt32] {
            let page = SharedPage()
            for offset in stride(from: 0, to: 4096, by: 4) { page[word: offset] = 0x5555_5555 }
            page.start(.request, at: 9)
            page.start(.response, at: 9)
            page[word: direction.consumer] = start
            page[word: direction.producer] = start &+ distance
            let before = [UInt8](page.memory.bytes)
            #expect(direction.take(4096, page.ring) == nil)
            #expect(direction.put([1, 2, 3], page.ring) == .badIndex)
            #expect(direction.put([], page.ring) == .badIndex)
            #expect(page.ring.requestCount == (direction == .request ? .badIndex : .moved(0)))
            #expect(page.memory.bytes.elementsEqual(before), "distance \(distance)")
            // The other ring does not suffer, and a reset mends this one.
            let other: Direction = direction == .request ? .response : .request
            #expect(other.put([1], page.ring) == .moved(1) && other.take(9, page.ring) == [1])
            page.ring.reset()
            #expect(direction.put([7], page.ring) == .moved(1) && direction.take(9, page.ring) == [7])
        }
    }

    /// Firmware leaves the page like new to the kernel that it starts, with no word to the daemon.
    @Test func aGuestMayStartOver() {
        let page = SharedPage()
        for direction in Direction.allCases {
            #expect(direction.put(stream(0, 700), page.ring) == .moved(700))
            #expect(direction.take(700, page.ring)?.count == 700)
        }
        page.memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
        for direction in Direction.allCases {
            #expect(direction.put([1, 2, 3], page.ring) == .moved(3))
            #expect(direction.take(10, page.ring) == [1, 2, 3])
        }
    }

    /// What a reader gets stays within its room, and the ring's other bytes are not in it.
    @Test(arguments: Direction.allCases) func aReaderTakesNoMoreThanItHasRoomFor(direction: Direction) {
        let page = SharedPage()
        page.start(direction, at: 1000)
        #expect(direction.put(stream(0, 600), page.ring) == .moved(600))
        let memory = GuardedMemory(count: 4096)
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 0xCC)
        let room = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[100..<300])
        #expect(direction.take(into: room, page.ring) == .moved(200))
        #expect(room.elementsEqual(stream(0, 200)))
        #expect(
            memory.bytes[..<100].allSatisfy { $0 == 0xCC } && memory.bytes[300...].allSatisfy { $0 == 0xCC })
    }
}
