// What a module may ask of the daemon.

import CXenStorePlugin

/// How grave a log line is.
public enum PluginLogLevel: Int32, Sendable {
    case error, warning, notice, info, debug
}

/// The daemon, as a module sees it. Any thread may use it, from the module's opening to the end of `close`.
public final class PluginHost: @unchecked Sendable {
    private let host: UnsafePointer<xenstore_host>

    /// - Parameter host: valid until the module's instance is closed.
    public init(_ host: UnsafePointer<xenstore_host>) { self.host = host }

    /// One line, without a newline. Never waits.
    public func log(_ level: PluginLogLevel, _ line: String) {
        var line = line
        line.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) {
                host.pointee.log(host.pointee.world, level.rawValue, $0.baseAddress, $0.count)
            }
        }
    }

    /// The same, for modules that a kernel links too.
    public func log(_ level: PluginLogLevel, _ line: PlainText) {
        line.bytes.withUnsafeBufferPointer { bytes in
            bytes.withMemoryRebound(to: CChar.self) {
                host.pointee.log(host.pointee.world, level.rawValue, $0.baseAddress, $0.count)
            }
        }
    }

    /// This is no daemon, but a person who wants to know what the module would decide: open nothing for
    /// writing. All questions are dry runs.
    public var isTrial: Bool { host.pointee.is_trial != 0 }

    /// Nanoseconds of a clock that never goes back.
    public var clock: UInt64 { host.pointee.clock(host.pointee.world) }

    /// Of a backend: every batch up to this one is final. It may be said before `commit` has returned.
    public func committed(_ sequence: UInt64) { host.pointee.committed(host.pointee.world, sequence) }
}
