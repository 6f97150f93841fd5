// The access policies that a configuration asks for, found, loaded and opened. What is asked of them later is
// in XenStorePolicies. Unsafe code.

import CXenStorePlugin
import XenStorePolicies

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

/// A module's instance, opened as the configuration has it, as one of the core's policies. Belongs to the
/// loop's thread.
public final class ModulePolicy: PluginPolicy {
    public let module: Module
    private let log: LogWriter
    private let host: ModuleHost

    /// Loads the module and opens it. Fails, by place, with the reason that the module gives.
    init(
        _ choice: PolicyChoice, _ search: ModuleSearch, log: LogWriter, isTrial: Bool = false
    ) throws(StartFailure) {
        let module = try choice.find(search)
        guard let calls = module.policy, let open = calls.open else {
            throw choice.module.mistake("the module \(quoted(module.name)) is no access policy")
        }
        let host = ModuleHost(module.name, log: log, isTrial: isTrial) { _ in }
        var failure = xenstore_failure()
        let opened = withOptions(choice.options) { options in
            open(module.plugin, host.pointer, options.baseAddress, options.count, &failure)
        }
        guard let opened else {
            host.free()
            throw choice.mistake(module, failureOf(&failure).reason)
        }
        self.module = module
        self.log = log
        self.host = host
        super.init(module.plugin, calls, opened)
    }

    deinit { end() }

    public override func failed(_ result: Int32) {
        log.write(.error, Array("policy \(module.name): it fails to decide (\(result)); that is denied".utf8))
    }

    /// Ends the instance. The second time nothing happens.
    func end() { if close() { host.free() } }
}

extension PolicyChoice {
    /// A module's reason, with its place unless it begins with one of its own.
    func mistake(_ found: Module, _ text: String) -> StartFailure {
        let hasPlace = text.hasPrefix("/") || !module.file.isEmpty && text.hasPrefix(module.file + ":")
        if hasPlace { return StartFailure(text) }
        return module.mistake("policy \(found.name): \(text)")
    }
}
