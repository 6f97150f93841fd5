// A store backend that is a module: the core's calls on one side, the C struct on the other. Unsafe code.
//
// Invariants: `instance` is what the module's open has returned, until `close`, and nil behind it; nothing of
// the module is called without one. `failure` holds no reason between calls.

import CXenStorePlugin
import Glibc
import XenStore

/// A module's instance as the core's backend. Belongs to the loop's thread.
public final class ModuleBackend: Backend {
    public let module: Module
    private let choice: Placed<String>
    private let calls: xenstore_backend
    private let commitCall: CommitCall
    private let host: ModuleHost
    private let log: Log
    private let failure: UnsafeMutablePointer<xenstore_failure>
    // Every commit comes through here: the check at run time that nobody else is at it costs as much as the
    // call.
    @exclusivity(unchecked) private var instance: UnsafeMutableRawPointer?

    private typealias CommitCall =
        @convention(c) (
            UnsafeMutableRawPointer?, UInt64, UnsafePointer<UInt8>?, Int,
            UnsafeMutablePointer<xenstore_failure>?
        ) -> Int32

    /// What was committed is there after the process's death.
    public var isDurable: Bool { module.isDurable }
    /// Why the last commit has failed, one line; nil: it has not.
    @exclusivity(unchecked) public private(set) var failureReason: String?

    /// Loads the module and opens it.
    ///
    /// Fails, by place, with the reason that the module gives.
    ///
    /// - Parameter committed: every batch up to this number is final. On any thread, also before the commit
    ///   has returned that submits it.
    public init(
        _ choice: StoreChoice, log: Log, committed: @escaping @Sendable (UInt64) -> Void
    ) throws(StartFailure) {
        let module = try choice.module()
        guard let backend = module.backend, let open = backend.open, let commit = backend.commit else {
            throw choice.backend.mistake("the module \(quoted(module.name)) is no store backend")
        }
        self.module = module
        self.choice = choice.backend
        self.log = log
        calls = backend
        commitCall = commit
        host = ModuleHost(module.name, log: log.writer, committed: committed)
        failure = .allocate(capacity: 1)
        failure.initialize(to: xenstore_failure())
        super.init()
        let opened = withOptions(choice.options) { options in
            open(module.plugin, host.pointer, options.baseAddress, options.count, failure)
        }
        guard let opened else { throw mistake(takeFailure().reason) }
        instance = opened
    }

    deinit {
        close()
        failure.deallocate()
    }

    /// Hands back everything that the module has kept, as packed records, to be checked as if they were
    /// hostile. Once, before the first commit. Returns the number of the newest batch, 0 if there is none.
    ///
    /// Fails if the module does, or if `receive` returns false: it does not take what it is shown.
    public func recover(_ receive: (UnsafeRawBufferPointer) -> Bool) throws(StartFailure) -> UInt64 {
        guard let instance, let recover = calls.recover else { return 0 }
        var sequence: UInt64 = 0
        var refused = false
        let result = withoutActuallyEscaping(receive) { receive in
            var receiver = Receiver(receive: receive)
            let result = withUnsafeMutablePointer(to: &receiver) { receiver in
                recover(instance, Receiver.call, receiver, &sequence, failure)
            }
            refused = receiver.refused
            return result
        }
        if refused {
            _ = takeFailure()
            throw mistake("what it hands back are no records that this daemon understands")
        }
        guard result == 0 else { throw mistake(takeFailure().reason) }
        return sequence
    }

    public override func commit(_ sequence: UInt64, _ records: Span<UInt8>) -> Outcome {
        guard let instance else { return .failed(code: EBADF) }
        let result = records.withUnsafeBufferPointer { bytes in
            commitCall(instance, sequence, bytes.baseAddress, bytes.count, failure)
        }
        switch result {
        case 0, 1:
            if failureReason != nil { failureReason = nil }
            return result == 0 ? .final : .submitted
        default:
            let failure = takeFailure()
            if failure.reason != failureReason { log.write(.error, "\(module.name): \(failure.reason)") }
            failureReason = failure.reason
            return .failed(code: failure.code)
        }
    }

