// A module's description, as the daemon reads it over the C border.

import CXenStorePlugin

/// A store backend or an access policy with its name, ready to be handed to the daemon.
///
/// It is a constant of the module, and what it points to lives as long as the process:
///
///     public let memoryStore = Plugin(
///         backend: MemoryStore.init, name: "memory", version: "1.0", summary: "Keeps nothing.",
///         isDurable: false, options: [])
///
/// The entry point of a shared object, in a target of its own so that several modules can be linked into one
/// process, is
///
///     @c(xenstore_plugin_entry)
///     public func entry() -> UnsafePointer<xenstore_plugin> { memoryStore.pointer }
public struct Plugin: @unchecked Sendable {
    public let pointer: UnsafePointer<xenstore_plugin>

    /// Opens an instance with the options that the configuration gives. Fails for options that are wrong and
    /// files that cannot be used.
    public typealias Opening<Instance> =
        @Sendable (PluginHost, [PluginOption]) throws(PluginFailure) -> Instance

    /// - Parameters:
    ///   - open: a subclass's `init`.
    ///   - name: lower-case letters, digits and `-`, at most 64, as the configuration has it.
    ///   - version: one line, as `summary`.
    ///   - isDurable: what was committed is there after the process's death.
    public init(
        backend open: @escaping Opening<StoreBackend>, name: String, version: String, summary: String,
        isDurable: Bool, options: [OptionDescription]
    ) {
        let backend = UnsafeMutablePointer<xenstore_backend>.allocate(capacity: 1)
        backend.initialize(to: backendCalls(isDurable: isDurable))
        var plugin = Self.described(name: name, version: version, summary: summary, options: options)
        plugin.kind = UInt32(XENSTORE_KIND_BACKEND)
        plugin.backend = UnsafePointer(backend)
        plugin.own = UnsafeRawPointer(Unmanaged.passRetained(BackendOpening(open)).toOpaque())
        pointer = Self.kept(plugin)
    }

    /// Opens an instance from what another one's `compile` has returned. Fails for bytes that are none of it:
    /// they may be anything.
    public typealias CompiledOpening =
        @Sendable (PluginHost, [UInt8]) throws(PluginFailure) -> AccessPolicy

    /// - Parameters:
    ///   - open: a subclass's `init`.
    ///   - compiled: that of a class that needs neither options nor files, where a kernel can have the module
    ///     too; nil: it cannot.
    ///   - name: lower-case letters, digits and `-`, at most 64, as the configuration has it.
    ///   - version: one line, as `summary`.
    public init(
        policy open: @escaping Opening<AccessPolicy>, compiled: CompiledOpening? = nil, name: String,
        version: String, summary: String, options: [OptionDescription]
    ) {
        let opening = PolicyOpening(open, compiled)
        let plugin = Self.described(name: name, version: version, summary: summary, options: options)
        pointer = Self.policy(plugin, policyCalls(isCompilable: compiled != nil), opening)
    }

    /// What a kernel links of a policy: it is opened from its compiled form only.
    public init(compiledPolicy open: @escaping CompiledOpening, name: StaticString, version: StaticString) {
        var plugin = Self.head
        plugin.name = Self.pointer(name)
        plugin.version = Self.pointer(version)
        plugin.summary = Self.pointer("")
        pointer = Self.policy(plugin, compiledPolicyCalls(), CompiledPolicy(open))
    }

    /// A text of the program's own, which ends with a NUL.
    private static func pointer(_ text: StaticString) -> UnsafePointer<CChar> {
        UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
    }

    private static var head: xenstore_plugin {
        var plugin = xenstore_plugin()
        plugin.magic = XENSTORE_PLUGIN_MAGIC
        plugin.major = UInt16(XENSTORE_PLUGIN_MAJOR)
        plugin.minor = UInt16(XENSTORE_PLUGIN_MINOR)
        plugin.size = UInt32(MemoryLayout<xenstore_plugin>.size)
        return plugin
    }

    private static func policy(
        _ plugin: xenstore_plugin, _ calls: xenstore_policy, _ own: AnyObject
    ) -> UnsafePointer<xenstore_plugin> {
        let policy = UnsafeMutablePointer<xenstore_policy>.allocate(capacity: 1)
        policy.initialize(to: calls)
        var plugin = plugin
        plugin.kind = UInt32(XENSTORE_KIND_POLICY)
        plugin.policy = UnsafePointer(policy)
        plugin.own = UnsafeRawPointer(Unmanaged.passRetained(own).toOpaque())
        return kept(plugin)
    }

    private static func described(
        name: String, version: String, summary: String, options: [OptionDescription]
    ) -> xenstore_plugin {
        let list = UnsafeMutablePointer<xenstore_option_description>.allocate(capacity: options.count)
        for (index, option) in options.enumerated() {
            (list + index).initialize(
                to: xenstore_option_description(
                    name: kept(option.name), fallback: option.fallback.map { kept($0) },
                    meaning: kept(option.meaning)))
        }
        var plugin = head
        plugin.name = kept(name)
        plugin.version = kept(version)
        plugin.summary = kept(summary)
        plugin.options = UnsafePointer(list)
        plugin.option_count = options.count
        return plugin
    }

    private static func kept(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        for (index, byte) in bytes.enumerated() { (copy + index).initialize(to: byte) }
        return UnsafePointer(copy)
    }

    private static func kept(_ plugin: xenstore_plugin) -> UnsafePointer<xenstore_plugin> {
        let copy = UnsafeMutablePointer<xenstore_plugin>.allocate(capacity: 1)
        copy.initialize(to: plugin)
        return UnsafePointer(copy)
    }
}
