// A file of checksummed frames that outlives the process at any instruction.
//
// A frame is there as a whole or not at all: its length is stored last, into a shared mapping of blocks that
// are allocated already, so that appending neither enters the kernel nor can run out of disk. What the page
// cache holds survives the process; what has been synced survives the host. Frame.swift has the layout.
//
// One thread appends. Others may prepare, sync, and read what has been appended, at the same time.

import CLinux
import Glibc

/// An open log. It is closed with its last reference.
public final class RecordLog: @unchecked Sendable {
    /// The name of a successor of the log `name`.
    static func successorName(_ name: String) -> String { name + ".new" }

    /// Changed with `lock` held, by the thread that appends.
    @exclusivity(unchecked) private var tail: LogTail
    @exclusivity(unchecked) private var isReplayed: Bool
    private let lock: UnsafeMutablePointer<pthread_mutex_t>

    /// Opens the log at `path`, or makes it, and locks it against other processes.
    ///
    /// `kind` says what the frames hold, in 8 ASCII characters. `chunk` is how many bytes are allocated and
    /// mapped at a time. Throws, with the file untouched, when it is no regular file of our own user, when
    /// somebody else may write it, when another process has it open (EWOULDBLOCK), when it is no log of this
    /// kind, or of a newer format (EPROTO); and when the directory or the disk refuses.
    public convenience init(_ path: String, kind: String, chunk: Int = 1 << 20) throws(LogFailure) {
        precondition(kind.utf8.count == 8 && kind.utf8.allSatisfy { $0 < 0x80 })
        let place = try LogPlace(path)
        let file = try LogFile(place, kind: Array(kind.utf8))
        // Left by a process that died before it could take the log's place.
        place.remove(Self.successorName(place.name))
        self.init(try LogTail(file, end: LogHead.pageSize, chunk: chunk), isReplayed: false)
    }

