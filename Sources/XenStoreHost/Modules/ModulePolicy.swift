// An access policy that is a module: the core's questions on one side, the C struct on the other. Unsafe
// code.
//
// Invariants: `instance` is what the module's open has returned, until `close`; nothing of the module is
// called without one. What the module wants to see was asked once, and never changes.

import CXenStorePlugin
import Glibc
import XenStore
import XenStoreTypes

/// One policy that the configuration asks for.
public struct PolicyChoice: Equatable, Sendable {
    /// A module's name, or the absolute path of a shared object.
    public var module: Placed<String>
    public var options: [ModuleOption]

    public init(_ module: Placed<String>, options: [ModuleOption] = []) {
        self.module = module
        self.options = options
    }

    /// The same, with the file that its options stand in as `file`, an absolute path: what modules find
    /// beside that file must not depend on the directory that the daemon works in.
    func placed(in file: String?) -> PolicyChoice {
        guard let file else { return self }
        var choice = self
        for index in choice.options.indices { choice.options[index].value.file = file }
        return choice
    }

    /// The module, loaded and described, but not opened.
    ///
    /// Fails, by place, if there is none, if it is no policy that this daemon can use, and if it does not
    /// know an option or lacks one.
    public func find(_ search: ModuleSearch) throws(StartFailure) -> Module {
        let found = try search.find(module)
        guard found.isPolicy else {
            throw module.mistake(
                "found the module \(quoted(found.name)), a store backend (\(found.origin)), "
                    + "expected an access policy")
        }
        try found.check(options, of: module)
        return found
    }
}

/// A module's instance as one of the core's policies. Belongs to the loop's thread.
public final class ModulePolicy: Policy {
    public let module: Module
    private let calls: xenstore_policy
    private let log: LogWriter
    private let host: ModuleHost
    @exclusivity(unchecked) private var instance: UnsafeMutableRawPointer?
    @exclusivity(unchecked) private var interest = xenstore_interest()
    /// When the log was told last that it fails to decide, in the questions' time.
    private var failureLogged: UInt64?
    private var text: [UInt8] = []

    private static let reasonMax = 512

    /// Loads the module and opens it. Fails, by place, with the reason that the module gives.
    init(_ choice: PolicyChoice, _ search: ModuleSearch, log: LogWriter) throws(StartFailure) {
        let module = try choice.find(search)
        guard let policy = module.policy, let open = policy.open, let ask = policy.interest else {
            throw choice.module.mistake("the module \(quoted(module.name)) is no access policy")
        }
        self.module = module
        self.log = log
        calls = policy
        host = ModuleHost(module.name, log: log) { _ in }
        super.init()
        var failure = xenstore_failure()
        let opened = withOptions(choice.options) { options in
            open(module.plugin, host.pointer, options.baseAddress, options.count, &failure)
        }
        guard let opened else { throw choice.mistake(module, failureOf(&failure).reason) }
        instance = opened
        interest.size = UInt32(MemoryLayout<xenstore_interest>.size)
        ask(opened, &interest)
    }

    deinit { close() }

    public override var decides: PolicyOperations { interest.decides }
    public override var observes: PolicyOperations { calls.observe == nil ? 0 : interest.observes }
    public override var values: PolicyOperations { interest.values }
    public override var name: [UInt8] { Array(module.name.utf8) }
    public override var reason: [UInt8] { text }

    public override func decide(_ question: PolicyQuestion) -> PolicyVerdict {
        guard let instance, let decide = calls.decide else { return .deny(.acces) }
        var answer = xenstore_answer()
        answer.size = UInt32(MemoryLayout<xenstore_answer>.size)
        let result = lend(question) { lent in
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
        case XENSTORE_ABSTAIN: return .abstain
        case XENSTORE_GRANT: return .grant
        case XENSTORE_DENY: return .deny(Self.error(answer.error))
        case XENSTORE_DEFER: return .postpone(answer.delay)
        default:
            tellFailure(result, question.now)
            return .deny(.acces)
        }
    }

    /// Denied is what a policy fails to decide, and the log says so, not more often than once a second.
    private func tellFailure(_ result: Int32, _ now: UInt64) {
        if let last = failureLogged, now < last + 1_000_000_000 { return }
        failureLogged = now
        log.write(.error, Array("policy \(module.name): it fails to decide (\(result)); that is denied".utf8))
    }

    private static func error(_ code: Int32) -> ErrorName {
        switch code {
        case EPERM: .perm
        case ENOSPC: .nospc
        case EBUSY: .busy
        case ENOENT: .noent
        default: .acces
        }
    }

