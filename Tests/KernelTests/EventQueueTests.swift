// Is each event handed over, whatever Xen does between two accesses of ours to the memory that we share?
// XENSTORE_SEEDS=1000 plays more.

import CMachine
import Foundation
import Testing
import XenStoreTestKit

@testable import StubKernel

extension KernelTests {
    @Suite struct EventQueueTests {
        static let seeds = UInt64(ProcessInfo.processInfo.environment["XENSTORE_SEEDS"] ?? "") ?? 100

        @Test func noEventIsLostOrComesMasked() throws {
            for seed in 0..<Self.seeds {
                let play = QueuePlay(seed)
                play.run()
                if let complaint = play.complaint {
                    Issue.record("seed \(seed): \(complaint)")
                    return
                }
            }
        }

        /// Two peers that signal without pause keep their queue from ever being empty: it is left, and gone
        /// on with later.
        @Test func aStormIsBounded() {
            let play = QueuePlay(1)
            for port in [5, 6] as [UInt32] {
                play.xen.priorities[port] = 7
                play.xen.unmask(port)
                play.xen.signal(port)
                play.xen.finish()
            }
            var taken = 0
            play.queues.take { port in
                taken += 1
                play.xen.signal(port)
                play.xen.finish()
            }
            #expect(taken == play.queues.portCount)
            #expect(play.queues.hasMore)
            var rest: Set<UInt32> = []
            play.queues.take { rest.insert($0) }
            #expect(rest == [5, 6])
            #expect(!play.queues.hasMore)
        }

        /// Heads and links that are no ports lead nowhere.
        @Test func nonsenseIsSurvived() {
            let play = QueuePlay(2)
            play.xen.control.storeBytes(of: 0xFFFF_FFFF, as: UInt32.self)
            for queue in 0..<16 {
                play.xen.control.storeBytes(
                    of: UInt32(queue) * 999_999, toByteOffset: 8 + 4 * queue, as: UInt32.self)
            }
            play.queues.take { _ in Issue.record("there is no event") }
            #expect(!play.queues.hasMore)
        }
    }
}

/// What Xen's step of the play at hand is; the machine has no place for more.
nonisolated(unsafe) private var current: QueuePlay?

/// Both sides, in an order that a seed decides.
final class QueuePlay {
    private static let portCount: UInt32 = 24

    let xen: QueueModel
    var queues: EventQueues
    private var random: SplitMix64
    private var isMasked = [Bool](repeating: true, count: Int(QueuePlay.portCount))
    private var handedOver: [UInt32: Int] = [:]
    private(set) var complaint: String?
    /// Xen has said that there is something, since the last look.
    private var isUp = false
    /// How eagerly Xen goes on, in percent.
    private let eagerness: Int

    init(_ seed: UInt64) {
        random = SplitMix64(seed: seed)
        eagerness = [10, 40, 80][Int(seed % 3)]
        let control = UnsafeMutableRawPointer.allocate(byteCount: EventQueues.controlCount, alignment: 8)
        control.initializeMemory(as: UInt8.self, repeating: 0, count: EventQueues.controlCount)
        xen = QueueModel(control: control)
        queues = EventQueues(control)
        let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        EventQueues.prepare(page)
        xen.add(page)
        queues.add(page)
        xen.upcall = { [unowned self] in isUp = true }
        // Few queues and many ports in each, or one of each.
        let spread = 1 + random.below(16)
        for port in 1..<Self.portCount { xen.priorities[port] = random.below(spread) }
    }

    deinit {
        xen.control.deallocate()
        for page in xen.pages { page.deallocate() }
    }

    func run() {
        current = self
        hosted_play(nil, { current?.goOn() }, nil)
        defer {
            hosted_play(nil, nil, nil)
            current = nil
        }
        for _ in 0..<300 where complaint == nil { turn() }
        // Nothing more happens: all that is raised must come.
        hosted_play(nil, nil, nil)
        xen.finish()
        for port in 1..<Self.portCount where isMasked[Int(port)] { unmask(port) }
        xen.finish()
        // Nobody looks who is not told to.
        while isUp || queues.hasMore { take() }
        if complaint == nil { complaint = remains() }
    }

    private func anyPort() -> UInt32 { 1 + UInt32(random.below(Int(Self.portCount) - 1)) }

    private func turn() {
        switch random.below(8) {
        case 0: mask(anyPort())
        case 1...2: unmask(anyPort())
        case 3: reuse(anyPort())
        case 4: goOn()
        default: take()
        }
    }

    /// Xen's turn, of any length, none too.
    private func goOn() {
        while random.chance(eagerness) {
            if xen.signals.isEmpty || random.chance(25) {
                xen.signal(anyPort())
            } else {
                let index = random.below(xen.signals.count)
                xen.step(xen.signals[index])
                xen.signals.removeAll { $0.state == .done }
            }
        }
    }

    private func take() {
        isUp = false
        queues.take { port in
            if port >= Self.portCount || self.isMasked[Int(port)] { self.complaint = "port \(port) comes" }
            self.handedOver[port, default: 0] += 1
        }
    }

    private func mask(_ port: UInt32) {
        queues.mask(port)
        isMasked[Int(port)] = true
    }

    private func unmask(_ port: UInt32) {
        isMasked[Int(port)] = false
        xen.unmask(port)
    }

    /// The port is closed, and another event channel gets its number.
    private func reuse(_ port: UInt32) {
        mask(port)
        xen.signals.removeAll { $0.port == port && $0.state == .raise }
        if xen.forget(port) { handedOver[port, default: 0] += 1 }
        unmask(port)
    }

    private func remains() -> String? {
        if xen.wasDisturbed { return "a word was changed while Xen did" }
        for port in 1..<Self.portCount {
            let word = xen.word(port).pointee
            if word != 0 { return "port \(port) is left with the word \(String(word, radix: 16))" }
            let (raised, came) = (xen.raised[port] ?? 0, handedOver[port] ?? 0)
            if raised != came { return "port \(port): \(raised) events were raised, \(came) came" }
        }
        return nil
    }
}
