// What --list-modules and --describe-module print.

extension ModuleSearch {
    /// Every module that can be named, a line each, those that cannot be used with the reason:
    ///
    ///     memory          1.0     backend  Keeps nothing: the tree ends with the process. (built in)
    ///     libxenstore-x.so cannot be used: ...
    ///
    /// Fails where a module that is built in cannot be used.
    public func list() throws(StartFailure) -> String {
        var lines = try builtInModules().map(Self.line)
        let names = Set(try builtInModules().map(\.name))
        for file in files() where !names.contains(file.name) {
            do throws(ModuleFault) {
                lines.append(Self.line(try loadModule(file.path)))
            } catch {
                lines.append("the module \(file.path) \(error.text)")
            }
        }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func line(_ module: Module) -> String {
        "\(padded(module.name, 15)) \(padded(module.version, 7)) \(padded(module.kinds, 8)) "
            + "\(module.summary) (\(module.origin))"
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}

extension Module {
    /// `backend`, `policy` or both.
    var kinds: String {
        [isBackend ? "backend" : nil, isPolicy ? "policy" : nil].compactMap { $0 }.joined(separator: ", ")
    }

    /// The module as lines `name: value`, and a line for each option.
    public var longDescription: String {
        var text = """
            name: \(name)
            version: \(version)
            interface: \(interface)
            summary: \(summary)
            kinds: \(kinds)
            file: \(origin)

            """
        if isBackend { text += "durable: \(isDurable ? "yes" : "no")\n" }
        text += options.isEmpty ? "options: none\n" : "options:\n"
        for option in options {
            let fallback = option.fallback.map { "default \($0.isEmpty ? "empty" : $0)" } ?? "must be given"
            text += "  \(option.name) (\(fallback)): \(option.meaning)\n"
        }
        return text
    }
}