    public override func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        guard let instance, let observe = calls.observe else { return }
        var told = xenstore_outcome()
        told.size = UInt32(MemoryLayout<xenstore_outcome>.size)
        told.error = outcome.error?.errno ?? 0
        switch outcome.verdict {
        case .grant: told.verdict = UInt32(XENSTORE_GRANT)
        case .deny: told.verdict = UInt32(XENSTORE_DENY)
        case .abstain, .postpone: told.verdict = UInt32(XENSTORE_ABSTAIN)
        }
        let name = (outcome.decider as? ModulePolicy)?.module.plugin.pointee.name
        told.policy = name
        lend(question) { observe(instance, $0, &told) }
    }

    public override func ended(_ domain: DomainID) {
        if let instance { calls.ended?(instance, domain.rawValue) }
    }

    /// Takes what it wants of an older instance of the same module. One that only has its name, from a file
    /// that has been replaced meanwhile, is none: its instances are laid out as nobody here knows.
    func inherit(from older: ModulePolicy) {
        guard let instance, let other = older.instance, module.plugin == older.module.plugin else { return }
        calls.inherit?(instance, other)
    }

    /// Ends the instance. The second time nothing happens.
    func close() {
        guard let instance else { return }
        self.instance = nil
        calls.close?(instance)
        host.free()
    }

    // MARK: Questions as C has them

    private func lend<R>(
        _ question: PolicyQuestion, _ body: (UnsafePointer<xenstore_question>) -> R
    ) -> R {
        var lent = xenstore_question()
        lent.size = UInt32(MemoryLayout<xenstore_question>.size)
        if question.isDryRun { lent.flags |= UInt32(XENSTORE_DRY_RUN) }
        if question.isInTransaction { lent.flags |= UInt32(XENSTORE_IN_TRANSACTION) }
        if question.nodeExists { lent.flags |= UInt32(XENSTORE_NODE_EXISTS) }
        lent.operation = question.operation
        lent.request = question.request
        lent.now = question.now
        lent.subject = Self.subject(question.subject)
        lent.path = Self.bytes(question.path)
        lent.component_ends = question.componentEnds.baseAddress
        lent.component_count = question.componentEnds.count
        lent.before = question.before.baseAddress?.assumingMemoryBound(to: xenstore_permission.self)
        lent.before_count = question.before.count / 4
        lent.after = question.after.baseAddress?.assumingMemoryBound(to: xenstore_permission.self)
        lent.after_count = question.after.count / 4
        lent.value = Self.bytes(question.value)
        lent.object = question.object?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.second_object = question.secondObject?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        return question.subject.peer.groups.withUnsafeBufferPointer { groups in
            lent.groups = groups.baseAddress
            lent.group_count = groups.count
            return lend(question.arguments, &lent, body)
        }
    }

    private func lend<R>(
        _ words: [UnsafeRawBufferPointer], _ lent: inout xenstore_question,
        _ body: (UnsafePointer<xenstore_question>) -> R
    ) -> R {
        if words.isEmpty { return body(&lent) }
        return withUnsafeTemporaryAllocation(
            of: xenstore_bytes.self, capacity: words.count
        ) { arguments in
            for (index, argument) in words.enumerated() {
                arguments.initializeElement(at: index, to: Self.bytes(argument))
            }
            lent.arguments = UnsafePointer(arguments.baseAddress)
            lent.argument_count = arguments.count
            return body(&lent)
        }
    }

    private static func bytes(_ bytes: UnsafeRawBufferPointer) -> xenstore_bytes {
        xenstore_bytes(
            start: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count: bytes.count)
    }

    private static func subject(_ subject: PolicySubject) -> xenstore_subject {
        var lent = xenstore_subject()
        if subject.isPrivileged { lent.flags |= UInt32(XENSTORE_SUBJECT_PRIVILEGED) }
        if subject.isSocket { lent.flags |= UInt32(XENSTORE_SUBJECT_SOCKET) }
        if subject.isReadOnly { lent.flags |= UInt32(XENSTORE_SUBJECT_READ_ONLY) }
        lent.domain = subject.domain?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.target = subject.target?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.uid = subject.peer.user
        lent.gid = subject.peer.group
        lent.pid = subject.peer.process
        lent.connection = UInt64(subject.connection)
        return lent
    }
}

extension PolicyChoice {
    /// A module's reason, with its place unless it begins with one of its own.
    fileprivate func mistake(_ found: Module, _ text: String) -> StartFailure {
        let hasPlace = text.hasPrefix("/") || !module.file.isEmpty && text.hasPrefix(module.file + ":")
        if hasPlace { return StartFailure(text) }
        return module.mistake("policy \(found.name): \(text)")
    }
}
