// Compaction: a log of the newest records only takes the place of one that has grown.
//
// The thread reads what stands in the log and does not change any more, writes the newest record of each key
// to a successor, and copies what has been appended meanwhile until little is missing. Only that little is
// copied with the gate held; from then on every batch goes to both files (the twin), while the successor is
// synced and takes the name. The loop never waits for the disk, and no instant has a name that leads to less
// than what was acknowledged:
//
//     log   |== prefix ==|== appended meanwhile ==|-- both --|
//     twin                |= newest =|= copied  ==|-- both --|---- the log now ---->
//                                                 gate       name
//
// What fails before the name moves leaves the log as it was.

import Glibc
import XenStoreLog
import XenStorePlugin

extension StoreLog {
    /// Bytes of records in one frame of the successor.
    private static var frameSize: Int { 1 << 18 }
    /// Bytes written between two syncs, so that no writer is held up for the sake of all that is dirty.
    private static var syncEvery: Int { 8 << 20 }
    /// Bytes of frames that may be copied with the gate held.
    private static var catchUp: Int { 1 << 16 }

    /// The body of the thread that compacts.
    func keepCompact() {
        while waitForCompaction() {
            do throws(LogFailure) {
                try compact()
            } catch {
                guard !gate.with({ isStopping }) else { return }
                host.log(.warning, "append-log: not compacted: \(error)")
                // A little more, before it is tried again.
                gate.with { threshold = max(log.count + max(log.count / 16, Self.frameSize), threshold) }
            }
            gate.with { isCompacting = false }
        }
    }

    private func waitForCompaction() -> Bool {
        gate.with {
            while !isStopping && !isCompacting { gate.wait(.compaction) }
            return !isStopping
        }
    }

    /// Puts a successor in the log's place.
    private func compact() throws(LogFailure) {
        var (old, end, sequence) = gate.with { (log, log.count, last) }
        let next = try old.successor()
        do throws(LogFailure) {
            try copyNewest(from: old, end, sequence, to: next)
            let copied = try follow(old, from: end, to: next)
            try next.prepare(settings.reserve + Self.ahead)
            try pair(old, from: copied, with: next)
            try next.sync()
            guard
                gate.with({
                    isNaming = twin != nil
                    return isNaming
                })
            else {
                throw LogFailure(ENOSPC, "\(settings.path): no room for the compacted log")
            }
            try next.takeName()
        } catch {
            gate.with {
                twin = nil
                isNaming = false
            }
            next.abandon()
            throw error
        }
        do throws(LogFailure) { try next.syncDirectory() } catch { host.log(.error, "append-log: \(error)") }
        let free = next.free
        gate.with {
            log = next
            twin = nil
            isNaming = false
            isFull = false
            countMax = log.count + log.room + free
            compactions += 1
            base = log.count
            setThreshold()
        }
        // The last one to let go of the old file waits for its blocks to be freed: this thread, that is.
        for _ in 0..<1000 where !isKnownUniquelyReferenced(&old) { usleep(1000) }
    }

    /// The next compaction comes when the log has outgrown the last one. With the gate held.
    func setThreshold() {
        threshold = max(settings.compactAt, base / 100 * (100 + settings.compactGrowth))
    }

    private func checkStop() throws(LogFailure) {
        if gate.with({ isStopping }) { throw LogFailure(ECANCELED, "the daemon ends") }
    }

    /// The newest records of the first `count` bytes, all under the newest of their sequences.
    private func copyNewest(
        from old: RecordLog, _ count: Int, _ sequence: UInt64, to next: RecordLog
    ) throws(LogFailure) {
        let view = try old.view(upTo: count)
        var newest = try NewestRecords(view.bytes)
        try view.walk { _, batch throws(LogFailure) in
            guard try newest.add(batch) else {
                throw LogFailure(EUCLEAN, "\(settings.path): holds a batch that is none")
            }
        }
        // Not even begun where it would fill the disk.
        let needed = newest.bytes + settings.reserve + Self.ahead
        guard needed <= next.free else {
            throw LogFailure(ENOSPC, "\(settings.path): \(needed) bytes are needed, \(next.free) are free")
        }
        var frame: [UInt8] = []
        frame.reserveCapacity(Self.frameSize + 1 << 14)
        var unsynced = 0
        try newest.walk { range throws(LogFailure) in
            frame.append(contentsOf: UnsafeRawBufferPointer(rebasing: view.bytes[range]))
            if frame.count < Self.frameSize { return }
            try next.append(sequence, frame)
            unsynced += frame.count
            frame.removeAll(keepingCapacity: true)
            if unsynced < Self.syncEvery { return }
            unsynced = 0
            try checkStop()
            try next.sync()
        }
        // There is always one, since it says which batch was the newest.
        try next.append(sequence, frame)
        guard view.isWhole else { throw LogFailure(EIO, "\(settings.path): has been cut short") }
        try next.sync()
    }

    /// Copies what has been appended meanwhile until a round brings little. Returns how far.
    private func follow(
        _ old: RecordLog, from start: Int, to next: RecordLog
    ) throws(LogFailure) -> Int {
        var copied = start
        while true {
            let end = old.count
            let isLittle = end - copied <= Self.catchUp
            try copy(old, from: copied, to: end, to: next)
            copied = end
            try checkStop()
            if isLittle { return copied }
            try next.sync()
        }
    }

    private func copy(
        _ old: RecordLog, from start: Int, to end: Int, to next: RecordLog
    ) throws(LogFailure) {
        try old.forEach(from: start, to: end) { sequence, payload throws(LogFailure) in
            try next.append(sequence, payload)
        }
    }

    /// Makes `next` the twin of the log, as soon as little is missing.
    private func pair(
        _ old: RecordLog, from start: Int, with next: RecordLog
    ) throws(LogFailure) {
        var copied = start
        while true {
            let isPaired = try gate.with { () throws(LogFailure) in
                guard old.count - copied <= Self.catchUp else { return false }
                try copy(old, from: copied, to: old.count, to: next)
                twin = next
                return true
            }
            if isPaired { return }
            copied = try follow(old, from: copied, to: next)
            try next.prepare(settings.reserve + Self.ahead)
        }
    }
}

extension RecordLog {
    func append(_ sequence: UInt64, _ payload: [UInt8]) throws(LogFailure) {
        _ = try payload.span.bytes.withUnsafeBytes { bytes throws(LogFailure) in try append(sequence, bytes) }
    }
}
