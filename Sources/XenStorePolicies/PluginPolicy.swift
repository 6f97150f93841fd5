// An access policy that is a module's: the core's questions on one side, the C struct of xenstore_plugin.h
// on the other. The daemon opens modules from their options (XenStoreHost), the stub domain's kernel from
// their compiled forms; from there on both are this. Unsafe code.
//
// Invariants: `instance` is what the module has opened, until `close`; nothing of the module is called
// without one. What the module wants to see was asked once, and never changes.

import CXenStorePlugin
import XenStore
import XenStoreTypes

/// Why a module cannot be opened or compiled, in its own words.
public struct PolicyFailure: Error {
    public var reason: [UInt8]
}

/// A module's instance as one of the core's policies. Belongs to one thread.
open class PluginPolicy: Policy {
    public let plugin: UnsafePointer<xenstore_plugin>
    private let calls: xenstore_policy
    @exclusivity(unchecked) private var instance: UnsafeMutableRawPointer?
    @exclusivity(unchecked) private var interest = xenstore_interest()
    /// When it was told last that it fails to decide, in the questions' time.
    private var failureTold: UInt64?
    private var text: [UInt8] = []

    private static let reasonMax = 512

    /// Takes over what the module has opened. `calls` are those of `plugin`, NULL what it does not have.
    public init(
        _ plugin: UnsafePointer<xenstore_plugin>, _ calls: xenstore_policy,
        _ instance: UnsafeMutableRawPointer
    ) {
        self.plugin = plugin
        self.calls = calls
        self.instance = instance
        super.init()
        interest.size = UInt32(MemoryLayout<xenstore_interest>.size)
        calls.interest?(instance, &interest)
    }

    /// It has failed to decide; not called more often than once a second.
    open func failed(_ result: Int32) {}

    public final override var decides: PolicyOperations { interest.decides }
    public final override var observes: PolicyOperations { calls.observe == nil ? 0 : interest.observes }
    public final override var values: PolicyOperations { interest.values }
    public final override var reason: [UInt8] { text }
    public final override var name: [UInt8] { textBytes(plugin.pointee.name) }

    public final override func decide(_ question: PolicyQuestion) -> PolicyVerdict {
        guard let instance, let decide = calls.decide else { return .deny(.acces) }
        var answer = xenstore_answer()
        answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
        let result = question.lend { lent in
            if !question.wantsReason { return decide(instance, lent, &answer) }
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.reasonMax) { room in
                room.initialize(repeating: 0)
                answer.reason = room.baseAddress
                answer.room = room.count
                let result = decide(instance, lent, &answer)
                text = UnsafeRawBufferPointer(room).prefix { $0 != 0 }.map { $0 }
                return result
            }
        }
        switch Int(result) {
        case Int(XENSTORE_ABSTAIN): return .abstain
        case Int(XENSTORE_GRANT): return .grant
        case Int(XENSTORE_DENY): return .deny(ErrorName(denial: answer.error))
        case Int(XENSTORE_DEFER): return .postpone(answer.delay)
        default:
            tellFailure(result, question.now)
            return .deny(.acces)
        }
    }

    /// Denied is what a policy fails to decide.
    private func tellFailure(_ result: Int32, _ now: UInt64) {
        if let last = failureTold, now < last + 1_000_000_000 { return }
        failureTold = now
        failed(result)
    }

    public final override func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        guard let instance, let observe = calls.observe else { return }
        var told = xenstore_outcome()
        told.size = UInt32(MemoryLayout<xenstore_outcome>.size)
        told.error = outcome.error?.errno ?? 0
        switch outcome.verdict {
        case .grant: told.verdict = UInt32(XENSTORE_GRANT)
        case .deny: told.verdict = UInt32(XENSTORE_DENY)
        case .abstain, .postpone: told.verdict = UInt32(XENSTORE_ABSTAIN)
        }
        told.policy = (outcome.decider as? PluginPolicy)?.plugin.pointee.name
        question.lend { observe(instance, $0, &told) }
    }

    public final override func ended(_ domain: DomainID) {
        if let instance { calls.ended?(instance, domain.rawValue) }
    }

    /// Takes what it wants of an older instance of the same module. One that only has its name, from a file
    /// that has been replaced meanwhile, is none: its instances are laid out as nobody here knows.
    public final func inherit(from older: PluginPolicy) {
        guard let instance, let other = older.instance, plugin == older.plugin else { return }
        calls.inherit?(instance, other)
    }

    /// Ends the instance. The second time nothing happens, and the answer is false.
    @discardableResult
    public final func close() -> Bool {
        guard let instance else { return false }
        self.instance = nil
        calls.close?(instance)
        return true
    }

    // MARK: Compiled forms

    /// What the instance decides by, for `opened(_:compiled:host:)` in a kernel. Fails where it is for the
    /// daemon only.
    public final func compile() throws(PolicyFailure) -> [UInt8] {
        var form: [UInt8] = []
        var failure = xenstore_failure()
        guard let instance, let compile = calls.compile else { throw PolicyFailure(reason: []) }
        let code = withUnsafeMutablePointer(to: &form) { form in
            compile(
                instance,
                { receiver, bytes, count in
                    let form = receiver?.assumingMemoryBound(to: [UInt8].self)
                    form?.pointee.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
                }, form, &failure)
        }
        if code != 0 { throw PolicyFailure(reason: Self.reason(&failure)) }
        return form
    }

    /// Has a module open its compiled form. Fails for bytes that are none.
    public static func opened(
        _ plugin: UnsafePointer<xenstore_plugin>, compiled form: [UInt8], host: UnsafePointer<xenstore_host>
    ) throws(PolicyFailure) -> UnsafeMutableRawPointer {
        var failure = xenstore_failure()
        let instance = form.withUnsafeBufferPointer { bytes in
            plugin.pointee.policy?.pointee.open_compiled?(
                plugin, host, xenstore_bytes(start: bytes.baseAddress, count: bytes.count), &failure)
        }
        guard let instance else { throw PolicyFailure(reason: reason(&failure)) }
        return instance
    }

    private static func reason(_ failure: inout xenstore_failure) -> [UInt8] {
        withUnsafeBytes(of: &failure.reason) { $0.prefix { $0 != 0 }.map { $0 } }
    }
}

/// The bytes of a text in C, without the NUL.
private func textBytes(_ text: UnsafePointer<CChar>?) -> [UInt8] {
    guard let text else { return [] }
    var count = 0
    while text[count] != 0 { count += 1 }
    return Array(UnsafeRawBufferPointer(start: text, count: count))
}

extension ErrorName {
    /// What a denial with this errno is answered with: EACCES, unless it may choose another.
    fileprivate init(denial code: Int32) {
        self =
            switch code {
            case ErrorName.perm.errno: .perm
            case ErrorName.nospc.errno: .nospc
            case ErrorName.busy.errno: .busy
            case ErrorName.noent.errno: .noent
            default: .acces
            }
    }

    /// The number that modules know it by: the machine's, which is Xen's too.
    public var errno: Int32 {
        switch self {
        case .perm: 1
        case .noent: 2
        case .io: 5
        case .toobig: 7
        case .again: 11
        case .nomem: 12
        case .acces: 13
        case .busy: 16
        case .exist: 17
        case .isdir: 21
        case .inval: 22
        case .nospc: 28
        case .rofs: 30
        case .nosys: 38
        case .notempty: 39
        case .isconn: 106
        }
    }
}
