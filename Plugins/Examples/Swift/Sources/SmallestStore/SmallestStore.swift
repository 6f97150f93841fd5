// A store backend that appends every batch to a file. A batch in the file:
//
//     offset  size  meaning
//     0       8     the batch's number
//     8       8     bytes of its records, n
//     16      n     records

import Glibc
import XenStorePlugin

final class SmallestStore: StoreBackend {
    private let path: String
    private let file: Int32

    override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        path = options["path"]?.value ?? "/var/lib/xenstored/smallest"
        file = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0o600)
        if file < 0 {
            throw PluginFailure("\(path) cannot be opened: \(String(cString: strerror(errno)))", errno: errno)
        }
        if flock(file, LOCK_EX | LOCK_NB) != 0 {
            throw PluginFailure("\(path) cannot be locked: another process has it", errno: errno)
        }
        try super.init(host: host, options: options)
    }

    override func recover(
        _ receive: (UnsafeRawBufferPointer) throws(PluginFailure) -> Void
    ) throws(PluginFailure) -> UInt64 {
        var newest: UInt64 = 0
        var place = 0
        let size = Int(lseek(file, 0, SEEK_END))
        while size - place >= 16 {
            var head: (sequence: UInt64, count: UInt64) = (0, 0)
            guard pread(file, &head, 16, place) == 16, head.count <= UInt64(size - place - 16) else { break }
            let records = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(head.count), alignment: 8)
            defer { records.deallocate() }
            guard pread(file, records.baseAddress, records.count, place + 16) == records.count else {
                throw PluginFailure("\(path) cannot be read", errno: EIO)
            }
            try receive(UnsafeRawBufferPointer(records))
            newest = head.sequence
            place += 16 + records.count
        }
        // The daemon died while it wrote what follows, and nobody has seen it.
        if ftruncate(file, place) != 0 { throw PluginFailure("\(path) cannot be cut", errno: errno) }
        return newest
    }

    override func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome {
        let size = lseek(file, 0, SEEK_END)
        var batch = [UInt8]()
        withUnsafeBytes(of: (sequence, UInt64(records.count))) { batch.append(contentsOf: $0) }
        batch.append(contentsOf: records)
        let written = write(file, &batch, batch.count)
        if written == batch.count { return .final }
        let code = written < 0 ? errno : ENOSPC
        ftruncate(file, size)
        throw PluginFailure("\(path) cannot be written", errno: code)
    }

    override func close() { Glibc.close(file) }
}

public let smallestStore = Plugin(
    backend: SmallestStore.init, name: "smallest-store", version: "1.0",
    summary: "Appends every batch to a file.", isDurable: true,
    options: [OptionDescription("path", fallback: "/var/lib/xenstored/smallest", "the file")])
