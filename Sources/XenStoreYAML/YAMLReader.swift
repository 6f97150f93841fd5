// From bytes to a YAML tree, with what a configuration has no use for refused: several documents, anchors
// and aliases (a few lines of them can stand for a billion values), tags, keys that are no words, a key
// given twice, and nesting beyond `YAMLNode.depthMax`.
//
// It keeps its own stack, so that the file's nesting never becomes the machine's.

/// Reads the one document of `bytes`.
///
/// Returns nil for a file without a document (empty, or nothing but comments), and where reading had to
/// stop at a mistake. Duplicate keys, anchors and tags are noted and reading goes on.
package func readYAML(_ bytes: [UInt8], _ mistakes: inout MistakeList) -> YAMLNode? {
    var reader = YAMLReader()
    let events = YAMLEvents(bytes)
    do {
        while true {
            let event = try events.next()
            if case .streamEnd = event.kind { return reader.root }
            guard reader.take(event, &mistakes) else { return nil }
        }
    } catch {
        mistakes.add(error.place, error.text)
        return nil
    }
}

/// The documents read so far, and the collections that are open.
private struct YAMLReader {
    /// A collection whose end has not come yet. A mapping's values await their key's.
    struct Open {
        var place: Place
        var isMapping: Bool
        var items: [YAMLNode] = []
        var entries: [YAMLEntry] = []
        var key: (text: String, place: Place)?
        var seen: [String: Place] = [:]
    }

    private(set) var root: YAMLNode?
    private var documents = 0
    private var open: [Open] = []

    /// Whether the event could be taken, and the next may be. If not, the reason has been noted.
    mutating func take(_ event: YAMLEvent, _ mistakes: inout MistakeList) -> Bool {
        refuseDecoration(event, &mistakes)
        switch event.kind {
        case .streamStart, .streamEnd, .documentEnd: return true
        case .documentStart:
            documents += 1
            if documents == 1 { return true }
            mistakes.add(event.place, found: "a second document", expected: "one document in a file")
            return false
        case .alias(let name):
            let found = "an alias (*\(quoted(name).dropFirst().dropLast()))"
            mistakes.add(event.place, found: found, expected: "the value itself")
            return false
        case .scalar(let text, let plain):
            return takeScalar(text, plain: plain, at: event.place, &mistakes)
        case .listStart, .mappingStart:
            return takeStart(event, &mistakes)
        case .collectionEnd:
            guard let done = open.popLast() else { return false }
            let content: YAMLNode.Content = done.isMapping ? .mapping(done.entries) : .list(done.items)
            put(YAMLNode(place: done.place, content: content), &mistakes)
            return true
        }
    }

    private func refuseDecoration(_ event: YAMLEvent, _ mistakes: inout MistakeList) {
        if let anchor = event.anchor {
            let found = "an anchor (&\(quoted(anchor).dropFirst().dropLast()))"
            mistakes.add(event.place, found: found, expected: "a value without one")
        }
        if let tag = event.tag {
            mistakes.add(event.place, found: "the tag \(quoted(tag))", expected: "a value without one")
        }
    }

    private mutating func takeScalar(
        _ text: String, plain: Bool, at place: Place, _ mistakes: inout MistakeList
    ) -> Bool {
        let node = YAMLNode(place: place, content: .scalar(text, plain: plain))
        if awaitsKey {
            if text.isEmpty {
                mistakes.add(place, found: "\(node.found) as a key", expected: "a word")
                return false
            }
            open[open.count - 1].key = (text, place)
        } else {
            put(node, &mistakes)
        }
        return true
    }

    private mutating func takeStart(_ event: YAMLEvent, _ mistakes: inout MistakeList) -> Bool {
        var isMapping = false
        if case .mappingStart = event.kind { isMapping = true }
        if awaitsKey {
            mistakes.add(
                event.place, found: isMapping ? "a mapping as a key" : "a list as a key", expected: "a word")
            return false
        }
        if open.count == YAMLNode.depthMax {
            mistakes.add(
                event.place, found: "more than \(YAMLNode.depthMax) lists and mappings inside each other",
                expected: "fewer")
            return false
        }
        open.append(Open(place: event.place, isMapping: isMapping))
        return true
    }

    private var awaitsKey: Bool {
        guard let last = open.last else { return false }
        return last.isMapping && last.key == nil
    }

    /// Puts a complete value where it belongs: into the innermost open collection, or as the document itself.
    private mutating func put(_ node: YAMLNode, _ mistakes: inout MistakeList) {
        guard let last = open.indices.last else {
            root = node
            return
        }
        guard open[last].isMapping, let key = open[last].key else {
            open[last].items.append(node)
            return
        }
        open[last].key = nil
        if let first = open[last].seen[key.text] {
            mistakes.add(
                key.place, found: "the key \(quoted(key.text)) again",
                expected: "it once (line \(first.line))")
            return
        }
        open[last].seen[key.text] = key.place
        open[last].entries.append(YAMLEntry(key: key.text, place: key.place, value: node))
    }
}
