// One tdb file, through libtdb. Unsafe code: libtdb's pointers end here.
//
// libtdb locks with fcntl, which ends for the whole process as soon as it closes any descriptor of the file:
// while a `TDBFile` is open, nothing else in the process may open and close that file. Of two daemons the
// write-ahead log keeps one out: a flock of this file would outlive tdb_close, since libtdb 1.4 forgets
// mappings of a file that has grown.

import CTDB
import Glibc
import XenStorePlugin

/// An open tdb file. Used by one thread at a time.
final class TDBFile {
    /// A chain for every 16 nodes of a million: 256 KiB, of which a small tree touches a few pages.
    static let chains: Int32 = 65_521

    /// libtdb keeps a list of all open files, which no lock of its own guards.
    private static let openFiles = Lock()

    let path: String
    private let listener: Listener
    private let tdb: OpaquePointer
    private var isOpen = true

    /// What libtdb has said last, for the messages of failures.
    private final class Listener {
        let pointer = UnsafeMutablePointer<tdb_listener>.allocate(capacity: 1)
        var last = ""

        init() {
            pointer.initialize(to: tdb_listener())
            pointer.pointee.world = Unmanaged.passUnretained(self).toOpaque()
            pointer.pointee.heard = { world, _, text in
                guard let world, let text else { return }
                let listener = Unmanaged<Listener>.fromOpaque(world).takeUnretainedValue()
                listener.last = String(cString: text).filter { $0 != "\n" }
            }
        }

        deinit { pointer.deallocate() }
    }

    /// Opens the file at `path`, whose header is sound, and finishes a commit that was cut short; or, with
    /// `creating`, makes it, where nothing may be yet.
    ///
    /// - Parameter syncing: commits are written to the disk before they are done.
    init(_ path: String, creating: Bool = false, syncing: Bool) throws(PluginFailure) {
        self.path = path
        listener = Listener()
        let flags = TDB_DISALLOW_NESTING | (syncing ? 0 : TDB_NOSYNC)
        let how = O_RDWR | O_NOFOLLOW | O_CLOEXEC | (creating ? O_CREAT | O_EXCL : 0)
        let (opened, code) = Self.openFiles.locked { [listener] in
            errno = 0
            return (tdb_open_heard(path, Self.chains, flags, how, 0o600, listener.pointer), errno)
        }
        guard let tdb = opened else {
            let said = listener.last.isEmpty ? errorText(code) : listener.last
            throw PluginFailure("\(path): cannot be opened: \(said)", errno: code == 0 ? EIO : code)
        }
        self.tdb = tdb
    }

    deinit { close() }

    /// Lets go of the file. Nothing may be asked of it afterwards; the second time nothing happens.
    func close() {
        if isOpen { _ = Self.openFiles.locked { tdb_close(tdb) } }
        isOpen = false
    }

    // MARK: Locks

    /// Locks the whole file if no other process has a lock on any of it.
    func tryLock() -> Bool { tdb_lockall_nonblock(tdb) == 0 }
    func unlock() { tdb_unlockall(tdb) }

    // MARK: Records