    init(_ tail: LogTail, isReplayed: Bool) {
        self.tail = tail
        self.isReplayed = isReplayed
        lock = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    /// What `count` and `room` are.
    public struct Fill: Sendable {
        public let count: Int
        public let room: Int
    }

    /// Adds a frame. It is final against the death of the process when this returns.
    ///
    /// Throws with nothing appended: ENOSPC, EDQUOT or EFBIG where there is no room for it, EMSGSIZE above
    /// 1 GiB, EIO for good when somebody else has cut the file short. The log must have been replayed.
    public func append(_ sequence: UInt64, _ payload: UnsafeRawBufferPointer) throws(LogFailure) {
        precondition(isReplayed, "append before replay")
        try tail.append(sequence, payload)
    }

    /// Both at once, for the thread that appends, and at no cost.
    public var fill: Fill { tail.fill }

    /// Bytes of frames in the log, their heads and what fills them up to a multiple of 8 included.
    public var count: Int { shared.fill.count }

    /// Bytes of payload that one append is sure to take now.
    public var room: Int { shared.fill.room }

    /// Makes sure that `room` is at least `bytes`, so that append needs neither to allocate nor to map.
    ///
    /// Any thread, but not the same time as itself. Throws when the disk has no room for that (`isFull`).
    public func prepare(_ bytes: Int) throws(LogFailure) {
        let tail = shared
        try tail.prepare(to: tail.end + Frame.headSize + Frame.padded(bytes))
    }

    /// Makes the pages that the next `bytes` will be stored in writable, so that append has no page fault to
    /// wait for: after `prepare`, and again after `sync`, which makes written pages read-only. It makes them
    /// dirty too, so ask for as much as is likely to come. Any thread.
    public func warm(_ bytes: Int) { shared.warm(bytes) }

    /// Makes what had been appended when this was called proof against the death of the host. Any thread.
    ///
    /// Throws when the disk refuses, or (EIO) when somebody else has cut the file short.
    public func sync() throws(LogFailure) {
        let tail = shared
        let end = tail.end
        try tail.file.sync()
        if try tail.file.size() < end {
            throw LogFailure(EIO, "\(path): has been cut short by somebody else")
        }
    }

    /// Lets go of the file, while no other thread uses the log. Nothing but `count` may be asked afterwards.
    public func close() {
        isReplayed = false
        tail.file.close()
    }

    /// As it was given.
    public var path: String { shared.file.place.path }

    /// The tail, for threads other than the one that appends.
    var shared: LogTail {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return tail
    }

    // MARK: Taking another's place

    /// Makes an empty log `PATH.new`, which can take this one's place. Any thread may append to it, one at a
    /// time. There is one at a time: a second one takes the first one's name from it.
    public func successor() throws(LogFailure) -> RecordLog {
        let tail = shared
        let file = try LogFile(successor: Self.successorName(tail.file.place.name), of: tail.file)
        return RecordLog(try LogTail(file, end: LogHead.pageSize, chunk: tail.chunk), isReplayed: true)
    }

    /// Gives this log, a successor, the name of the log that it was made for. At no instant does the name
    /// lead to neither. Sync the log before, and its directory after, where both must outlive the host.
    ///
    /// Any thread. The log that has lost its name can still be appended to, read and synced; it is gone with
    /// its last reference. Throws with the name unchanged.
    public func takeName() throws(LogFailure) {
        let place = shared.file.place
        guard renameat(place.directory, Self.successorName(place.name), place.directory, place.name) == 0
        else { throw LogFailure(place.path, "cannot take the place of the old log", errno) }
    }

    /// Makes the log's name proof against the death of the host, as `sync` does for what is in it.
    public func syncDirectory() throws(LogFailure) { try shared.file.place.sync() }

    /// Removes the file of a successor that will take nobody's place.
    public func abandon() { shared.file.place.remove(Self.successorName(shared.file.place.name)) }

    /// Puts `successor` in this log's place (`takeName`) and goes on in it. By the thread that appends.
    ///
    /// `successor` then stands for the old file, whose blocks are freed with its last reference: that may
    /// take a while, on a thread of the caller's choice. `durably`: what is in the successor is synced
    /// before, and the name after. Throws with nothing replaced, unless only that last sync has failed.
    public func replace(by successor: RecordLog, durably: Bool) throws(LogFailure) {
        if durably { try successor.sync() }
        try successor.takeName()
        let next = successor.shared
        pthread_mutex_lock(lock)
        let old = tail
        tail = next
        pthread_mutex_unlock(lock)
        pthread_mutex_lock(successor.lock)
        successor.tail = old
        pthread_mutex_unlock(successor.lock)
        if durably { try syncDirectory() }
    }

    /// Bytes that the log could still grow by, beyond what is allocated: what the file system has left for
    /// everybody, and the limit of a file's size allows.
    public var free: Int {
        let tail = shared
        var system = statvfs()
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
        guard fstatvfs(tail.file.descriptor, &system) == 0 else { return 0 }
        let allowed = Int(clamping: UInt64(limit.rlim_cur)) - tail.allocated
        return max(0, min(Int(system.f_bavail) * Int(system.f_frsize), allowed))
    }

    // MARK: Reading it again

    /// What `replay` found.
    public struct Replay: Equatable, Sendable {
        /// Frames that were proved, and their bytes.
        public var frames = 0
        public var bytes = 0
        /// Bytes behind them that were no frame, and are no longer in the log.
        public var cut = 0
        /// The file that keeps those; nil if they were a frame that nobody had been told of.
        public var setAside: String?

        public init(frames: Int = 0, bytes: Int = 0, cut: Int = 0, setAside: String? = nil) {
            (self.frames, self.bytes, self.cut, self.setAside) = (frames, bytes, cut, setAside)
        }
    }

    /// Hands over every frame in order, once, before anything is appended. The payload is lent for the call.
    ///
    /// What stands behind the last proved frame is cut: a frame that was never finished, or damage, which is
    /// copied to `PATH.damaged-N` first. Throws what `body` throws, and when the disk refuses; then
    /// nothing is cut.
    @discardableResult
    public func replay(
        _ body: (_ sequence: UInt64, _ payload: UnsafeRawBufferPointer) throws(LogFailure) -> Void
    ) throws(LogFailure) -> Replay {
        precondition(!isReplayed, "replay comes once")
        let old = tail
        let (found, end) = try Recovery(old.file).run(body)
        let tail = try LogTail(old.file, end: end, chunk: old.chunk)
        pthread_mutex_lock(lock)
        self.tail = tail
        pthread_mutex_unlock(lock)
        isReplayed = true
        // A full disk is the next append's matter.
        do throws(LogFailure) { try prepare(1) } catch  where error.isFull {}
        return found
    }

    /// Hands over the frames from byte `start` of `count` to byte `end`, both ends of frames, on any thread
    /// while others are appended. Throws EUCLEAN where one of them is damaged, and what `body` throws.
    public func forEach(
        from start: Int, to end: Int,
        _ body: (_ sequence: UInt64, _ payload: UnsafeRawBufferPointer) throws(LogFailure) -> Void
    ) throws(LogFailure) {
        let file = shared.file
        let (first, last) = (LogHead.pageSize + start, LogHead.pageSize + end)
        var reader = try FrameReader(file, from: first, to: last)
        while reader.position < last {
            guard case .frame(let sequence, let bytes) = try reader.next() else {
                throw LogFailure(EUCLEAN, "\(path): damaged at byte \(reader.position)")
            }
            try body(sequence, UnsafeRawBufferPointer(rebasing: bytes[Frame.headSize...]))
        }
    }
}
