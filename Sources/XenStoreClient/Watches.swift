// The watches of a connection: which event is for which, and the events that wait to be read.

import XenStoreTypes

/// A change at or below a watched path, or the first event, which every watch gets at once.
public struct WatchEvent: Hashable, Sendable {
    /// Where something changed; relative if the watch's path is. The event does not say what changed: read
    /// it.
    public var path: String
    /// More events came than the watch keeps, and this one stands for all of them: look at everything that
    /// the watch covers.
    public var stoodForOthers = false
}

/// All watches, by token.
///
/// Invariant: of those with the same path and token at most one is not leaving, and it is the last.
struct WatchTable {
    private var byToken: [String: [(watch: WatchQueue, isLeaving: Bool)]] = [:]

    var all: [WatchQueue] { byToken.values.flatMap { $0.map(\.watch) } }

    /// False, and nothing added: there is one with this path and token that is not leaving.
    mutating func add(_ watch: WatchQueue) -> Bool {
        if byToken[watch.token, default: []].contains(where: { !$0.isLeaving && $0.watch.path == watch.path })
        {
            return false
        }
        byToken[watch.token, default: []].append((watch, false))
        return true
    }

    /// From now on it gets no events. False: it is not there, or leaving already.
    mutating func leave(_ watch: WatchQueue) -> Bool {
        guard let index = byToken[watch.token]?.firstIndex(where: { $0.watch === watch && !$0.isLeaving })
        else { return false }
        byToken[watch.token]?[index].isLeaving = true
        return true
    }

    mutating func remove(_ watch: WatchQueue) {
        byToken[watch.token]?.removeAll { $0.watch === watch }
        if byToken[watch.token]?.isEmpty == true { byToken[watch.token] = nil }
    }

    /// Those that an event is for. While a watch is leaving, what comes with its path and token is its own
    /// and not that of another one like it, since replies and events come in order.
    func receivers(path: String, token: String) -> [WatchQueue] {
        guard let those = byToken[token] else { return [] }
        let leaving = those.filter(\.isLeaving).map(\.watch.path)
        return those.filter { !$0.isLeaving && !leaving.contains($0.watch.path) && $0.watch.covers(path) }
            .map(\.watch)
    }
}

/// The events of one watch that were not read yet.
///
/// Invariants: at most `max` events wait, no two of them equal unless special; who waits for an event does so
/// only while there is none; once ended, nothing is added.
final class WatchQueue: Sendable {
    enum End: Equatable {
        case unwatched
        case lost(ConnectionLoss)
    }

    private struct State {
        var events: [WatchEvent] = []
        var read = 0
        var paths: Set<String> = []
        var waiting: [CheckedContinuation<Result<WatchEvent?, XenStoreError>, Never>] = []
        var end: End?

        mutating func takeEvent() -> WatchEvent? {
            guard read < events.count else { return nil }
            let event = events[read]
            read += 1
            paths.remove(event.path)
            if read == events.count {
                events.removeAll(keepingCapacity: true)
                read = 0
            } else if read > 64, read * 2 > events.count {
                events.removeFirst(read)
                read = 0
            }
            return event
        }
    }

    let path: String
    let token: String
    /// How many levels below `path` are watched; nil: all.
    let depth: Int?
    private let max: Int
    private let state = Locked(State())

    init(path: String, token: String, depth: Int?, max: Int) {
        self.path = path
        self.token = token
        self.depth = depth
        self.max = Swift.max(1, max)
    }

    /// Whether a change at `changed` is at or below the path, and not too deep: the device of Linux drops the
    /// depth and sends everything.
    func covers(_ changed: String) -> Bool {
        let (path, changed) = (Array(path.utf8), Array(changed.utf8))
        let slash = UInt8(ascii: "/")
        if changed == path { return true }
        guard changed.starts(with: path) else { return false }
        let isRoot = path == [slash]
        guard isRoot || changed[path.count] == slash else { return false }
        let below = changed[path.count...].count { $0 == slash } + (isRoot ? 1 : 0)
        return depth.map { below <= $0 } ?? true
    }

    func add(_ changed: String) {
        let first = state.with { state -> CheckedContinuation<Result<WatchEvent?, XenStoreError>, Never>? in
            if state.end != nil { return nil }
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            append(changed, to: &state)
            return nil
        }
        first?.resume(returning: .success(WatchEvent(path: changed)))
    }

    private func append(_ changed: String, to state: inout State) {
        let isSpecial = changed.utf8.first == UInt8(ascii: "@")
        if !isSpecial, !state.paths.insert(changed).inserted { return }
        if state.events.count - state.read < max {
            state.events.append(WatchEvent(path: changed))
        } else {
            state.events = [WatchEvent(path: path, stoodForOthers: true)]
            state.read = 0
            state.paths = [path]
        }
    }

    /// The next event, or why there is none: nil after `end(nil)`. Called by the task that waits.
    func next() async -> Result<WatchEvent?, XenStoreError> {
        await withCheckedContinuation { continuation in
            let result = state.with { state -> Result<WatchEvent?, XenStoreError>? in
                if let event = state.takeEvent() { return .success(event) }
                switch state.end {
                case .unwatched: return .success(nil)
                case .lost(let loss):
                    return .failure(XenStoreError(.connectionLost(loss), .watch, path: path))
                case nil:
                    state.waiting.append(continuation)
                    return nil
                }
            }
            if let result { continuation.resume(returning: result) }
        }
    }

    /// No event will come any more: the connection is lost, or (nil) the watch was ended here. What waits can
    /// be read after a loss, and is dropped otherwise.
    func end(_ loss: ConnectionLoss?) {
        let waiting = state.with { state in
            if loss == nil { (state.events, state.read) = ([], 0) }
            if state.end == nil || loss == nil { state.end = loss.map { .lost($0) } ?? .unwatched }
            defer { state.waiting = [] }
            return state.waiting
        }
        let last: Result<WatchEvent?, XenStoreError> =
            loss.map { .failure(XenStoreError(.connectionLost($0), .watch, path: path)) } ?? .success(nil)
        for continuation in waiting { continuation.resume(returning: last) }
    }
}
