// The error names of the wire (specification, section A): all that an ERROR reply can say.

/// Why a request was refused. The case is the errno's name without its E.
public enum ErrorName: UInt8, Error, Sendable, CaseIterable {
    case inval, acces, exist, isdir, noent, nomem, nospc, io, notempty, nosys, rofs, busy, again, isconn
    case toobig, perm

    /// The name as it stands in an ERROR reply, without the closing NUL: `EINVAL`.
    public var name: StaticString {
        switch self {
        case .inval: "EINVAL"
        case .acces: "EACCES"
        case .exist: "EEXIST"
        case .isdir: "EISDIR"
        case .noent: "ENOENT"
        case .nomem: "ENOMEM"
        case .nospc: "ENOSPC"
        case .io: "EIO"
        case .notempty: "ENOTEMPTY"
        case .nosys: "ENOSYS"
        case .rofs: "EROFS"
        case .busy: "EBUSY"
        case .again: "EAGAIN"
        case .isconn: "EISCONN"
        case .toobig: "E2BIG"
        case .perm: "EPERM"
        }
    }
}
