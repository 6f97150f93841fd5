// Watches, as sequences of events (specification, section D).

import XenStoreTypes

/// The events of one watch, the first of which comes at once whether the node exists or not.
///
/// The watch lives until this value, its copies and iterators are gone, the task that waits for an event is
/// cancelled, or `unwatch` is called; events that were on their way then are dropped. Iteration ends without
/// an error in these cases, and with `.connectionLost`, after the events that came before, when the
/// connection is.
///
/// Unread events are kept, equal ones once, up to `XenStoreOptions.eventsMax`; then a single one takes the
/// place of all (`WatchEvent.stoodForOthers`). A slow reader so costs bounded memory and never misses that
/// something changed, and it delays no reply. Iterators share the events: each goes to one of them.
public struct WatchEvents: AsyncSequence, Sendable {
    public typealias Element = WatchEvent
    public typealias Failure = XenStoreError

    private let watch: Watch

    init(_ client: XenStoreClient, _ queue: WatchQueue) { watch = Watch(client, queue) }

    public var path: String { watch.queue.path }
    public var token: String { watch.queue.token }

    /// Ends the watch, and returns when the daemon has removed it. Throws if it could not.
    public func unwatch() async throws {
        let queue = watch.queue
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let isFirst = watch.client.connection.unwatch(queue) { result in
                continuation.resume(
                    with: result.map { _ in }
                        .mapError { XenStoreError($0, .unwatch, path: queue.path) })
            }
            if !isFirst { continuation.resume() }
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(watch: watch) }

    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let watch: Watch

        /// The next event; nil when the watch has been ended.
        public mutating func next() async throws(XenStoreError) -> WatchEvent? {
            try await watch.next().get()
        }

        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(XenStoreError) -> WatchEvent? {
            try await watch.next().get()
        }
    }
}

/// Ends the watch when the last one who could read its events is gone.
private final class Watch: Sendable {
    let client: XenStoreClient
    let queue: WatchQueue

    init(_ client: XenStoreClient, _ queue: WatchQueue) {
        self.client = client
        self.queue = queue
    }

    deinit { end() }

    func end() { client.connection.unwatch(queue) { _ in } }

    func next() async -> Result<WatchEvent?, XenStoreError> {
        await withTaskCancellationHandler {
            await queue.next()
        } onCancel: {
            end()
        }
    }
}

extension XenStoreClient {
    /// Watches a node and what is below it, `depth` levels deep (0: the node only; nil: all), or one of the
    /// special `@introduceDomain` and `@releaseDomain`. Returns when the daemon has taken it.
    ///
    /// `token` is what the daemon calls the watch by; nil: one that no other watch has. Throws EEXIST if a
    /// watch of this client has the same path and token.
    public func watch(
        _ path: String, token: String? = nil, depth: Int? = nil
    ) async throws -> WatchEvents {
        let token = token ?? connection.newToken()
        let texts = [path, token] + (depth.map { ["\($0)"] } ?? [])
        let payload = try RequestBytes.payload(.watch, path, texts)
        let queue = WatchQueue(path: path, token: token, depth: depth, max: connection.options.eventsMax)
        guard connection.add(queue) else { throw XenStoreError(.refused(.exist), .watch, path: path) }
        do {
            _ = try await connection.ask(.watch, payload, path: path)
            return WatchEvents(self, queue)
        } catch let error as CancellationError {
            // The daemon may have it by now, or soon: the UNWATCH comes behind the WATCH.
            connection.unwatch(queue) { _ in }
            throw error
        } catch {
            connection.forget(queue)
            throw error
        }
    }
}
