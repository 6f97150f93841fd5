// The keys of `store` and `modules`: what a file may say about what keeps the tree, and about modules.

import XenStoreTypes

extension Configuration.Store {
    static var keys: [Key<Self>] {
        [
            Key("backend", \.backend, .module),
            Key("options", \.options, .moduleOptions),
            Key("on-full", \.onFull, .choice(OnFull.allCases.map { ($0.rawValue, $0) })),
            Key("keep", \.keep, .list(of: .node, "a list of nodes' absolute paths, or []")),
            Key("sessions", \.sessions, .path(max: pathMax)),
        ]
    }
}

extension Configuration.Modules {
    static var keys: [Key<Self>] {
        [Key("directory", \.directory, .pathOrNone), Key("allow-environment", \.allowEnvironment, .flag)]
    }
}

extension PolicyChoice {
    static var keys: [Key<Self>] {
        [Key("module", \.module, .module), Key("options", \.options, .moduleOptions)]
    }

    static func check(_ choice: Self, _ before: [Self], _ place: Place, _ reading: inout Reading) {
        if choice.module.value.isEmpty {
            reading.mistakes.add(place, found: "a policy without a module", expected: "the key module")
        }
    }
}

extension Expected where Value == Placed<String> {
    /// A module's name, or the path of its file.
    static var module: Expected {
        let what =
            "a module's name (lower-case letters, digits and -) or the absolute path of a shared object"
        return Expected { node, reading in
            guard case .scalar(let text, _) = node.content,
                isModuleName(text) || isAbsoluteFilePath(text, max: pathMax)
            else {
                reading.mistakes.add(node.place, found: node.found, expected: what)
                return nil
            }
            return Placed(text, file: reading.mistakes.file, place: node.place)
        }
    }
}

extension Expected where Value == [ModuleOption] {
    /// A module's own options: any keys, each with a single value.
    static var moduleOptions: Expected {
        Expected { node, reading in
            guard case .mapping(let entries) = node.content else {
                reading.mistakes.add(
                    node.place, found: node.found, expected: "a mapping of the module's options, or {}")
                return nil
            }
            let file = reading.mistakes.file
            return entries.compactMap { entry in
                guard case .scalar(let text, let isPlain) = entry.value.content, !text.isEmpty || !isPlain,
                    !text.utf8.contains(0)
                else {
                    reading.mistakes.add(
                        entry.value.place, found: entry.value.found,
                        expected: "a single value of \(quoted(entry.key)), without NUL")
                    return nil
                }
                guard !entry.key.utf8.contains(0) else {
                    reading.mistakes.add(
                        entry.place, found: "the key \(quoted(entry.key))", expected: "one without NUL")
                    return nil
                }
                return ModuleOption(
                    Placed(entry.key, file: file, place: entry.place),
                    Placed(text, file: file, place: entry.value.place))
            }
        }
    }
}

extension Expected where Value == String {
    /// A node's absolute path, as requests have it (specification, section A, "Paths").
    static var node: Expected {
        Expected("a node's absolute path, such as /local/pool", plain: false) { text in
            isNodePath(text) ? text : nil
        }
    }
}

/// Whether it is an absolute path of a node below the root.
func isNodePath(_ text: String) -> Bool {
    let names = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    return names.count > 1 && names[0].isEmpty && text.utf8.count <= StoreRecord.keyMax
        && names.dropFirst().allSatisfy { name in !name.isEmpty && name.allSatisfy(isNameByte) }
}

/// Letters, digits and `-/_@`, of which `/` stands between names.
private func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x41...0x5A, 0x61...0x7A, 0x30...0x39, 0x2D, 0x5F, 0x40: true
    default: false
    }
}
