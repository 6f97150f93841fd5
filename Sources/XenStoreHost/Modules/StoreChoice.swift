// Which store backend is to be taken, with its options and where to look for it: what `store:` and `modules:`
// of the configuration say.

/// One option of a module, as the configuration has it.
public struct ModuleOption: Equatable, Sendable {
    public var key: Placed<String>
    /// The scalar's text, without quotes.
    public var value: Placed<String>

    public init(_ key: Placed<String>, _ value: Placed<String>) {
        self.key = key
        self.value = value
    }
}

/// The store backend that the configuration asks for.
public struct StoreChoice: Equatable, Sendable {
    /// A module's name, or the absolute path of a shared object.
    public var backend = Placed("memory")
    public var options: [ModuleOption] = []
    public var onFull = Configuration.Store.OnFull.refuse
    /// Absolute paths of nodes that outlive a reboot of the host, with all below them.
    public var keep: [String] = []
    /// The session journal's file. An absolute path.
    public var sessions = Configuration.defaultSessions
    public var search = ModuleSearch()

    public init() {}

    /// The module, loaded and described, but not opened.
    ///
    /// Fails, by place, if there is none, if it is no backend that this daemon can use, and if it does not
    /// know an option or lacks one.
    public func module() throws(StartFailure) -> Module {
        let module = try search.find(backend)
        guard module.isBackend else {
            throw backend.mistake(
                "found the module \(quoted(module.name)), an access policy (\(module.origin)), "
                    + "expected a store backend")
        }
        try module.check(options, of: backend)
        return module
    }
}

extension StoreChoice {
    /// What the configuration says.
    ///
    /// - Parameter builtIn: the modules that need no file.
    public init(_ options: DaemonOptions, builtIn: [BuiltInModule]) {
        let store = options.configuration.store
        backend = store.backend
        self.options = store.options
        onFull = store.onFull
        keep = store.keep
        sessions = store.sessions
        search = ModuleSearch(options, builtIn: builtIn)
    }
}
