// A YAML document as a tree whose every part knows its place, before anything is known of its meaning.
//
// Invariants: no mapping holds a key twice; no collection lies deeper than `YAMLNode.depthMax`, so code that
// follows the tree may recurse; there are no aliases, so the tree is never larger than its file.

/// One value of a document.
package struct YAMLNode: Equatable, Sendable {
    package enum Content: Equatable, Sendable {
        /// `plain`: written without quotes, and so perhaps a number, a flag or (if empty) nothing.
        case scalar(String, plain: Bool)
        case list([YAMLNode])
        case mapping([YAMLEntry])
    }

    /// Collections inside each other, the outermost being 1.
    package static let depthMax = 32

    package var place: Place
    package var content: Content

    /// The value as a mistake says it after "found": `"yes"`, `"5" in quotes`, `nothing`, `a list`.
    package var found: String {
        switch content {
        case .scalar(let text, let plain):
            if text.isEmpty { return plain ? "nothing" : "an empty string" }
            return plain ? quoted(text) : quoted(text) + " in quotes"
        case .list: return "a list"
        case .mapping: return "a mapping"
        }
    }
}

/// One key of a mapping with its value. `place` is the key's.
package struct YAMLEntry: Equatable, Sendable {
    package var key: String
    package var place: Place
    package var value: YAMLNode
}
