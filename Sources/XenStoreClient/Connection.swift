// One connection, seen from the tasks: requests go in, completions come out; the thread that moves the bytes
// is in Connection+Thread.swift.
//
// Invariants, whenever the lock is free:
// - Every request in `pending` has been, or will be, put on the wire whole, after those submitted before it.
// - Every submitted request is completed exactly once, outside the lock: by its reply or by the loss.
// - Once `loss` is set, `pending`, `unsent` and `watches` are empty and stay so.
// - `unsentCount` counts the bytes in `unsent` and those that the thread has taken out and not yet sent.

import CLinux
import Glibc
import XenStoreTypes

/// How patient and how big a client may be. What is not stated has the defaults below.
public struct XenStoreOptions: Hashable, Sendable {
    /// How long the daemon may take none of the bytes that wait for it before the connection is given up, and
    /// how long connecting may take. It is no limit for replies: cancel the task for that.
    public var patience: Duration = .seconds(30)
    /// How many bytes of requests may wait to be sent. A request that would exceed it fails at once.
    public var unsentMax = 16 << 20
    /// How many unread events one watch keeps. When there would be more, all are replaced by a single one
    /// that says so (`WatchEvent.stoodForOthers`).
    public var eventsMax = 4096

    public init() {}
}

/// What is called with a request's payload, or why there is none.
typealias Completion = @Sendable (Result<[UInt8], XenStoreError.Cause>) -> Void

final class Connection: Sendable {
    struct Pending {
        let type: MessageType
        let complete: Completion
    }

    struct State {
        var unsent: [UInt8] = []
        var unsentCount = 0
        var pending: [UInt32: Pending] = [:]
        var lastID: UInt32 = 0
        var lastToken: UInt64 = 0
        var watches = WatchTable()
        var loss: ConnectionLoss?
        var isClosing = false
        /// The thread has been told to look, and has not looked yet.
        var isWoken = false
    }

    let state = Locked(State())
    let options: XenStoreOptions
    /// An eventfd that ends the thread's sleep.
    let alarm: Int32

    /// Starts the thread, which owns the transport from now on. Throws if the machine has no more threads.
    init(_ transport: some Transport, _ options: XenStoreOptions) throws(XenStoreError) {
        self.options = options
        alarm = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard alarm >= 0 else { throw XenStoreError(.notConnected("eventfd: \(errorText(errno))")) }
        let code = startThread { self.run(transport) }
        guard code == 0 else { throw XenStoreError(.notConnected("no thread: \(errorText(code))")) }
    }

    deinit { if alarm >= 0 { Glibc.close(alarm) } }

    /// Ends the thread; every pending request fails with `.closed`. Returns at once.
    func close() {
        state.with {
            $0.isClosing = true
            wake(&$0)
        }
    }

    /// Sends a request, and calls `complete` with what comes of it: from the connection's thread, or from
    /// here if it cannot be sent. `isCleanup`: it ends something of ours, and is sent whatever waits already.
    func submit(
        _ type: MessageType, _ payload: [UInt8], transaction: UInt32 = 0, isCleanup: Bool = false,
        _ complete: @escaping Completion
    ) {
        let failure: XenStoreError.Cause? = state.with { state in
            if let loss = state.loss { return .connectionLost(loss) }
            let count = MessageHeader.size + payload.count
            if !isCleanup, state.unsentCount + count > options.unsentMax { return .tooMuchUnsent }
            let id = state.newID()
            state.pending[id] = Pending(type: type, complete: complete)
            state.unsent += RequestBytes.message(type, id: id, transaction: transaction, payload)
            state.unsentCount += count
            wake(&state)
            return nil
        }
        if let failure { complete(.failure(failure)) }
    }

    /// A token that no other watch of this connection has.
    func newToken() -> String {
        state.with {
            $0.lastToken += 1
            return "swift:\($0.lastToken)"
        }
    }

    /// Lets events reach the watch; to be called before WATCH is sent. False: a watch with the same path and
    /// token is there, which the daemon would refuse. A lost connection ends the watch at once.
    func add(_ watch: WatchQueue) -> Bool {
        let (isNew, loss) = state.with { state in
            state.loss == nil ? (state.watches.add(watch), nil) : (true, state.loss)
        }
        if let loss { watch.end(loss) }
        return isNew
    }

    /// WATCH was refused: there is nothing to remove at the daemon.
    func forget(_ watch: WatchQueue) { state.with { $0.watches.remove(watch) } }

    /// Ends the watch here at once, and at the daemon as soon as it has read the UNWATCH. False, and
    /// `complete` is not called: that was asked for already, or the connection is lost.
    @discardableResult
    func unwatch(_ watch: WatchQueue, _ complete: @escaping Completion) -> Bool {
        let isFirst = state.with { $0.watches.leave(watch) }
        watch.end(nil)
        guard isFirst, let payload = RequestBytes.strings([watch.path, watch.token]) else { return false }
        submit(.unwatch, payload, isCleanup: true) { result in
            self.forget(watch)
            complete(result)
        }
        return true
    }

    private func wake(_ state: inout State) {
        if state.isWoken { return }
        state.isWoken = true
        eventfd_write(alarm, 1)
    }
}

extension Connection.State {
    /// A request id that no pending request has; never 0, which events have.
    fileprivate mutating func newID() -> UInt32 {
        repeat { lastID &+= 1 } while lastID == 0 || pending[lastID] != nil
        return lastID
    }
}
