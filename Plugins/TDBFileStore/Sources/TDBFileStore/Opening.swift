// Opening the tdb file: a new one, a sound one, or what can be proved good of a damaged one.
//
// A file that is not sound is never written to. It gets a second name, PATH.damaged-N; what is good in it
// goes to a file of its own, PATH.new, which then takes the name PATH. A process that dies meanwhile leaves
// the damaged file where it was.

import Glibc
import XenStorePlugin
import XenStoreTypes

/// An open store file, and how it came to be open.
struct Opening {
    let file: TDBFile
    /// It is made of what was good in a damaged one, so that something may be missing.
    let isRescued: Bool

    /// How long a start waits for other processes' locks, in nanoseconds.
    private static let patience: UInt64 = 10_000_000_000

    /// Opens the file at `path`, or makes it.
    ///
    /// Throws where it must not be touched (`TDBHeader.inspect`), is a newer daemon's, or stays locked for
    /// 10 seconds.
    init(_ path: String, syncing: Bool, host: PluginHost) throws(PluginFailure) {
        var damage: String?
        switch try TDBHeader.inspect(path) {
        case .missing, .empty: try Self.create(path, Group(), batch: 0, syncing: syncing)
        case .sound: break
        case .damaged(let what): damage = what
        }
        if damage == nil {
            do throws(PluginFailure) {
                let file = try TDBFile(path, syncing: syncing)
                damage = try Self.check(file, host)
                if damage == nil {
                    (self.file, isRescued) = (file, false)
                    return
                }
            } catch {
                guard error.code == EIO || error.code == EINVAL else { throw error }
                damage = error.reason
            }
        }
        try Self.replace(path, because: damage ?? "", syncing: syncing, host)
        file = try TDBFile(path, syncing: syncing)
        isRescued = true
    }

    /// Locks the file, once no other process has a lock on it; 10 seconds are waited for that.
    static func lock(_ file: TDBFile, _ host: PluginHost) throws(PluginFailure) {
        let begin = monotonicNow()
        var isTold = false
        while !file.tryLock() {
            guard monotonicNow() - begin < patience else {
                throw PluginFailure("\(file.path): locked by another process", errno: EWOULDBLOCK)
            }
            if !isTold { host.log(.notice, "\(file.path): waits for another process's lock") }
            isTold = true
            usleep(20_000)
        }
    }

    /// What is wrong with the file; nil if nothing is.
    private static func check(_ file: TDBFile, _ host: PluginHost) throws(PluginFailure) -> String? {
        try lock(file, host)
        defer { file.unlock() }
        let isOurs = try Applied.read(from: file) != nil
        var wrong: String?
        let isSound = file.isSound { key, value in
            if isRecord(key, value) || Applied.isKey(key) && value.count == 16 { return true }
            wrong = "the record \"\(key.shown)\" is not one of a node"
            return false
        }
        if !isSound { return wrong ?? "its structure is damaged" }
        return isOurs ? nil : ListedNodes(file).disagreement
    }

    /// Whether this may be a node or a note.
    static func isRecord(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        guard !Applied.isKey(key), NodeRecord(value) != nil else { return false }
        return isNodeKey(key) || key.first == StoreRecord.noteMark && key.count <= StoreRecord.keyMax
    }

    // MARK: Making a file

    /// Makes a file with what the group holds, and gives it the name `path`, whatever has that name now.
    static func create(
        _ path: String, _ group: Group, batch: UInt64, syncing: Bool
    ) throws(PluginFailure) {
        let new = path + ".new"
        unlink(new)
        try fill(new, group, batch, syncing)
        guard rename(new, path) == 0 else {
            throw PluginFailure("\(path): cannot be put in place: \(errorText(errno))", errno: errno)
        }
        if syncing { try syncDirectory(of: path) }
    }

    private static func fill(
        _ new: String, _ group: Group, _ batch: UInt64, _ syncing: Bool
    ) throws(PluginFailure) {
        let file = try TDBFile(new, creating: true, syncing: syncing)
        let outcome = try file.transaction { () throws(PluginFailure) in
            try group.apply(to: file)
            try Applied.write(batch, to: file)
        }
        guard outcome == .done else {
            throw PluginFailure("\(new): locked by another process", errno: EWOULDBLOCK)
        }
    }

    private static func syncDirectory(of path: String) throws(PluginFailure) {
        let end = path.lastIndex(of: "/")
        let name = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { if directory >= 0 { close(directory) } }
        guard directory >= 0, fsync(directory) == 0 else {
            throw PluginFailure("\(name): cannot be synced: \(errorText(errno))", errno: errno)
        }
    }

    // MARK: Rescue

    /// Puts what is good of the damaged file at `path` in its place.
    private static func replace(
        _ path: String, because reason: String, syncing: Bool, _ host: PluginHost
    ) throws(PluginFailure) {
        host.log(.error, "\(path): damaged: \(reason)")
        let rescue = try Rescue(path)
        let aside = try keepUnderAnotherName(path)
        let group = Group()
        rescue.give(to: group)
        try create(path, group, batch: rescue.batch, syncing: syncing)
        host.log(
            .error,
            "\(path): \(rescue.nodes) nodes and \(rescue.notes) notes could be proved good and are kept; "
                + "\(rescue.dropped) records could not; the damaged file is kept as \(aside)")
    }
}
