// Why a request has no result.

import Glibc
public import XenStoreTypes

/// A request that failed: which one it was, on what, and why.
///
/// Cancelled tasks get Swift's own `CancellationError` instead.
public struct XenStoreError: Error, Hashable, Sendable {
    public enum Cause: Error, Hashable, Sendable {
        /// The daemon said no.
        case refused(ErrorName)
        /// The daemon said no, with a name that the specification does not have, as `EQUOTA` of oxenstored.
        case refusedOtherwise(String)
        /// The connection is gone, and with it its watches and transactions. Whether the request was carried
        /// out is not known. Every later request on the same client fails for the same reason.
        case connectionLost(ConnectionLoss)
        /// No connection could be made: what was tried, and why it failed.
        case notConnected(String)
        /// The request was not sent, since it cannot be said on the wire: a NUL in a string, or more than
        /// 4096 bytes.
        case unsendable(String)
        /// The request was not sent, since the peer has not read those before it: more than
        /// `XenStoreOptions.unsentMax` bytes would wait.
        case tooMuchUnsent
        /// The reply is none that this request can have. The connection goes on.
        case answer(String)
        /// The transaction has ended: its closure has returned.
        case transactionEnded
    }

    public var cause: Cause
    /// Nil: there was no request yet.
    public var request: MessageType?
    /// The node that the request was about, as the caller wrote it; nil where it was about none.
    public var path: String?

    public init(_ cause: Cause, _ request: MessageType? = nil, path: String? = nil) {
        self.cause = cause
        self.request = request
        self.path = path
    }

    /// What the daemon refused the request with; nil if that is not why it failed.
    public var errorName: ErrorName? {
        if case .refused(let name) = cause { return name }
        return nil
    }
}

/// How a connection ended.
public enum ConnectionLoss: Hashable, Sendable {
    /// `XenStoreClient.close()` was called, or the client is no longer there.
    case closed
    /// The daemon closed it; `inMessage`: after the first byte of a message and before its last.
    case closedByPeer(inMessage: Bool)
    /// The daemon broke the protocol, in these words.
    case violation(String)
    /// A system call failed with this errno.
    case system(Int32)
    /// The peer has taken no byte of what waits for it for `XenStoreOptions.patience`.
    case stalled
    /// A ring's daemon has cut the connection off; the error word of the page (specification, section B).
    case ringError(UInt32)
    /// The domain whose ring it was is dying or gone.
    case domainGone
}

extension XenStoreError: CustomStringConvertible {
    /// One line: `read /a/b: ENOENT`.
    public var description: String {
        let what = [request.map { "\($0)" }, path].compactMap { $0 }.joined(separator: " ")
        return what.isEmpty ? "\(cause)" : "\(what): \(cause)"
    }
}

extension XenStoreError.Cause: CustomStringConvertible {
    public var description: String {
        switch self {
        case .refused(let name): "\(name.name)"
        case .refusedOtherwise(let name): name
        case .connectionLost(let loss): "the connection is lost: \(loss)"
        case .notConnected(let why): "no connection: \(why)"
        case .unsendable(let why): "not sent: \(why)"
        case .tooMuchUnsent: "not sent: the daemon does not read what was sent before"
        case .answer(let what): "an answer that makes no sense: \(what)"
        case .transactionEnded: "the transaction has ended"
        }
    }

    /// What the payload of an ERROR reply says.
    init(errorReply payload: [UInt8]) {
        let text = String(decoding: payload.prefix { $0 != 0 }, as: UTF8.self)
        if let name = ErrorName.allCases.first(where: { $0.name.description == text }) {
            self = .refused(name)
        } else {
            self = .refusedOtherwise(text)
        }
    }

    /// What a device says by failing a write(2), where a socket would have brought an ERROR reply.
    init(errno code: Int32) {
        let names: [Int32: ErrorName] = [
            EINVAL: .inval, EACCES: .acces, EEXIST: .exist, EISDIR: .isdir, ENOENT: .noent, ENOMEM: .nomem,
            ENOSPC: .nospc, EIO: .io, ENOTEMPTY: .notempty, ENOSYS: .nosys, EROFS: .rofs, EBUSY: .busy,
            EAGAIN: .again, EISCONN: .isconn, E2BIG: .toobig, EPERM: .perm,
        ]
        self = names[code].map { .refused($0) } ?? .refusedOtherwise(errorText(code))
    }
}

extension ConnectionLoss: CustomStringConvertible {
    public var description: String {
        switch self {
        case .closed: "it was closed here"
        case .closedByPeer(let inMessage):
            "the daemon closed it" + (inMessage ? " in the middle of a message" : "")
        case .violation(let what): "the daemon broke the protocol: \(what)"
        case .system(let code): errorText(code)
        case .stalled: "the daemon does not read"
        case .ringError(let code): "the daemon has cut off the ring (error \(code))"
        case .domainGone: "the domain is gone"
        }
    }
}
