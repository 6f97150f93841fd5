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
