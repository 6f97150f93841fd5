// A module's description, checked: everything that is read of it here has been looked at before it is used.
// Unsafe code: the C structs of xenstore_plugin.h.

import CXenStorePlugin
import Glibc

/// A module that the executable brings along, and that needs no file.
public struct BuiltInModule: @unchecked Sendable, Equatable {
    public let plugin: UnsafePointer<xenstore_plugin>

    /// - Parameter plugin: stays as it is for ever.
    public init(_ plugin: UnsafePointer<xenstore_plugin>) { self.plugin = plugin }
}

/// Where a module has come from.
public enum ModuleOrigin: Equatable, Sendable, CustomStringConvertible {
    case builtIn
    /// A shared object, without symbolic links in its path.
    case file(String)

    public var description: String {
        switch self {
        case .builtIn: "built in"
        case .file(let path): path
        }
    }
}

/// What is wrong with a module: one line that goes behind its name.
struct ModuleFault: Error, Equatable {
    var text: String
    init(_ text: String) { self.text = text }
}

/// A module that this daemon can use.
public struct Module: @unchecked Sendable {
    /// One key that it knows.
    public struct Option: Equatable, Sendable {
        public var name: String
        /// Nil: it must be given.
        public var fallback: String?
        public var meaning: String
    }

    public let origin: ModuleOrigin
    public let name: String
    public let version: String
    public let summary: String
    /// The version of the interface that it is made for.
    public let interface: String
    public let options: [Option]
    public let plugin: UnsafePointer<xenstore_plugin>
    /// Nil: it is no backend.
    public let backend: xenstore_backend?
    /// Nil: it is no policy.
    public let policy: xenstore_policy?

    public var isBackend: Bool { backend != nil }
    public var isPolicy: Bool { policy != nil }
    /// Of a backend: what was committed is there after the process's death.
    public var isDurable: Bool { (backend?.flags ?? 0) & XENSTORE_BACKEND_DURABLE != 0 }

    /// Throws what it is that this daemon cannot use it for.
    init(_ plugin: UnsafePointer<xenstore_plugin>, _ origin: ModuleOrigin) throws(ModuleFault) {
        try Self.checkHead(UnsafeRawPointer(plugin))
        let described = plugin.pointee
        self.origin = origin
        self.plugin = plugin
        name = try Self.text(described.name, "name")
        version = try Self.text(described.version, "version")
        summary = try Self.text(described.summary, "summary")
        interface = "\(described.major).\(described.minor)"
        guard isModuleName(name) else {
            throw ModuleFault("its name is \(quoted(name)), expected lower-case letters, digits and -")
        }
        options = try Self.options(described)
        backend = try Self.backend(described)
        policy = try Self.policy(described)
        if backend == nil, policy == nil { throw ModuleFault("it is neither a backend nor a policy") }
    }

    /// The first fields, before anything behind them is read: they are the same in every version.
    private static func checkHead(_ plugin: UnsafeRawPointer) throws(ModuleFault) {
        let magic = plugin.load(fromByteOffset: 0, as: UInt32.self)
        let major = plugin.load(fromByteOffset: 4, as: UInt16.self)
        let minor = plugin.load(fromByteOffset: 6, as: UInt16.self)
        let size = Int(plugin.load(fromByteOffset: 8, as: UInt32.self))
        guard magic == XENSTORE_PLUGIN_MAGIC else {
            let (found, expected) = (String(magic, radix: 16), String(XENSTORE_PLUGIN_MAGIC, radix: 16))
            throw ModuleFault("its magic number is 0x\(found), expected 0x\(expected): it is no such module")
        }
        guard major == XENSTORE_PLUGIN_MAJOR, minor <= XENSTORE_PLUGIN_MINOR else {
            throw ModuleFault(
                "it is made for interface \(major).\(minor), "
                    + "expected \(XENSTORE_PLUGIN_MAJOR).\(XENSTORE_PLUGIN_MINOR)")
        }
        try checkSize(size, MemoryLayout<xenstore_plugin>.size, "xenstore_plugin")
    }

    private static func checkSize(_ size: Int, _ least: Int, _ name: String) throws(ModuleFault) {
        if size < least {
            throw ModuleFault("its struct \(name) has \(size) bytes, expected at least \(least)")
        }
    }

    private static func text(_ text: UnsafePointer<CChar>?, _ what: String) throws(ModuleFault) -> String {
        guard let text else { throw ModuleFault("it has no \(what)") }
        return String(cString: text)
    }

    private static func options(_ plugin: xenstore_plugin) throws(ModuleFault) -> [Option] {
        if plugin.option_count == 0 { return [] }
        guard let list = plugin.options, plugin.option_count <= 1024 else {
            throw ModuleFault("it has \(plugin.option_count) options, expected a list of at most 1024")
        }
        var options: [Option] = []
        for index in 0..<plugin.option_count {
            let option = list[index]
            options.append(
                Option(
                    name: try text(option.name, "name of an option"),
                    fallback: option.fallback.map { String(cString: $0) },
                    meaning: try text(option.meaning, "meaning of an option")))
        }
        return options
    }

    private static func backend(_ plugin: xenstore_plugin) throws(ModuleFault) -> xenstore_backend? {
        guard plugin.kind & UInt32(XENSTORE_KIND_BACKEND) != 0 else { return nil }
        guard let calls = plugin.backend else { throw ModuleFault("it has no struct xenstore_backend") }
        try checkSize(Int(calls.pointee.size), MemoryLayout<xenstore_backend>.size, "xenstore_backend")
        let backend = calls.pointee
        try require(
            ("open", backend.open != nil), ("recover", backend.recover != nil),
            ("commit", backend.commit != nil), ("close", backend.close != nil))
        return backend
    }

    private static func policy(_ plugin: xenstore_plugin) throws(ModuleFault) -> xenstore_policy? {
        guard plugin.kind & UInt32(XENSTORE_KIND_POLICY) != 0 else { return nil }
        guard let calls = plugin.policy else { throw ModuleFault("it has no struct xenstore_policy") }
        let size = Int(calls.pointee.size)
        try checkSize(size, Int(XENSTORE_POLICY_SIZE_1_0), "xenstore_policy")
        // What an older interface does not have counts as NULL.
        var policy = xenstore_policy()
        withUnsafeMutableBytes(of: &policy) { copy in
            copy.copyMemory(from: UnsafeRawBufferPointer(start: calls, count: min(size, copy.count)))
        }
        try require(
            ("open", policy.open != nil), ("interest", policy.interest != nil),
            ("decide", policy.decide != nil), ("close", policy.close != nil))
        return policy
    }

    private static func require(_ calls: (name: String, isThere: Bool)...) throws(ModuleFault) {
        for call in calls where !call.isThere { throw ModuleFault("it has no \(call.name)") }
    }
}

extension Module {
    /// Fails, by place, for an option that it does not know, and for one that must be given and is not.
    func check(_ options: [ModuleOption], of module: Placed<String>) throws(StartFailure) {
        let known = self.options.map(\.name)
        for option in options where !known.contains(option.key.value) {
            throw option.key.mistake(unknownKey(option.key.value, known: known) + " (module \(name))")
        }
        for option in self.options where option.fallback == nil {
            if !options.contains(where: { $0.key.value == option.name }) {
                throw module.mistake(
                    "found the module \(quoted(name)) without the option \(quoted(option.name)), "
                        + "expected it: \(option.meaning)")
            }
        }
    }
}

/// Lower-case letters, digits and `-`, 1 to 64 of them.
func isModuleName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count)
        && name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
}
