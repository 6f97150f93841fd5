// The shared page under any calls and any writes of a guest: the entry of its fuzz target and of a test.

import XenStoreRing

/// Bytes as a program: calls of both sides on one page, and writes of a guest to any word or byte of it.
///
/// Promised for all bytes: each call moves, answers and leaves behind, over the whole page, what the
/// reference page does. Traps on the first difference.
public func fuzzRing(_ bytes: UnsafeBufferPointer<UInt8>) {
    var choices = ByteChoices([UInt8](bytes))
    // Of the page's very size, so that the address sanitizer sees a step beside it.
    let page = UnsafeMutableRawBufferPointer.allocate(byteCount: RingPage.byteCount, alignment: 4096)
    defer { page.deallocate() }
    page.initializeMemory(as: UInt8.self, repeating: 0)
    var program = RingProgram(page)
    while !choices.isEmpty { program.step(&choices) }
}

/// A page, the reference for it, and what one step does to both.
private struct RingProgram {
    private let memory: UnsafeMutableRawBufferPointer
    private let page: RingPage
    private var reference: ReferencePage

    init(_ memory: UnsafeMutableRawBufferPointer) {
        self.memory = memory
        page = RingPage(memory.baseAddress!)
        reference = ReferencePage(bytes: [UInt8](memory))
    }

    mutating func step(_ choices: inout ByteChoices) {
        switch choices.below(10) {
        case 0, 1: take(isRequest: true, limit: choices.below(2100))
        case 2, 3: take(isRequest: false, limit: choices.below(2100))
        case 4: put(isRequest: true, Self.bytes(&choices))
        case 5: put(isRequest: false, Self.bytes(&choices))
        case 6: overwriteIndex(&choices)
        case 7: overwriteByte(&choices)
        case 8: words(&choices)
        default: count()
        }
        precondition(reference.bytes.elementsEqual(memory), "the page is not as it should be")
    }

    private mutating func take(isRequest: Bool, limit: Int) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: limit, alignment: 1)
        defer { buffer.deallocate() }
        let outcome = isRequest ? page.receive(into: buffer) : page.receiveResponse(into: buffer)
        let expected =
            isRequest
            ? reference.take(
                from: ReferencePage.requestBytes, consumer: ReferencePage.requestConsumer,
                producer: ReferencePage.requestProducer, limit: limit)
            : reference.take(
                from: ReferencePage.responseBytes, consumer: ReferencePage.responseConsumer,
                producer: ReferencePage.responseProducer, limit: limit)
        precondition(outcome == Self.outcome(expected?.count), "a wrong outcome of taking")
        if let expected {
            precondition(expected.elementsEqual(buffer.prefix(expected.count)), "wrong bytes were taken")
        }
    }

    private mutating func put(isRequest: Bool, _ offered: [UInt8]) {
        let outcome = isRequest ? page.sendRequest(offered.span) : page.send(offered.span)
        let expected =
            isRequest
            ? reference.put(
                offered, into: ReferencePage.requestBytes, consumer: ReferencePage.requestConsumer,
                producer: ReferencePage.requestProducer)
            : reference.put(
                offered, into: ReferencePage.responseBytes, consumer: ReferencePage.responseConsumer,
                producer: ReferencePage.responseProducer)
        precondition(outcome == Self.outcome(expected), "a wrong outcome of putting")
    }

    private func count() {
        let expected = reference.waiting(
            consumer: ReferencePage.requestConsumer, producer: ReferencePage.requestProducer)
        precondition(page.requestCount == Self.outcome(expected), "a wrong count")
    }

    /// Any number for any index, and often one that is near another.
    private mutating func overwriteIndex(_ choices: inout ByteChoices) {
        let target = ReferencePage.requestConsumer + 4 * choices.below(4)
        let other = reference[word: ReferencePage.requestConsumer + 4 * choices.below(4)]
        let distance = UInt32(choices.below(2100))
        switch choices.below(4) {
        case 0: reference[word: target] = other &+ distance
        case 1: reference[word: target] = other &- distance
        case 2: reference[word: target] = 0 &- distance
        default: reference[word: target] = UInt32(choices.below(65536)) << 16 | distance
        }
        memory.storeBytes(of: reference[word: target], toByteOffset: target, as: UInt32.self)
    }

    private mutating func overwriteByte(_ choices: inout ByteChoices) {
        let at = choices.below(RingPage.byteCount)
        reference.bytes[at] = choices.byte()
        memory[at] = reference.bytes[at]
    }

    private mutating func words(_ choices: inout ByteChoices) {
        let value = UInt32(choices.below(65536))
        switch value % 8 {
        case 0:
            page.reset()
            for index in 0..<4 { reference[word: ReferencePage.requestConsumer + 4 * index] = 0 }
            reference[word: ReferencePage.error] = 0
        case 1:
            page.requestReconnection()
            reference[word: ReferencePage.connection] = 1
        case 2:
            page.confirmConnection()
            reference[word: ReferencePage.connection] = 0
        case 3:
            page.setFeatures(value)
            reference[word: ReferencePage.features] = value
        case 4:
            page.setError(.badIndex)
            reference[word: ReferencePage.error] = 2
        case 5:
            page.setEventChannelPort(value)
            reference[word: ReferencePage.eventChannelPort] = value
        default: break
        }
        precondition(page.isReconnectRequested == (reference[word: ReferencePage.connection] == 1))
        precondition(page.features == reference[word: ReferencePage.features])
        precondition(page.error == reference[word: ReferencePage.error])
        precondition(page.eventChannelPort == reference[word: ReferencePage.eventChannelPort])
    }

    private static func bytes(_ choices: inout ByteChoices) -> [UInt8] {
        let count = choices.below(2100)
        let first = choices.byte()
        return (0..<count).map { first &+ UInt8(truncatingIfNeeded: $0 &* 7) }
    }

    private static func outcome(_ count: Int?) -> RingPage.Outcome { count.map { .moved($0) } ?? .badIndex }
}
