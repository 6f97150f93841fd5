// One request and the task that waits for its reply.

import XenStoreTypes

/// Joins a task, its cancellation and the completion of its request, which may come in any order.
///
/// Invariant: the continuation is resumed exactly once, by whichever of reply and cancellation comes first.
private final class Call: Sendable {
    private enum State {
        case new
        case waiting(CheckedContinuation<[UInt8], any Error>)
        case abandoned
        case finished
    }

    private let state = Locked(State.new)
    private let failure: @Sendable (XenStoreError.Cause) -> XenStoreError
    private let abandoned: @Sendable ([UInt8]) -> Void

    /// `abandoned` gets the reply that comes after its task was cancelled.
    init(
        _ failure: @escaping @Sendable (XenStoreError.Cause) -> XenStoreError,
        abandoned: @escaping @Sendable ([UInt8]) -> Void
    ) {
        self.failure = failure
        self.abandoned = abandoned
    }

    /// The task waits from now on. False: it has been cancelled, and nothing must be sent.
    func begin(_ continuation: CheckedContinuation<[UInt8], any Error>) -> Bool {
        let isNew = state.with { state in
            guard case .new = state else { return false }
            state = .waiting(continuation)
            return true
        }
        if !isNew { continuation.resume(throwing: CancellationError()) }
        return isNew
    }

    func finish(_ result: Result<[UInt8], XenStoreError.Cause>) {
        let before = state.with { state in
            defer { state = .finished }
            return state
        }
        switch (before, result) {
        case (.waiting(let continuation), .success(let payload)): continuation.resume(returning: payload)
        case (.waiting(let continuation), .failure(let cause)): continuation.resume(throwing: failure(cause))
        case (.abandoned, .success(let payload)): abandoned(payload)
        default: break
        }
    }

    func abandon() {
        let before = state.with { state in
            let before = state
            if case .finished = state {} else { state = .abandoned }
            return before
        }
        if case .waiting(let continuation) = before { continuation.resume(throwing: CancellationError()) }
    }
}

extension Connection {
    /// Sends a request and waits for the payload of its reply.
    ///
    /// Throws `XenStoreError`; or, as soon as the task is cancelled, `CancellationError`. A request that was
    /// sent by then is still carried out, and its reply goes to `abandoned` if it is no error.
    func ask(
        _ type: MessageType, _ payload: [UInt8], transaction: UInt32 = 0, path: String?,
        abandoned: @escaping @Sendable ([UInt8]) -> Void = { _ in }
    ) async throws -> [UInt8] {
        guard payload.count <= MessageHeader.payloadMax else {
            let why = "a payload of \(payload.count) bytes, at most \(MessageHeader.payloadMax) are allowed"
            throw XenStoreError(.unsendable(why), type, path: path)
        }
        let call = Call({ XenStoreError($0, type, path: path) }, abandoned: abandoned)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard call.begin(continuation) else { return }
                submit(type, payload, transaction: transaction) { call.finish($0) }
            }
        } onCancel: {
            call.abandon()
        }
    }
}
