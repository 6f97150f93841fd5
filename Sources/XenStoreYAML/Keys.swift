// A mapping's keys as a table: each with its name, where its value goes and what the value may be.
//
// The tables are the one list of what a configuration can say: reading follows them, a mistake names the
// known keys from them, and a test compares `config/xenstored.yaml` with them.

/// One key of a mapping that is read into a `Target`.
package struct Key<Target> {
    package let name: String
    /// Other names of the same key. A file may use one of them all.
    package let aliases: [String]
    /// This key and all below it, outermost first: `log.level`, `sockets[].path`.
    package let paths: [String]
    package let read: (YAMLNode, inout Target, inout Reading) -> Void

    /// A key that reads what it has by itself.
    package init(_ name: String, read: @escaping (YAMLNode, inout Target, inout Reading) -> Void) {
        self.name = name
        aliases = []
        paths = [name]
        self.read = read
    }

    /// A key with a single value.
    package init<Value>(
        _ name: String, aliases: [String] = [], _ field: WritableKeyPath<Target, Value>,
        _ expected: Expected<Value>
    ) {
        self.name = name
        self.aliases = aliases
        paths = [name]
        read = { node, target, reading in
            if let value = expected.read(node, &reading) { target[keyPath: field] = value }
        }
    }

    /// A key with a mapping.
    package init<Value>(_ name: String, _ field: WritableKeyPath<Target, Value>, keys: [Key<Value>]) {
        self.name = name
        aliases = []
        paths = [name] + keys.flatMap { $0.paths.map { "\(name).\($0)" } }
        read = { node, target, reading in
            readMapping(node, keys, into: &target[keyPath: field], &reading)
        }
    }

    /// A key with a list of mappings, each read into a copy of `blank`. The first of `keys` must be there.
    /// `check` then sees each, and the ones before it, and may note mistakes.
    package init<Element>(
        _ name: String, _ field: WritableKeyPath<Target, [Element]>, blank: Element, keys: [Key<Element>],
        lengths: ClosedRange<Int>, check: @escaping (Element, [Element], Place, inout Reading) -> Void
    ) {
        self.name = name
        aliases = []
        paths = [name] + keys.flatMap { $0.paths.map { "\(name)[].\($0)" } }
        let what = "a list of \(lengths.lowerBound) to \(lengths.upperBound) mappings"
        read = { node, target, reading in
            guard case .list(let items) = node.content else {
                reading.mistakes.add(node.place, found: node.found, expected: what)
                return
            }
            guard lengths.contains(items.count) else {
                reading.mistakes.add(node.place, found: "a list of \(items.count)", expected: what)
                return
            }
            var values: [Element] = []
            for item in items {
                var value = blank
                guard readMapping(item, keys, first: .required, into: &value, &reading) else { continue }
                check(value, values, item.place, &reading)
                values.append(value)
            }
            target[keyPath: field] = values
        }
    }
}

/// Whether a mapping may do without the first of its keys.
package enum FirstKey {
    case optional, required
}

/// Reads a mapping's values into `target`, noting keys that are not in `keys`. Returns whether it is a
/// mapping.
@discardableResult
package func readMapping<Target>(
    _ node: YAMLNode, _ keys: [Key<Target>], first: FirstKey = .optional, into target: inout Target,
    _ reading: inout Reading
) -> Bool {
    guard case .mapping(let entries) = node.content else {
        let names = keys.map(\.name).joined(separator: ", ")
        let expected = keys.isEmpty ? "an empty mapping, {}" : "a mapping of: \(names)"
        reading.mistakes.add(node.place, found: node.found, expected: expected)
        return false
    }
    if first == .required, let name = keys.first?.name, !entries.contains(where: { $0.key == name }) {
        reading.mistakes.add(node.place, found: "a mapping without \(quoted(name))", expected: "one with it")
    }
    var used: [String: String] = [:]
    for entry in entries {
        guard let key = keys.first(where: { $0.name == entry.key || $0.aliases.contains(entry.key) }) else {
            reading.mistakes.add(entry.place, unknownKey(entry.key, known: keys.map(\.name)))
            continue
        }
        if let other = used.updateValue(entry.key, forKey: key.name) {
            let found = "\(quoted(entry.key)) beside \(quoted(other))"
            reading.mistakes.add(entry.place, found: found, expected: "one of them: they name the same")
            continue
        }
        key.read(entry.value, &target, &reading)
    }
    return true
}

/// `found the unknown key "sokets" (did you mean "sockets"?), expected one of: ...`.
package func unknownKey(_ name: String, known: [String]) -> String {
    guard !known.isEmpty else { return "found the key \(quoted(name)), expected none here" }
    var text = "found the unknown key \(quoted(name))"
    if let nearest = nearest(to: name, among: known) { text += " (did you mean \(quoted(nearest))?)" }
    return text + ", expected one of: " + known.joined(separator: ", ")
}

/// The known name that a slip of the fingers would turn into `name`, if there is one: at most a third of its
/// letters differ.
package func nearest(to name: String, among known: [String]) -> String? {
    guard name.utf8.count <= 64 else { return nil }
    let ranked = known.map { (name: $0, distance: editDistance(Array(name.utf8), Array($0.utf8))) }
    guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
    return best.distance <= max(1, best.name.utf8.count / 3) ? best.name : nil
}

/// How many bytes must be inserted, removed or replaced to make `b` of `a`.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let replaced = diagonal + (x == y ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
