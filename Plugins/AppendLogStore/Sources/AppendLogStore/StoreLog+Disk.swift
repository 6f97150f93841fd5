// The two threads that wait for the disk so that the loop need not: one makes room ahead, one syncs.

import Glibc
import XenStoreLog
import XenStorePlugin

extension StoreLog {
    /// Milliseconds after which a full disk is asked again.
    private static var retry: Int { 200 }

    // MARK: Room

    /// The body of the thread that keeps blocks allocated ahead.
    func keepRoom() {
        while let log = nextForRoom() { makeRoom(log) }
    }

    private func nextForRoom() -> RecordLog? {
        gate.with {
            while !isStopping && !isRoomWanted {
                gate.wait(.room, milliseconds: isFull ? Self.retry : nil)
                if isFull { break }
            }
            isRoomWanted = false
            return isStopping ? nil : log
        }
    }

    /// Allocates the reserve and more, as far as the disk allows.
    func makeRoom(_ log: RecordLog) {
        let (wasFull, refused) = gate.with { (isFull, self.refused) }
        var full = false
        do throws(LogFailure) {
            try log.prepare(settings.reserve + Self.ahead + refused)
            log.warm(Self.ahead / 2)
        } catch {
            full = error.isFull
            if !full { host.log(.error, "append-log: \(error)") }
            // The reserve itself, if the rest cannot be had.
            if full { try? log.prepare(settings.reserve) }
        }
        let free = log.free
        gate.with {
            guard log === self.log else { return }
            isFull = full
            countMax = log.count + log.room + free
            if full { return }
            self.refused = 0
            // What could not be compacted for want of room may be now.
            if wasFull { setThreshold() }
        }
        if full && !wasFull {
            host.log(
                .warning, "append-log: \(settings.path): the disk is full; only what frees nodes is taken")
        } else if wasFull && !full {
            host.log(.notice, "append-log: \(settings.path): there is room again")
        }
    }

    // MARK: Sync

    /// The body of the thread that syncs, with `always` and `interval`.
    func keepSynced() {
        var before = 0
        var failed = false
        while waitForSync() {
            do throws(LogFailure) {
                let newest = try sync()
                if settings.sync == .always { host.committed(newest) }
                // What is written is read-only for the kernel again: have the next pages ready.
                let log = gate.with { self.log }
                log.warm(min(max(2 * (log.count - before), 1 << 12), 1 << 20))
                before = log.count
                if failed { host.log(.notice, "append-log: \(settings.path): can be synced again") }
                failed = false
            } catch {
                if !failed { host.log(.error, "append-log: \(error)") }
                failed = true
                if gate.with({ isStopping }) { return }
                // What the kernel has once failed to write it does not try again: no later success proves it.
                if settings.sync == .always {
                    let failure = PluginFailure(
                        "\(error); nothing is acknowledged until the daemon starts again", errno: error.code)
                    return gate.with { broken = failure }
                }
            }
        }
    }

    /// Waits until something is to be synced. False: the end.
    private func waitForSync() -> Bool {
        gate.with {
            if settings.sync == .interval && !isStopping {
                gate.wait(.sync, milliseconds: settings.interval)
            }
            while !isStopping && last == synced {
                gate.wait(.sync, milliseconds: settings.sync == .interval ? settings.interval : nil)
            }
            return last != synced
        }
    }
}
