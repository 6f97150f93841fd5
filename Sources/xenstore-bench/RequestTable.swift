// Requests as a table of text: what a virtual machine's creation asks of a daemon, readable and countable.
//
// A line is a speaker, a request, and its arguments, with blanks between them; `#` begins a comment. In an
// argument these stand for what differs from one virtual machine to the next, or would be long:
//
//     $N  the domain id          $D  /local/domain/$N        $B  /local/domain/0/backend
//     $U  its UUID               $V  /vm/$U                  $L  /libxl/$N
//
// | request | arguments | what is sent |
// |---|---|---|
// | begin | | TRANSACTION_START; the speaker's requests are in it until `commit` |
// | commit | | TRANSACTION_END `T` |
// | write | path value perm... | WRITE; and SET_PERMS, if permissions are given. `-` is the empty value |
// | mkdir | path perm... | MKDIR; and SET_PERMS, if permissions are given |
// | perms | path perm... | SET_PERMS |
// | watch, unwatch | path token | WATCH, UNWATCH |
// | read, list, rm, getperms | path | READ, DIRECTORY, RM, GET_PERMS |
// | introduce | domid gfn port | INTRODUCE |
// | introduced, path | domid | IS_DOMAIN_INTRODUCED, GET_DOMAIN_PATH |

import XenStoreTypes

/// Who asks: each has a connection of its own.
enum Speaker: String, Sendable {
    /// The toolstack's connection that creates the machine.
    case tool
    /// The toolstack's connection that stays, to see the machine end.
    case monitor
    /// Domain 0's kernel with its backend drivers: one connection for all machines.
    case kernel
    /// The guest, through its ring.
    case guest
}

/// One request of the table; its arguments still have their `$` in them.
struct TableRow: Equatable, Sendable {
    var speaker: Speaker
    var type: MessageType
    var arguments: [String]

    /// The payload on the wire, for one machine: each argument ends in a NUL, but not a value that is
    /// written.
    func payload(for machine: VirtualMachine) -> String {
        let texts = arguments.map { machine.expand($0) }
        switch type {
        case .write: return texts[0] + "\0" + texts[1]
        case .transactionStart: return "\0"
        default: return texts.map { $0 + "\0" }.joined()
        }
    }
}

extension TableRow {
    /// The requests of a table, in order; fails at a line that is none of the above.
    static func parse(_ table: String) throws(Failure) -> [TableRow] {
        var rows: [TableRow] = []
        for line in table.split(separator: "\n") {
            let words = line.prefix { $0 != "#" }.split(separator: " ").map(String.init)
            if words.isEmpty { continue }
            guard words.count > 1, let speaker = Speaker(rawValue: words[0]),
                let requests = requests(words[1], Array(words[2...]))
            else { throw Failure("no line of a table of requests: '\(line)'") }
            rows += requests.map { TableRow(speaker: speaker, type: $0, arguments: $1) }
        }
        return rows
    }

    /// What a line asks for: one request or two; nil where the name or the number of arguments is wrong.
    private static func requests(_ name: String, _ words: [String]) -> [(MessageType, [String])]? {
        switch (name, words.count) {
        case ("begin", 0): return [(.transactionStart, [])]
        case ("commit", 0): return [(.transactionEnd, ["T"])]
        case ("write", 2...):
            let write = (MessageType.write, [words[0], words[1] == "-" ? "" : words[1]])
            return [write] + permissions(words[0], words[2...])
        case ("mkdir", 1...): return [(.makeDirectory, [words[0]])] + permissions(words[0], words[1...])
        case ("perms", 2...): return permissions(words[0], words[1...])
        case ("watch", 2): return [(.watch, words)]
        case ("unwatch", 2): return [(.unwatch, words)]
        case ("read", 1): return [(.read, words)]
        case ("list", 1): return [(.directory, words)]
        case ("rm", 1): return [(.remove, words)]
        case ("getperms", 1): return [(.getPermissions, words)]
        case ("introduce", 3): return [(.introduce, words)]
        case ("introduced", 1): return [(.isDomainIntroduced, words)]
        case ("path", 1): return [(.getDomainPath, words)]
        default: return nil
        }
    }

    private static func permissions(_ path: String, _ words: ArraySlice<String>) -> [(MessageType, [String])]
    {
        words.isEmpty ? [] : [(.setPermissions, [path] + words)]
    }

    /// The paths of all nodes that exist after the table's requests were carried out for these machines, but
    /// for those that were there before: parents are created as they are needed.
    static func nodes(_ rows: [TableRow], for machines: [VirtualMachine]) -> Set<String> {
        var nodes: Set<String> = []
        for machine in machines {
            for row in rows {
                switch row.type {
                case .write, .makeDirectory:
                    let text = machine.expand(row.arguments[0])
                    var path = (text.first == "/" ? text : machine.expand("$D/") + text)[...]
                    while let slash = path.lastIndex(of: "/") {
                        nodes.insert(String(path))
                        path = path[..<slash]
                    }
                case .remove:
                    let top = machine.expand(row.arguments[0])
                    nodes = nodes.filter { $0 != top && !$0.hasPrefix(top + "/") }
                default: break
                }
            }
        }
        return nodes
    }
}

/// A domain and the names that go with it.
struct VirtualMachine: Equatable, Sendable {
    var domain: UInt32

    var uuid: String {
        let digits = String(domain, radix: 16)
        return "3c9f2a61-7b0e-4d58-9a14-" + String(repeating: "0", count: 12 - digits.count) + digits
    }

    /// `text` with every `$` and the letter behind it replaced as the table at the top says. Another letter
    /// stays as it is.
    func expand(_ text: String) -> String {
        var result = ""
        var isName = false
        for character in text {
            if isName {
                result += value(of: character) ?? "$\(character)"
                isName = false
            } else if character == "$" {
                isName = true
            } else {
                result.append(character)
            }
        }
        return isName ? result + "$" : result
    }

    private func value(of letter: Character) -> String? {
        switch letter {
        case "N": "\(domain)"
        case "U": uuid
        case "D": "/local/domain/\(domain)"
        case "V": "/vm/\(uuid)"
        case "L": "/libxl/\(domain)"
        case "B": "/local/domain/0/backend"
        default: nil
        }
    }

    /// The topmost nodes that belong to this machine alone.
    var tops: [String] {
        ["$D", "$V", "$L", "$B/vbd/$N", "$B/vif/$N", "$B/console/$N"].map(expand)
    }
}