    /// Calls `body` with the value of `key`, lent for the call, or nil if there is none.
    ///
    /// Throws where the file is damaged.
    func fetch<R>(
        _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) throws(PluginFailure) -> R
    ) throws(PluginFailure) -> R {
        let found = tdb_fetch(tdb, Self.lent(key))
        guard let start = found.dptr else {
            let code = tdb_error(tdb)
            guard code == TDB_ERR_NOEXIST || code == TDB_SUCCESS else { throw failure("cannot be read") }
            return try body(nil)
        }
        defer { free(start) }
        return try body(UnsafeRawBufferPointer(start: start, count: found.dsize))
    }

    /// Puts a value under a key. Throws if the disk is full or fails, or the file is damaged.
    ///
    /// - Parameter isNew: there is none under this key yet, as the caller has seen.
    func store(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, isNew: Bool
    ) throws(PluginFailure) {
        guard tdb_store(tdb, Self.lent(key), Self.lent(value), isNew ? TDB_INSERT : TDB_REPLACE) == 0 else {
            throw failure("cannot be written")
        }
    }

    /// Removes a key that is there.
    func remove(_ key: UnsafeRawBufferPointer) throws(PluginFailure) {
        guard tdb_delete(tdb, Self.lent(key)) == 0 else { throw failure("cannot be written") }
    }

    private static func lent(_ bytes: UnsafeRawBufferPointer) -> TDB_DATA {
        // libtdb takes no pointer to constant bytes, but does not write to them.
        let start = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        return TDB_DATA(dptr: start?.assumingMemoryBound(to: UInt8.self), dsize: bytes.count)
    }

    // MARK: Transactions

    enum Outcome { case done, locked }

    /// Runs `body` in a transaction: all that it does is in the file then, or nothing of it.
    ///
    /// Returns `.locked`, without a change and at once, where another process has locked the file. (One that
    /// locks it after that has been found out is waited for.) Throws what `body` throws, and where the
    /// commit fails.
    func transaction(_ body: () throws(PluginFailure) -> Void) throws(PluginFailure) -> Outcome {
        guard tryLock() else { return .locked }
        unlock()
        guard tdb_transaction_start_nonblock(tdb) == 0 else {
            let code = tdb_error(tdb)
            if code == TDB_ERR_LOCK || code == TDB_ERR_NOLOCK { return .locked }
            throw failure("cannot begin a transaction")
        }
        do throws(PluginFailure) {
            try body()
        } catch {
            tdb_transaction_cancel(tdb)
            throw error
        }
        errno = 0
        guard tdb_transaction_commit(tdb) == 0 else { throw failure("cannot commit") }
        return .done
    }

    // MARK: All of it

    /// Takes a key and a value, lent for the call. False: it is not as it should be.
    typealias Visit = (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool

    /// A `Visit` on its way through C, and whether it has ever said false.
    private final class Visitor {
        let visit: Visit
        var isContent = true
        init(_ visit: @escaping Visit) { self.visit = visit }

        func see(_ key: TDB_DATA, _ value: TDB_DATA) -> Bool {
            let seen = visit(
                UnsafeRawBufferPointer(start: key.dptr, count: key.dsize),
                UnsafeRawBufferPointer(start: value.dptr, count: value.dsize))
            if !seen { isContent = false }
            return seen
        }
    }

    private static func visitor(_ pointer: UnsafeMutableRawPointer?) -> Visitor {
        Unmanaged<Visitor>.fromOpaque(pointer.unsafelyUnwrapped).takeUnretainedValue()
    }

    /// Whether the file's whole structure holds, and `visit` is content with every record. Locked meanwhile.
    func isSound(_ visit: Visit) -> Bool {
        withoutActuallyEscaping(visit) { visit in
            let visitor = Visitor(visit)
            let world = Unmanaged.passUnretained(visitor).toOpaque()
            return tdb_check(tdb, { TDBFile.visitor($2).see($0, $1) ? 0 : -1 }, world) == 0
        }
    }

    /// Hands every record to `visit`, until it returns false. False if it has, or the file is damaged.
    func visitAll(_ visit: Visit) -> Bool {
        withoutActuallyEscaping(visit) { visit in
            let visitor = Visitor(visit)
            let world = Unmanaged.passUnretained(visitor).toOpaque()
            let count = tdb_traverse_read(tdb, { TDBFile.visitor($3).see($1, $2) ? 0 : 1 }, world)
            return count >= 0 && visitor.isContent
        }
    }

    /// Hands to `visit` whatever looks like a record anywhere in the file, which is damaged.
    func rescue(_ visit: Visit) {
        withoutActuallyEscaping(visit) { visit in
            let visitor = Visitor(visit)
            let world = Unmanaged.passUnretained(visitor).toOpaque()
            tdb_rescue(tdb, { _ = TDBFile.visitor($2).see($0, $1) }, world)
        }
    }

    /// Bytes of the file.
    var size: Int { tdb_map_size(tdb) }

    /// What libtdb has last failed of.
    private func failure(_ what: String) -> PluginFailure {
        let kind = tdb_error(tdb)
        let code = kind == TDB_ERR_OOM ? ENOMEM : errno == ENOSPC ? ENOSPC : EIO
        let said = listener.last.isEmpty ? String(cString: tdb_errorstr(tdb)) : listener.last
        listener.last = ""
        return PluginFailure("\(path): \(what): \(said)", errno: code)
    }
}
