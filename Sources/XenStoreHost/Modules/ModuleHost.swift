// What a module may ask of the daemon, as the C struct that it is handed. Unsafe code.
//
// Invariant: the struct, and the object that its `world` stands for, live until `free`, which comes behind
// the module's close.

import CXenStorePlugin
import XenStore

/// One instance's door to the daemon. Modules may use it from any thread.
final class ModuleHost: @unchecked Sendable {
    /// Bytes of a module's log line; the rest of a longer one is cut.
    private static let lineMax = 4096

    /// Stands before the module's lines in the log.
    private let prefix: [UInt8]
    private let log: LogWriter
    private let committed: @Sendable (UInt64) -> Void
    let pointer: UnsafeMutablePointer<xenstore_host>

    /// `isTrial`: of an instance that is only asked what it would do.
    init(
        _ name: String, log: LogWriter, isTrial: Bool = false,
        committed: @escaping @Sendable (UInt64) -> Void
    ) {
        prefix = Array("\(name): ".utf8)
        self.log = log
        self.committed = committed
        pointer = .allocate(capacity: 1)
        var calls = xenstore_host()
        calls.size = UInt32(MemoryLayout<xenstore_host>.size)
        calls.log = { world, level, text, count in
            let bytes = UnsafeRawBufferPointer(start: text, count: text == nil ? 0 : count)
            ModuleHost.of(world).write(level, bytes)
        }
        calls.clock = { _ in monotonicNow() }
        calls.is_trial = isTrial ? 1 : 0
        calls.committed = { world, sequence in ModuleHost.of(world).committed(sequence) }
        pointer.initialize(to: calls)
        pointer.pointee.world = Unmanaged.passRetained(self).toOpaque()
    }

    /// Ends it. The module must not use it any more.
    func free() {
        Unmanaged.passUnretained(self).release()
        pointer.deallocate()
    }

    private static func of(_ world: UnsafeMutableRawPointer?) -> ModuleHost {
        guard let world else { preconditionFailure("a module has called its host without its world") }
        return Unmanaged<ModuleHost>.fromOpaque(world).takeUnretainedValue()
    }

    private func write(_ level: Int32, _ text: UnsafeRawBufferPointer) {
        let level = LogLevel(rawValue: UInt8(clamping: level)) ?? .debug
        log.write(level, prefix + text.prefix(Self.lineMax))
    }
}
