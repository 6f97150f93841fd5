// The module: its options and its file.

import TypeLabels
import XenStorePlugin
import XenStoreYAML

public let typeLabels = Plugin(
    policy: FileTypeLabels.init(host:options:), compiled: TypeLabelsPolicy.init(host:compiled:),
    name: "type-labels", version: "1.0",
    summary: "What labels of domains may do to labels of nodes.",
    options: [
        OptionDescription(
            "file", fallback: nil, "the labels; a relative path starts at the configuration's directory"),
        OptionDescription(
            "mode", fallback: "enforce", "enforce, or permissive: only log what would be denied"),
    ])

/// Type enforcement by a file.
final class FileTypeLabels: TypeLabelsPolicy {
    init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        var isPermissive = false
        if let mode = options["mode"] {
            guard ["enforce", "permissive"].contains(mode.value) else {
                throw .option(mode, expected: "enforce or permissive")
            }
            isPermissive = mode.value == "permissive"
        }
        guard let file = options["file"] else { throw PluginFailure("the option file is missing") }
        var rules = try Self.read(try Self.path(file), host)
        if isPermissive { rules.isPermissive = true }
        try super.init(host: host, rules: rules)
    }

    override func compile() throws(PluginFailure) -> [UInt8] { rules.compiled }

    private static func path(_ option: PluginOption) throws(PluginFailure) -> String {
        if option.value.isEmpty { throw .option(option, expected: "a file's path") }
        if option.value.utf8.first == UInt8(ascii: "/") { return option.value }
        guard let file = option.file, let slash = file.lastIndex(of: "/") else { return option.value }
        return String(file[...slash]) + option.value
    }

    /// All mistakes but the first go to the log, that into the failure.
    private static func read(_ path: String, _ host: PluginHost) throws(PluginFailure) -> LabelRules {
        do throws(ConfigurationMistakes) {
            return try LabelFile.read(path)
        } catch {
            for mistake in error.all.dropFirst() { host.log(.error, mistake.description) }
            let more = error.all.count > 1 ? " (and \(error.all.count - 1) more)" : ""
            throw PluginFailure((error.all.first?.description ?? path) + more)
        }
    }
}
