// The fuzzers' functions, run on bytes of a seeded generator: a first sieve without a fuzzer.

import Testing
import XenStoreTestKit
import XenStoreTypes

@Test(arguments: UInt64(0)..<20) func rawBytes(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var bytes: [UInt8] = []
    for _ in 0..<300 {
        var message = Message(
            type: UInt32(random.below(28)), requestID: 1, transactionID: UInt32(random.below(3)),
            payload: Step.Request(from: &random).payload
        ).bytes
        if random.chance(20) { message[random.below(message.count)] = UInt8(random.below(256)) }
        if random.chance(20) { bytes += [5, UInt8(random.below(256))] }
        let slot = UInt8(random.below(5)) | (random.chance(50) ? 0x80 : 0)
        for start in stride(from: 0, to: message.count, by: 255) {
            let piece = message[start..<min(start + 255, message.count)]
            bytes += [slot, UInt8(piece.count)] + piece
        }
    }
    bytes.withUnsafeBufferPointer(fuzzMessages)
}

@Test(arguments: UInt64(0)..<20) func programs(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let bytes = (0..<3000).map { _ in UInt8(random.below(256)) }
    bytes.withUnsafeBufferPointer(fuzzRequests)
}

/// True records and frames with bytes flipped, cut off, left out and put in.
@Test(arguments: UInt64(0)..<20) func damagedStores(seed: UInt64) throws {
    let (records, frames) = try storeSeeds(seed)
    records.withUnsafeBufferPointer(fuzzRecords)
    frames.withUnsafeBufferPointer(fuzzSessions)
    var random = SplitMix64(seed: seed)
    for round in 0..<200 {
        let isRecords = round % 2 == 0
        var bytes = isRecords ? records : frames
        for _ in 0...random.below(8) {
            let place = random.below(bytes.count)
            switch random.below(5) {
            case 0: bytes.removeSubrange(place..<min(place + 1 + random.below(40), bytes.count))
            case 1: bytes.insert(contentsOf: bytes[..<random.below(bytes.count)], at: place)
            case 2: bytes.removeLast(random.below(bytes.count / 4))
            default: bytes[place] = UInt8(random.below(256))
            }
        }
        if isRecords {
            bytes.withUnsafeBufferPointer(fuzzRecords)
        } else {
            bytes.withUnsafeBufferPointer(fuzzSessions)
        }
    }
}

@Test(arguments: UInt64(0)..<200) func inventedStores(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let bytes = (0..<2000).map { _ in UInt8(random.chance(40) ? 0 : random.below(256)) }
    bytes.withUnsafeBufferPointer(fuzzRecords)
    bytes.withUnsafeBufferPointer(fuzzSessions)
}
