// Where policies are asked without a daemon: a module's instance behind its C struct, and questions to it.

import CXenStorePlugin
import Foundation
import Glibc
import XenStoreHost
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

/// A question, as the daemon would build it.
struct Asked {
    var operation: XenStorePlugin.PolicyOperation
    var path = ""
    var domain: UInt16 = 7
    var isPrivileged = false
    var peer: (uid: UInt32, gid: UInt32, pid: Int32)?
    var isDryRun = false
    var isInTransaction = false
    var exists = false
    var now: UInt64 = 1
    var value: [UInt8] = []
    var arguments: [String] = []
    var before: [Permission] = []
    var after: [Permission] = []
    var object: UInt16?
    var secondObject: UInt16?
    /// The request that it is part of; nil: it is one itself.
    var request: XenStorePlugin.PolicyOperation?

    init(_ operation: XenStorePlugin.PolicyOperation, _ path: String = "", domain: UInt16 = 7) {
        self.operation = operation
        self.path = path
        self.domain = domain
        isPrivileged = domain == 0
    }

    /// Lends it as C has it.
    func lent<R>(_ body: (UnsafePointer<xenstore_question>) -> R) -> R {
        var question = xenstore_question()
        question.size = UInt32(MemoryLayout<xenstore_question>.size)
        question.operation = operation.rawValue
        question.request = (request ?? operation).rawValue
        question.now = now
        if isDryRun { question.flags |= XENSTORE_DRY_RUN }
        if isInTransaction { question.flags |= XENSTORE_IN_TRANSACTION }
        if exists { question.flags |= XENSTORE_NODE_EXISTS }
        question.subject.domain = domain
        question.subject.target = UInt16(XENSTORE_NO_DOMAIN)
        question.subject.connection = 3
        if isPrivileged { question.subject.flags |= XENSTORE_SUBJECT_PRIVILEGED }
        if let peer {
            question.subject.flags |= XENSTORE_SUBJECT_SOCKET
            (question.subject.uid, question.subject.gid, question.subject.pid) = peer
        }
        question.object = object ?? UInt16(XENSTORE_NO_DOMAIN)
        question.second_object = secondObject ?? UInt16(XENSTORE_NO_DOMAIN)
        let bytes = Array(path.utf8)
        var ends: [UInt16] = []
        for (index, byte) in bytes.enumerated() where index > 0 && byte == 0x2F { ends.append(UInt16(index)) }
        if bytes.count > 1 { ends.append(UInt16(bytes.count)) }
        let words = arguments.map { Array($0.utf8) }
        let flat = words.flatMap { $0 }
        return bytes.withUnsafeBufferPointer { bytes in
            ends.withUnsafeBufferPointer { ends in
                value.withUnsafeBufferPointer { value in
                    flat.withUnsafeBufferPointer { flat in
                        before.withUnsafeBytes { before in
                            after.withUnsafeBytes { after in
                                question.path = xenstore_bytes(start: bytes.baseAddress, count: bytes.count)
                                question.component_ends = ends.baseAddress
                                question.component_count = ends.count
                                question.value = xenstore_bytes(start: value.baseAddress, count: value.count)
                                question.before = before.baseAddress?.assumingMemoryBound(
                                    to: xenstore_permission.self)
                                question.before_count = before.count / 4
                                question.after = after.baseAddress?.assumingMemoryBound(
                                    to: xenstore_permission.self)
                                question.after_count = after.count / 4
                                var start = 0
                                let lent = words.map { word in
                                    defer { start += word.count }
                                    return xenstore_bytes(
                                        start: flat.baseAddress.map { $0 + start }, count: word.count)
                                }
                                return lent.withUnsafeBufferPointer { lent in
                                    question.arguments = lent.baseAddress
                                    question.argument_count = lent.count
                                    return body(&question)
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What an instance has logged; from any thread.
final class LoggedLines: @unchecked Sendable {
    private let lock = NSLock()
    private var kept: [String] = []
    /// Nanoseconds that the instance's clock says.
    nonisolated(unsafe) var clock: UInt64 = 1
    func append(_ line: String) { lock.withLock { kept.append(line) } }
    var all: [String] { lock.withLock { kept } }
}

/// An instance of a policy, as the daemon would have it.
final class PolicyTester {
    let logged = LoggedLines()
    let policy: xenstore_policy
    private let host: UnsafeMutablePointer<xenstore_host>
    private(set) var instance: UnsafeMutableRawPointer?

    /// Opens it with these options, which stand in lines 4, 5 ... of a file `f.yaml`. Throws the reason of a
    /// failure.
    init(_ plugin: Plugin, _ options: [(String, String)] = []) throws {
        policy = plugin.pointer.pointee.policy.pointee
        host = .allocate(capacity: 1)
        var calls = xenstore_host()
        calls.size = UInt32(MemoryLayout<xenstore_host>.size)
        calls.world = Unmanaged.passUnretained(logged).toOpaque()
        calls.log = { world, level, text, count in
            let bytes = UnsafeRawBufferPointer(start: text, count: count)
            Unmanaged<LoggedLines>.fromOpaque(world!).takeUnretainedValue().append(
                "\(level) \(String(decoding: bytes, as: UTF8.self))")
        }
        calls.clock = { Unmanaged<LoggedLines>.fromOpaque($0!).takeUnretainedValue().clock }
        calls.committed = { _, _ in }
        host.initialize(to: calls)
        var failure = xenstore_failure()
        let file = strdup("f.yaml")!
        var list = options.enumerated().map { index, option in
            xenstore_option(
                key: strdup(option.0), value: strdup(option.1), file: file, line: UInt32(4 + index),
                column: 11)
        }
        instance = policy.open(plugin.pointer, host, &list, list.count, &failure)
        for option in list {
            free(UnsafeMutablePointer(mutating: option.key))
            free(UnsafeMutablePointer(mutating: option.value))
        }
        free(file)
        if instance == nil {
            let reason = withUnsafeBytes(of: failure.reason) { $0.prefix { $0 != 0 }.map { $0 } }
            throw StartFailure(String(decoding: reason, as: UTF8.self))
        }
    }

    deinit {
        close()
        host.deallocate()
    }

    func close() {
        if let instance { policy.close(instance) }
        instance = nil
    }

    var interest: xenstore_interest {
        var interest = xenstore_interest()
        policy.interest(instance, &interest)
        return interest
    }

    /// With room for a reason.
    func decide(_ asked: Asked) -> PolicyAnswer {
        var answer = xenstore_answer()
        answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
        var reason = [CChar](repeating: 0, count: 512)
        let verdict = reason.withUnsafeMutableBufferPointer { reason in
            answer.reason = reason.baseAddress
            answer.room = reason.count
            return asked.lent { policy.decide(instance, $0, &answer) }
        }
        let text = reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return PolicyAnswer(
            verdict: verdict, error: answer.error, delay: answer.delay,
            reason: String(decoding: text, as: UTF8.self))
    }

    func observe(_ asked: Asked, error: Int32 = 0, verdict: Int = 0, policy name: String? = nil) {
        var outcome = xenstore_outcome()
        outcome.size = UInt32(MemoryLayout<xenstore_outcome>.size)
        outcome.error = error
        outcome.verdict = UInt32(verdict)
        let lent = name.map { strdup($0)! }
        outcome.policy = lent.map { UnsafePointer($0) }
        asked.lent { policy.observe(instance, $0, &outcome) }
        free(lent)
    }

    func ended(_ domain: UInt16) { policy.ended(instance, domain) }
    func inherit(from older: PolicyTester) { policy.inherit(instance, older.instance) }
}

/// The reason why a policy does not open with these options; nil: it does.
func reasonOfFailure(_ plugin: Plugin, _ options: [(String, String)]) -> String? {
    do {
        _ = try PolicyTester(plugin, options)
        return nil
    } catch {
        return "\(error)"
    }
}
