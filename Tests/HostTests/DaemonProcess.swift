// The built executable as a daemon in a process of its own, for what must be there when a process starts.

import Foundation
import Glibc
import Testing
import XenStoreTypes

@testable import XenStoreHost

/// The built executable, beside this test's own.
func builtExecutable() throws -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count)
    let own = String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let directory = own.split(separator: "/").dropLast().joined(separator: "/")
    let path = "/\(directory)/xenstored"
    try #require(access(path, X_OK) == 0, "\(path) is not built")
    return path
}

/// A daemon in the foreground that ends with this object.
final class DaemonProcess {
    private let process = Process()
    private let directory: TestDirectory
    var errors: String { contents(directory / "errors") }
    var identifier: pid_t { process.processIdentifier }

    /// Starts it; its stderr goes to `errors` in `directory`.
    init(_ arguments: [String], environment: [String: String] = [:], in directory: TestDirectory) throws {
        self.directory = directory
        _ = FileManager.default.createFile(atPath: directory / "errors", contents: nil)
        process.executableURL = URL(filePath: try builtExecutable())
        process.arguments = ["-N"] + arguments
        process.environment = environment.merging(["PATH": "/usr/bin:/bin"]) { own, _ in own }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = try FileHandle(forWritingTo: URL(filePath: directory / "errors"))
        try process.run()
    }

    deinit { stop() }

    /// Its exit status, when it ends by itself within ten seconds.
    func status() -> Int32? {
        eventually { !process.isRunning } ? process.terminationStatus : nil
    }

    /// SIGTERM, and its exit status.
    @discardableResult
    func stop() -> Int32? {
        if process.isRunning { process.terminate() }
        if let status = status() { return status }
        kill(process.processIdentifier, SIGKILL)
        return nil
    }
}