    public override var room: Int {
        guard let instance, let room = calls.room else { return .max }
        return Int(clamping: room(instance))
    }

    /// What is final when it is called survives the death of the host when it returns nil; else it says why
    /// not. Any thread but the loop's, one at a time, and not after `close`. Nil: the module has no such
    /// call.
    public var flush: (@Sendable () -> StartFailure?)? {
        guard let instance, let call = calls.flush else { return nil }
        let target = FlushTarget(instance: instance)
        let choice = choice
        let name = module.name
        return {
            var failure = xenstore_failure()
            if call(target.instance, &failure) == 0 { return nil }
            return choice.mistake("store backend \(name): \(failureOf(&failure).reason)")
        }
    }

    /// Lines `name: value` for CONTROL memreport.
    public override var report: [UInt8] {
        guard let instance, let report = calls.report else { return [] }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.reportMax) { text in
            let count = min(report(instance, text.baseAddress, text.count), text.count)
            return Array(UnsafeRawBufferPointer(text).prefix(count))
        }
    }

    /// So that a report is only part of a reply.
    private static let reportMax = 1024

    /// Ends the instance. The second time nothing happens.
    public func close() {
        guard let instance else { return }
        self.instance = nil
        calls.close?(instance)
        host.free()
    }

    /// `text` with the place of the backend's name, unless it begins with a place of its own.
    private func mistake(_ text: String) -> StartFailure {
        if !choice.file.isEmpty, text.hasPrefix(choice.file + ":") { return StartFailure(text) }
        return choice.mistake("store backend \(module.name): \(text)")
    }

    private func takeFailure() -> (code: Int32, reason: String) {
        defer { failure.pointee = xenstore_failure() }
        return failureOf(failure)
    }
}

/// What a module has written about a failure, or that it has written nothing.
func failureOf(_ failure: UnsafeMutablePointer<xenstore_failure>) -> (code: Int32, reason: String) {
    let code = failure.pointee.error == 0 ? EIO : failure.pointee.error
    let text = withUnsafeBytes(of: &failure.pointee.reason) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    return (code, text.isEmpty ? errorText(code) : text)
}

/// The one thing of an instance that another thread may use.
private struct FlushTarget: @unchecked Sendable {
    let instance: UnsafeMutableRawPointer
}

/// Who takes recovered records.
private struct Receiver {
    let receive: (UnsafeRawBufferPointer) -> Bool
    var refused = false

    static let call: xenstore_receive = { receiver, records, count in
        guard let receiver = receiver?.assumingMemoryBound(to: Receiver.self) else { return -1 }
        if !receiver.pointee.refused {
            let bytes = UnsafeRawBufferPointer(start: records, count: records == nil ? 0 : count)
            receiver.pointee.refused = !receiver.pointee.receive(bytes)
        }
        return receiver.pointee.refused ? -1 : 0
    }
}

/// Lends the options as C has them.
package func withOptions<R>(
    _ options: [ModuleOption], _ body: (UnsafeBufferPointer<xenstore_option>) -> R
) -> R {
    var texts: [UnsafeMutablePointer<CChar>?] = []
    defer { for text in texts { free(text) } }
    func lent(_ text: String) -> UnsafePointer<CChar>? {
        texts.append(strdup(text))
        return UnsafePointer(texts[texts.count - 1])
    }
    let list = options.map { option in
        xenstore_option(
            key: lent(option.key.value), value: lent(option.value.value), file: lent(option.value.file),
            line: UInt32(clamping: option.value.place?.line ?? 0),
            column: UInt32(clamping: option.value.place?.column ?? 0))
    }
    return list.withUnsafeBufferPointer(body)
}
