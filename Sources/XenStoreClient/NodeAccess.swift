// What can be asked about nodes: the same of a client and of a transaction.

public import XenStoreTypes

/// Something that nodes can be read and written through: a client, or one transaction of a client.
///
/// A path is absolute (`/local/domain/3/name`), or relative to the home of the connection's domain
/// (`/local/domain/N`; for sockets the daemon's own domain). Every call throws `XenStoreError`, with the
/// daemon's reason if it refused, or `CancellationError` as soon as its task is cancelled; a request that was
/// sent by then is still carried out, and the connection goes on.
///
/// Calls from several tasks go on the wire one behind the other without waiting for replies, in the order in
/// which they are made.
public protocol NodeAccess: Sendable {
    /// Sends any request and returns the payload of its reply as it is.
    ///
    /// `path` is for errors only. Not for WATCH, UNWATCH, RESET_WATCHES and the two requests on transactions:
    /// what they change is kept account of behind the methods that send them.
    func request(_ type: MessageType, path: String?, _ payload: [UInt8]) async throws -> [UInt8]

    /// The names of a node's children, in the daemon's order.
    ///
    /// A list of more than 4096 bytes comes in parts (DIRECTORY_PART), and is begun anew when it changes
    /// meanwhile. After `NodeAccess.listAttemptsMax` attempts in a row a client lists it in a transaction,
    /// which sees a still picture, and a transaction throws EAGAIN.
    func list(_ path: String) async throws -> [String]
}

extension NodeAccess {
    /// How often a long list is begun while it changes all the time.
    public static var listAttemptsMax: Int { 8 }

    /// A node's value.
    public func read(_ path: String) async throws -> [UInt8] { try await ask(.read, path) }

    /// A node's value as text; bytes that are no UTF-8 become U+FFFD.
    public func readString(_ path: String) async throws -> String {
        String(decoding: try await read(path), as: UTF8.self)
    }

    /// Sets a node's value, and creates the node and those above it where they are missing.
    public func write(_ path: String, _ value: [UInt8]) async throws {
        let payload = try RequestBytes.payload(.write, path, [path]) + value
        _ = try await request(.write, path: path, payload)
    }

    /// As the other `write`, with the text's UTF-8 for a value.
    public func write(_ path: String, _ value: String) async throws {
        try await write(path, Array(value.utf8))
    }

    /// Creates an empty node, and those above it where they are missing. One that is there stays as it is.
    public func makeDirectory(_ path: String) async throws { _ = try await ask(.makeDirectory, path) }

    /// Removes a node and all below it. No error if only the node itself is missing; ENOENT if its parent is
    /// too.
    public func remove(_ path: String) async throws { _ = try await ask(.remove, path) }

    /// A node's permissions; the first entry names the owner.
    public func permissions(_ path: String) async throws -> [Permission] {
        let texts = RequestBytes.split(try await ask(.getPermissions, path))
        return try texts.map {
            guard let permission = Permission(text: $0) else {
                throw XenStoreError(.answer("the permission \($0)"), .getPermissions, path: path)
            }
            return permission
        }
    }

    /// Replaces a node's permissions; the first entry names the owner. `ignored` is not for sending.
    public func setPermissions(_ path: String, _ permissions: [Permission]) async throws {
        _ = try await ask(.setPermissions, path, permissions.map(\.text))
    }

    public func list(_ path: String) async throws -> [String] {
        guard let names = try await listAttempts(path) else {
            throw XenStoreError(.refused(.again), .directoryPart, path: path)
        }
        return names
    }

    /// As `list`; nil if it changed during each attempt.
    func listAttempts(_ path: String) async throws -> [String]? {
        do {
            return RequestBytes.split(try await ask(.directory, path))
        } catch let error as XenStoreError where error.errorName == .toobig {
            for _ in 0..<Self.listAttemptsMax {
                if let bytes = try await listParts(path) { return RequestBytes.split(bytes) }
            }
            return nil
        }
    }

    /// The whole child list, or nil if it changed meanwhile.
    private func listParts(_ path: String) async throws -> [UInt8]? {
        var generation: ArraySlice<UInt8>?
        var names: [UInt8] = []
        while true {
            let part = try await ask(.directoryPart, path, ["\(names.count)"])
            guard let end = part.firstIndex(of: 0) else {
                throw XenStoreError(.answer("a part without a generation"), .directoryPart, path: path)
            }
            if let generation, generation != part[..<end] { return nil }
            generation = part[..<end]
            var rest = part[(end + 1)...]
            let isLast = rest == [0] || rest.suffix(2) == [0, 0]
            if isLast { rest.removeLast() }
            names += rest
            if isLast { return names }
            // Whole names, and at least one: otherwise the same part would be asked for again and again.
            guard rest.last == 0 else {
                throw XenStoreError(.answer("a part that ends in a name"), .directoryPart, path: path)
            }
        }
    }

    /// A request whose payload is strings: the path, and `more` behind it.
    private func ask(_ type: MessageType, _ path: String, _ more: [String] = []) async throws -> [UInt8] {
        try await request(type, path: path, RequestBytes.payload(type, path, [path] + more))
    }
}

extension RequestBytes {
    /// The strings' bytes. Throws `.unsendable` if one of them holds a NUL.
    static func payload(
        _ type: MessageType, _ path: String?, _ texts: [String]
    ) throws(XenStoreError) -> [UInt8] {
        guard let bytes = strings(texts) else {
            throw XenStoreError(.unsendable("a NUL in a string"), type, path: path)
        }
        return bytes
    }
}

extension Permission {
    /// As it stands on the wire: `r5`.
    public var text: String { String(UnicodeScalar(mode.letter)) + "\(domain.rawValue)" }

    /// Nil for what is not `[rwbn]` and a domain id.
    public init?(text: String) {
        guard let letter = text.utf8.first, let mode = AccessMode(letter: letter),
            let domain = UInt16(text.dropFirst())
        else { return nil }
        self.init(mode, DomainID(domain))
    }
}
