// Where tests of modules build and place them, and what they need to open them.

import CXenStorePlugin
import Foundation
import Glibc
import XenStore
import XenStoreHost

/// A directory of this test's own, in which a module can be trusted. It goes with the object.
public final class ModuleScratch: Sendable {
    public let path: String

    public init() {
        var template = Array("/tmp/xenstored-modules.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    public static func / (scratch: ModuleScratch, name: String) -> String { scratch.path + "/" + name }

    /// What a program said and how it ended. Its output is stdout and stderr together.
    public struct Outcome: Equatable, Sendable {
        public var status: Int32
        public var output: String
    }

    /// Runs a program of PATH, or of an absolute path, in this directory; killed after `seconds`.
    public func run(
        _ words: [String], seconds: Int = 20, environment: [String: String] = [:]
    ) throws -> Outcome {
        let process = Process()
        let output = self / "output-\(UUID().uuidString)"
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        defer { try? FileManager.default.removeItem(atPath: output) }
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["timeout", "-s", "KILL", String(seconds)] + words
        process.currentDirectoryURL = URL(filePath: path)
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        let file = try FileHandle(forWritingTo: URL(filePath: output))
        process.standardOutput = file
        process.standardError = file
        try process.run()
        process.waitUntilExit()
        let bytes = FileManager.default.contents(atPath: output) ?? Data()
        return Outcome(status: process.terminationStatus, output: String(decoding: bytes, as: UTF8.self))
    }

    /// Builds NAME.so of C text against this tree's header. Returns its path.
    public func build(_ name: String, _ source: String, _ flags: [String] = []) throws -> String {
        try source.write(toFile: self / "\(name).c", atomically: false, encoding: .utf8)
        let words = ["cc", "-I", Self.header, "-fPIC", "-shared", "-o", "\(name).so", "\(name).c"] + flags
        let outcome = try run(words)
        if outcome.status != 0 { throw StartFailure(outcome.output) }
        return self / "\(name).so"
    }

    /// The directory of xenstore_plugin.h.
    public static let header = top + "/Sources/CXenStorePlugin/include"

    /// The repository's top: two folders above this file's.
    public static let top: String = {
        let parts = #filePath.split(separator: "/")
        return "/" + parts.dropLast(3).joined(separator: "/")
    }()

    /// A choice of a module, as line 2 of a file `f.yaml` would have it.
    public func choice(_ backend: String, _ options: [(String, String)] = []) -> StoreChoice {
        var choice = StoreChoice()
        choice.backend = Placed(backend, file: "f.yaml", place: Place(line: 2, column: 12))
        choice.options = options.enumerated().map { index, option in
            let line = 4 + index
            return ModuleOption(
                Placed(option.0, file: "f.yaml", place: Place(line: line, column: 5)),
                Placed(option.1, file: "f.yaml", place: Place(line: line, column: 11)))
        }
        choice.search.directories = [path]
        return choice
    }

    /// A log in the file `log` here.
    public func log() throws -> Log { try Log(.file(self / "log"), level: .debug) }

    /// What a file here holds.
    public func contents(_ name: String) -> String {
        FileManager.default.contents(atPath: self / name).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}

/// What a policy has answered.
public struct PolicyAnswer: Equatable, Sendable {
    public var verdict: Int32
    public var error: Int32
    public var delay: UInt32
    public var reason: String

    public init(verdict: Int32, error: Int32, delay: UInt32, reason: String) {
        self.verdict = verdict
        self.error = error
        self.delay = delay
        self.reason = reason
    }
}

/// Asks a policy about an operation of a guest (or, with domain 0, of the control domain) on a path, as
/// `explain` does: with room for a reason.
public func ask(
    _ policy: xenstore_policy, _ instance: UnsafeMutableRawPointer?, _ operation: Int, domain: UInt16,
    _ path: String
) -> PolicyAnswer {
    let bytes = Array(path.utf8)
    var ends: [UInt16] = []
    for (index, byte) in bytes.enumerated() where index > 0 && byte == 0x2F { ends.append(UInt16(index)) }
    if bytes.count > 1 { ends.append(UInt16(bytes.count)) }
    var question = xenstore_question()
    question.size = UInt32(MemoryLayout<xenstore_question>.size)
    question.operation = UInt32(operation)
    question.request = UInt32(operation)
    question.flags = XENSTORE_DRY_RUN
    question.now = 1
    question.subject.domain = domain
    question.subject.target = UInt16(XENSTORE_NO_DOMAIN)
    question.subject.flags = domain == 0 ? XENSTORE_SUBJECT_PRIVILEGED : 0
    question.object = UInt16(XENSTORE_NO_DOMAIN)
    question.second_object = UInt16(XENSTORE_NO_DOMAIN)
    var answer = xenstore_answer()
    answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
    var reason = [CChar](repeating: 0, count: 200)
    let verdict = bytes.withUnsafeBufferPointer { bytes in
        ends.withUnsafeBufferPointer { ends in
            reason.withUnsafeMutableBufferPointer { reason in
                question.path = xenstore_bytes(start: bytes.baseAddress, count: bytes.count)
                question.component_ends = ends.baseAddress
                question.component_count = ends.count
                answer.reason = reason.baseAddress
                answer.room = reason.count
                return policy.decide(instance, &question, &answer)
            }
        }
    }
    let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return PolicyAnswer(verdict: verdict, error: answer.error, delay: answer.delay, reason: text)
}

/// Opens a module's policy. Nil: it failed.
public func openPolicy(_ module: Module, _ policy: xenstore_policy) -> UnsafeMutableRawPointer? {
    var failure = xenstore_failure()
    var host = xenstore_host()
    host.size = UInt32(MemoryLayout<xenstore_host>.size)
    host.log = { _, _, _, _ in }
    host.clock = { _ in 1 }
    host.committed = { _, _ in }
    // For ever: the instance may keep it.
    let kept = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)
    kept.initialize(to: host)
    return policy.open(module.plugin, kept, nil, 0, &failure)
}
