// The log that batches go to, and what the loop's thread and the disk's threads tell each other about it.
//
// Invariants, with `gate` held:
// - `log` holds every batch up to `last`.
// - While there is a `twin`, it holds what is left of every batch up to `last` too, and every batch goes to
//   both, or to neither. So either may be the one that the file's name leads to, at any instant.
// - The twin may be given up while `isNaming` is false, and not afterwards.
// - `synced <= last`: what the disk has.

import XenStoreLog
import XenStorePlugin

final class StoreLog: @unchecked Sendable {
    let settings: Settings
    let host: PluginHost
    let gate = Gate()

    // With the gate held, which is why no check at run time is needed that nobody else is at them.
    @exclusivity(unchecked) var log: RecordLog
    @exclusivity(unchecked) var twin: RecordLog?
    @exclusivity(unchecked) var isNaming = false
    @exclusivity(unchecked) var last: UInt64 = 0
    @exclusivity(unchecked) var synced: UInt64 = 0
    /// Bytes of frames at which the log is to be compacted, and what the last compaction has left.
    @exclusivity(unchecked) var threshold = 0
    var base = 0
    @exclusivity(unchecked) var isCompacting = false
    var compactions = 0
    /// The disk has no more than what is allocated already.
    @exclusivity(unchecked) var isFull = false
    @exclusivity(unchecked) var isRoomWanted = false
    /// Bytes that the last batch which was refused would have taken.
    var refused = 0
    /// How many bytes of frames there could be in the log, by what the disk had left when last asked.
    @exclusivity(unchecked) var countMax = 0
    var isStopping = false
    /// Why nothing can be committed any more.
    @exclusivity(unchecked) var broken: PluginFailure?

    /// Bytes that are kept allocated ahead, beyond the reserve.
    static var ahead: Int { 4 << 20 }

    init(_ log: RecordLog, _ settings: Settings, _ host: PluginHost) {
        self.log = log
        self.settings = settings
        self.host = host
    }

    // MARK: The loop's thread

    /// Appends a batch to the log, and to the twin, and wakes the threads that have something to do.
    @inline(__always)
    func commit(_ sequence: UInt64, _ records: UnsafeRawBufferPointer) throws(PluginFailure) {
        var needsRoom = false
        var needsCompaction = false
        try gate.with { () throws(PluginFailure) in
            guard sequence > last, broken == nil else { throw refusal(sequence) }
            do throws(LogFailure) {
                if twin != nil { try appendToTwin(sequence, records) }
                try log.append(sequence, records)
            } catch {
                throw refusal(error, records.count)
            }
            last = sequence
            let fill = log.fill
            needsRoom = fill.room < settings.reserve + Self.ahead / 4 * 3 && !isRoomWanted && !isFull
            if needsRoom { isRoomWanted = true }
            needsCompaction = fill.count >= threshold && !isCompacting
            if needsCompaction { isCompacting = true }
        }
        if needsRoom { gate.wake(.room) }
        if needsCompaction { gate.wake(.compaction) }
        if settings.sync == .always { gate.wake(.sync) }
    }

    /// The twin first, and with room made sure of in both: then neither can refuse what the other has taken.
    private func appendToTwin(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(LogFailure) {
        guard let twin else { return }
        do throws(LogFailure) {
            if log.room < records.count { try log.prepare(records.count) }
            if twin.room < records.count { try twin.prepare(records.count) }
            try twin.append(sequence, records)
        } catch {
            if isNaming { throw error }
            self.twin = nil
        }
    }

    private func refusal(_ sequence: UInt64) -> PluginFailure {
        broken ?? PluginFailure("\(settings.path): batch \(sequence) comes after batch \(last)")
    }

    private func refusal(_ error: LogFailure, _ count: Int) -> PluginFailure {
        if error.isFull {
            isFull = true
            refused = count
            gate.wake(.room)
        }
        return PluginFailure(error.description, errno: error.code)
    }

    /// See `StoreBackend.room`.
    var room: Int {
        gate.with {
            let own = log.room
            let all = isFull ? own : max(own, countMax - log.count)
            return max(0, all - settings.reserve)
        }
    }

    // MARK: Any thread

    /// Makes what is committed proof against the death of the host. Returns the newest batch that is.
    func sync() throws(LogFailure) -> UInt64 {
        let (log, twin, last) = gate.with { (self.log, self.twin, self.last) }
        try log.sync()
        if let twin { try twin.sync() }
        gate.with { synced = max(synced, last) }
        return last
    }

    func stop() {
        gate.with { isStopping = true }
        for side in Gate.Side.allCases { gate.wake(side) }
    }
}
