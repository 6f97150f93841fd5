// Where modules are looked for: those that are built in, then by name in a list of directories, or by path.

import CXenStorePlugin
import Glibc

/// The places where a module can be.
public struct ModuleSearch: Equatable, Sendable {
    public var builtIn: [BuiltInModule] = []
    /// Absolute; in this order.
    public var directories: [String] = []
    /// XENSTORED_PLUGIN_PATH says something, and is not listened to.
    var ignoresEnvironment = false

    public init() {}

    /// The configured directory, XENSTORED_PLUGIN_PATH (under root only if the configuration allows it),
    /// beside the executable, and `../lib/xenstored` from there.
    public init(_ options: DaemonOptions, builtIn: [BuiltInModule]) {
        self.builtIn = builtIn
        let modules = options.configuration.modules
        if let directory = modules.directory { directories.append(directory) }
        if let path = options.environment.pluginPath {
            if geteuid() != 0 || modules.allowEnvironment {
                directories += path.split(separator: ":").map { options.environment.absolute(String($0)) }
            } else {
                ignoresEnvironment = true
            }
        }
        if let beside = Self.executableDirectory() {
            directories.append(beside)
            if let above = beside.lastIndex(of: "/") {
                directories.append(beside[..<above] + "/lib/xenstored")
            }
        }
    }

    /// The files in which a module of this name can be.
    private static func fileNames(_ name: String) -> [String] { ["libxenstore-\(name).so", "\(name).so"] }

    /// The module that `choice` names, or whose path it is.
    ///
    /// Fails, by the place of `choice`, if it is nowhere or cannot be used.
    public func find(_ choice: Placed<String>) throws(StartFailure) -> Module {
        let name = choice.value
        if isAbsoluteFilePath(name, max: pathMax) { return try load(name, as: choice) }
        guard isModuleName(name) else {
            throw choice.mistake(
                "found \(quoted(name)), expected a module's name (lower-case letters, digits and -) "
                    + "or the absolute path of a shared object")
        }
        for candidate in try builtInModules() where candidate.name == name { return candidate }
        for directory in directories {
            for file in Self.fileNames(name) {
                let path = "\(directory)/\(file)"
                guard access(path, F_OK) == 0 else { continue }
                let module = try load(path, as: choice)
                guard module.name == name else {
                    throw choice.mistake(
                        "the module \(path) calls itself \(quoted(module.name)), expected \(quoted(name))")
                }
                return module
            }
        }
        throw choice.mistake(try notFound(name))
    }

    private func load(_ path: String, as choice: Placed<String>) throws(StartFailure) -> Module {
        do throws(ModuleFault) {
            return try loadModule(path)
        } catch {
            throw choice.mistake("the module \(path) \(error.text)")
        }
    }

    private func notFound(_ name: String) throws(StartFailure) -> String {
        let names = try builtInModules().map(\.name)
        var text = "found no module \(quoted(name))"
        if let nearest = nearest(to: name, among: names) { text += " (did you mean \(quoted(nearest))?)" }
        text += ", expected " + alternatives(names + Self.fileNames(name))
        if !directories.isEmpty { text += " in " + directories.joined(separator: ", ") }
        if ignoresEnvironment { text += "; " + ignored }
        return text
    }

    private var ignored: String {
        "XENSTORED_PLUGIN_PATH does not count under root unless modules.allow-environment is true"
    }

    /// Those that are built in.
    ///
    /// Fails where one of them does not keep to the interface.
    func builtInModules() throws(StartFailure) -> [Module] {
        do throws(ModuleFault) {
            var modules: [Module] = []
            for module in builtIn { modules.append(try Module(module.plugin, .builtIn)) }
            return modules
        } catch {
            throw StartFailure("a module that is built in cannot be used: \(error.text)")
        }
    }

    /// The shared objects in the directories whose names are those of modules, in the order in which they
    /// are found; of one name only the first.
    func files() -> [(name: String, path: String)] {
        var found: [(name: String, path: String)] = []
        for directory in directories {
            for file in entries(of: directory).sorted() {
                guard let name = Self.moduleName(file), !found.contains(where: { $0.name == name }) else {
                    continue
                }
                found.append((name, "\(directory)/\(file)"))
            }
        }
        return found
    }

    /// The module that a file of this name would be looked into for. A file without the prefix can be
    /// anything, and is only looked into when its name is asked for.
    private static func moduleName(_ file: String) -> String? {
        let (prefix, suffix) = ("libxenstore-", ".so")
        guard file.hasPrefix(prefix), file.hasSuffix(suffix) else { return nil }
        let name = String(file.dropFirst(prefix.count).dropLast(suffix.count))
        return isModuleName(name) ? name : nil
    }

    /// The directory of this process's executable.
    private static func executableDirectory() -> String? {
        guard let resolved = realpath("/proc/self/exe", nil) else { return nil }
        defer { free(resolved) }
        let path = String(cString: resolved)
        return path.lastIndex(of: "/").map { String(path[..<$0]) }
    }
}
