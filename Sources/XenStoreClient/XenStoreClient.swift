// A client of any XenStore daemon, over a socket, a device or a ring.

public import XenStoreTypes

/// One connection to a XenStore daemon, which any number of tasks may use at once.
///
/// A thread of its own moves the bytes; no thread of Swift's pool ever waits for the daemon. Requests are
/// pipelined. The connection lasts until `close()`, until the client and the watches made by it are gone, or
/// until it is lost: then everything that waits, and every later call, fails with `.connectionLost`. It does
/// not come back by itself, since watches and transactions are gone with it; make a new client and look at
/// everything again.
public final class XenStoreClient: NodeAccess {
    let connection: Connection

    init(_ connection: Connection) { self.connection = connection }

    deinit { connection.close() }

    /// A client on a connected stream socket, which the client closes.
    public convenience init(
        socket descriptor: Int32, options: XenStoreOptions = XenStoreOptions()
    ) throws(XenStoreError) {
        self.init(try Connection(SocketTransport(descriptor), options))
    }

    /// Ends the connection. Requests that wait, and later ones, fail with `.connectionLost(.closed)`.
    public func close() { connection.close() }

    public func request(_ type: MessageType, path: String?, _ payload: [UInt8]) async throws -> [UInt8] {
        try await connection.ask(type, payload, path: path)
    }

    public func list(_ path: String) async throws -> [String] {
        if let names = try await listAttempts(path) { return names }
        return try await withTransaction { try await $0.list(path) }
    }

    /// A request whose payload is `texts`; what failed is said of `path`.
    func ask(_ type: MessageType, _ texts: [String], path: String? = nil) async throws -> [UInt8] {
        try await request(type, path: path, RequestBytes.payload(type, path, texts))
    }

    /// The decimal number that a reply consists of.
    static func number<N: FixedWidthInteger>(_ reply: [UInt8], as: N.Type = N.self) -> N? {
        N(String(decoding: reply.prefix { $0 != 0 }, as: UTF8.self))
    }

    /// As the other, for a request of this type; throws `.answer` if there is none.
    func number<N: FixedWidthInteger>(_ reply: [UInt8], _ type: MessageType) throws(XenStoreError) -> N {
        if let number: N = Self.number(reply) { return number }
        throw XenStoreError(.answer("no number"), type)
    }
}
