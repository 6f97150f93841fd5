// What a speaker asks of the daemon, and what it may be answered.

import XenStoreTestKit
import XenStoreTypes

/// A request whose outcome the model knows. Paths are relative to the speaker's own part of the tree (empty:
/// its root), or absolute and somebody else's.
enum Operation: Hashable {
    case read(String)
    case write(String, [UInt8])
    case makeDirectory(String)
    case remove(String)
    case directory(String)
    case getPermissions(String)
    case setPermissions(String, [String])
    case watch(String, token: String)
    case unwatch(String, token: String)
    case start
    case end(Bool)
    case resetWatches

    var type: MessageType {
        switch self {
        case .read: .read
        case .write: .write
        case .makeDirectory: .makeDirectory
        case .remove: .remove
        case .directory: .directory
        case .getPermissions: .getPermissions
        case .setPermissions: .setPermissions
        case .watch: .watch
        case .unwatch: .unwatch
        case .start: .transactionStart
        case .end: .transactionEnd
        case .resetWatches: .resetWatches
        }
    }

    /// The payload, with `place` to write a path out.
    func payload(_ place: (String) -> String) -> [UInt8] {
        switch self {
        case .read(let path), .makeDirectory(let path), .remove(let path), .directory(let path),
            .getPermissions(let path):
            [UInt8](strings: [place(path)])
        case .write(let path, let value): [UInt8](strings: [place(path)]) + value
        case .setPermissions(let path, let list): [UInt8](strings: [place(path)] + list)
        case .watch(let path, let token), .unwatch(let path, let token):
            [UInt8](strings: [place(path), token])
        case .start, .resetWatches: [0]
        case .end(let commit): [UInt8](strings: [commit ? "T" : "F"])
        }
    }
}

/// A reply without its header.
enum Answer: Hashable, CustomStringConvertible {
    case done
    case bytes([UInt8])
    /// Children in any order, or permissions in theirs.
    case names([String])
    case number(UInt32)
    case failed(String)

    /// Nil: the reply is not one to this operation.
    init?(_ reply: Message, to operation: Operation) {
        if let name = reply.errorName {
            self = .failed(name)
            return
        }
        guard reply.type == operation.type.rawValue else { return nil }
        switch operation {
        case .read: self = .bytes(reply.payload)
        case .directory: self = .names(reply.payload.isEmpty ? [] : reply.strings.sorted())
        case .getPermissions: self = .names(reply.strings)
        case .start:
            guard let number = reply.strings.first.flatMap({ UInt32($0) }) else { return nil }
            self = .number(number)
        default:
            guard reply.payload == Array("OK\0".utf8) else { return nil }
            self = .done
        }
    }

    var description: String {
        switch self {
        case .done: "OK"
        case .bytes(let bytes): "\"\(Message.printable(bytes))\""
        case .names(let names): "\(names.map { $0.prefix(12) })"
        case .number(let number): "id \(number)"
        case .failed(let name): name
        }
    }
}

/// The daemon has not kept a promise.
struct Broken: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
