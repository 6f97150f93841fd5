// The whole tree as a privileged client sees it, and other blocking questions.

import XenStoreTestKit
import XenStoreTypes

/// A client that asks and waits.
final class Asker {
    private let end: SocketEnd
    private var received: [UInt8] = []

    init(_ end: SocketEnd) { self.end = end }

    /// The replies to requests that are all sent first.
    func ask(_ requests: [(type: MessageType, strings: [String])]) throws -> [Message] {
        var replies: [Message] = []
        var unsent = requests[...].flatMap { Message($0.type, [UInt8](strings: $0.strings)).bytes }[...]
        let deadline = instant() + 30_000_000_000
        while replies.count < requests.count {
            if !unsent.isEmpty { unsent = unsent.dropFirst(try end.push(unsent.prefix(32768))) }
            received += try end.pull()
            while let message = Message.take(from: &received) { replies.append(message) }
            if replies.count < requests.count { end.wait() }
            if instant() > deadline { throw Broken("no reply to a client within 30 s") }
        }
        return replies
    }

    func ask(_ type: MessageType, _ strings: [String]) throws -> String {
        let reply = try ask([(type, strings)])[0]
        return reply.errorName ?? Message.printable(reply.payload)
    }

    /// The tree at and below a path, by absolute path; empty if it is not there.
    func tree(_ top: String) throws -> Model.Nodes {
        var nodes: Model.Nodes = [:]
        var level = [top]
        while !level.isEmpty {
            let replies = try ask(
                level.flatMap { [(.directory, [$0]), (.read, [$0]), (.getPermissions, [$0])] })
            var next: [String] = []
            for (index, path) in level.enumerated() {
                let three = replies[3 * index..<3 * index + 3]
                if three.allSatisfy({ $0.errorName == "ENOENT" }) && path == top { return [:] }
                guard let directory = three.first, three.allSatisfy({ $0.errorName == nil }) else {
                    throw Broken("\(path) is listed, and cannot be read: \(three.map(\.description))")
                }
                nodes[path] = Model.Node(
                    value: three[3 * index + 1].payload, permissions: three[3 * index + 2].strings)
                let names = directory.payload.isEmpty ? [] : directory.strings
                next += names.map { path == "/" ? "/" + $0 : path + "/" + $0 }
            }
            level = next
        }
        return nodes
    }
}

/// What is different, a line each, a few of them.
func differences(found: Model.Nodes, expected: Model.Nodes) -> [String] {
    var lines: [String] = []
    for path in Set(found.keys).union(expected.keys).sorted() where found[path] != expected[path] {
        func text(_ node: Model.Node?) -> String {
            node.map { "\"\(Message.printable($0.value))\" \($0.permissions)" } ?? "nothing"
        }
        lines.append("\(path): found \(text(found[path])), expected \(text(expected[path]))")
        if lines.count == 8 { break }
    }
    return lines
}
