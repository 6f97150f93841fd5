// An instance of a policy for the conformance kit. Unsafe code.

import CXenStorePlugin
import Glibc
import XenStoreHost

/// Nanoseconds.
func clock(_ which: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(which, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func wallClock() -> UInt64 { clock(CLOCK_MONOTONIC) }

/// An instance of a policy, asked as the daemon would ask it.
final class TriedPolicy {
    private let calls: xenstore_policy
    private let host = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)
    private var instance: UnsafeMutableRawPointer?
    private let name: UnsafePointer<CChar>?

    /// Opened from a compiled form. Throws where it is refused.
    init(_ module: Module, compiled form: [UInt8]) throws(PolicyFault) {
        guard let calls = module.policy, let open = calls.open_compiled else {
            throw PolicyFault("\(module.name) compiles, and has no open_compiled")
        }
        self.calls = calls
        name = module.plugin.pointee.name
        host.initialize(to: Self.door)
        var failure = xenstore_failure()
        instance = form.withUnsafeBufferPointer { bytes in
            open(
                module.plugin, host, xenstore_bytes(start: bytes.baseAddress, count: bytes.count), &failure)
        }
        if instance == nil { throw PolicyFault(Self.reason(&failure)) }
    }

    enum Opening { case opened, refused, silent }

    /// What comes of opening a form that may be none.
    static func opens(_ module: Module, _ form: [UInt8]) -> Opening {
        do throws(PolicyFault) {
            try TriedPolicy(module, compiled: form).close()
            return .opened
        } catch {
            return error.description.isEmpty ? .silent : .refused
        }
    }

    private static func reason(_ failure: inout xenstore_failure) -> String {
        let bytes = withUnsafeBytes(of: failure.reason) { $0.prefix { $0 != 0 }.map { $0 } }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Its compiled form; nil: it has none.
    func compile() throws(PolicyFault) -> [UInt8]? {
        guard let compile = calls.compile else { return nil }
        var form: [UInt8] = []
        var failure = xenstore_failure()
        let code = withUnsafeMutablePointer(to: &form) { form in
            compile(
                instance,
                { receiver, bytes, count in
                    let form = receiver?.assumingMemoryBound(to: [UInt8].self)
                    form?.pointee.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
                }, form, &failure)
        }
        if code == 0 { return form }
        if Self.reason(&failure).isEmpty { throw PolicyFault("it does not compile, and gives no reason") }
        return nil
    }

    private static var door: xenstore_host {
        var door = xenstore_host()
        door.size = UInt32(MemoryLayout<xenstore_host>.size)
        door.log = { _, _, _, _ in }
        door.clock = { _ in wallClock() }
        door.committed = { _, _ in }
        return door
    }

    init(_ module: Module, _ options: [ModuleOption], in directory: String) throws(PolicyFault) {
        guard let calls = module.policy, let open = calls.open else {
            throw PolicyFault("\(module.name) is no access policy")
        }
        self.calls = calls
        name = module.plugin.pointee.name
        host.initialize(to: Self.door)
        var template = Array("\(directory)/policy.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw PolicyFault("cannot make a directory in \(directory)") }
        let own = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        let placed = options.map { option in
            var placed = option
            let parts = option.value.value.split(separator: "@DIR@", omittingEmptySubsequences: false)
            placed.value.value = parts.joined(separator: own)
            return placed
        }
        var failure = xenstore_failure()
        instance = withOptions(placed) { open(module.plugin, host, $0.baseAddress, $0.count, &failure) }
        if instance == nil {
            throw PolicyFault("it does not open: \(Self.reason(&failure))")
        }
    }

    deinit {
        close()
        host.deallocate()
    }

    var interest: xenstore_interest {
        var interest = xenstore_interest()
        interest.size = UInt32(MemoryLayout<xenstore_interest>.size)
        calls.interest?(instance, &interest)
        return interest
    }

    /// Nil: it wrote beyond the room that its reason has, or left that without an end. 0: it has none.
    func decide(_ question: TriedQuestion, room: Int = 0) -> PolicyAnswer? {
        var answer = xenstore_answer()
        answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
        var bytes = [CChar](repeating: 0x5A, count: room + 16)
        if room > 0 { bytes[0] = 0 }
        let verdict = bytes.withUnsafeMutableBufferPointer { bytes in
            if room > 0 {
                answer.reason = bytes.baseAddress
                answer.room = room
            }
            return question.lend { calls.decide?(instance, $0, &answer) ?? -1 }
        }
        let isWhole = bytes[room...].allSatisfy { $0 == 0x5A } && (room == 0 || bytes[..<room].contains(0))
        if !isWhole { return nil }
        let reason = bytes[..<room].prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return PolicyAnswer(
            verdict: verdict, error: answer.error, delay: answer.delay,
            reason: String(decoding: reason, as: UTF8.self))
    }

    /// Nanoseconds of CPU time, the least of some tries.
    func cost(of question: TriedQuestion) -> UInt64 {
        var answer = xenstore_answer()
        answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
        return question.lend { lent in
            var least = UInt64.max
            for _ in 0..<10 {
                let start = clock(CLOCK_THREAD_CPUTIME_ID)
                for _ in 0..<20 { _ = calls.decide?(instance, lent, &answer) }
                least = min(least, (clock(CLOCK_THREAD_CPUTIME_ID) - start) / 20)
            }
            return least
        }
    }

    func observe(_ question: TriedQuestion, error: Int32, verdict: Int, by own: Bool) {
        var outcome = xenstore_outcome()
        outcome.size = UInt32(MemoryLayout<xenstore_outcome>.size)
        outcome.error = error
        outcome.verdict = UInt32(verdict)
        outcome.policy = own ? name : nil
        question.lend { calls.observe?(instance, $0, &outcome) }
    }

    func ended(_ domain: UInt16) { calls.ended?(instance, domain) }
    func inherit(from older: TriedPolicy) { calls.inherit?(instance, older.instance) }

    func close() {
        if let instance { calls.close?(instance) }
        instance = nil
    }
}
