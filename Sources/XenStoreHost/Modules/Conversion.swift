// Carrying a store from one backend's file to another's, while no daemon has either.
//
// The new file is made in a directory of its own beside its place, FILE.converting-XXXXXX, and takes its
// name last: whoever is killed meanwhile leaves that directory behind, and nothing under the new name.

import Glibc
import XenStore
import XenStoreTypes

/// One side of a conversion: a backend and its file.
public struct ConvertedStore: Sendable {
    /// The backend, and its options but `path`.
    public var choice: StoreChoice
    /// Absolute; the module's option `path`.
    public var file: String

    public init(_ choice: StoreChoice, file: String) {
        self.choice = choice
        self.file = file
    }

    fileprivate func choice(at path: String) -> StoreChoice {
        var choice = choice
        choice.options.insert(ModuleOption(Placed("path"), Placed(path)), at: 0)
        return choice
    }
}

/// A conversion of a whole store.
public struct Conversion {
    /// Bytes of a batch that it commits.
    private static let batchSize = 1 << 20

    private let from: ConvertedStore
    private let to: ConvertedStore
    private let log: Log

    /// What has been carried over.
    public struct Summary: Equatable, Sendable {
        public var nodes = 0
        public var notes = 0
        public var bytes = 0
        /// The newest batch's number, as the new file has it.
        public var sequence: UInt64 = 0
    }

    /// - Parameter log: where the modules' lines go.
    public init(from: ConvertedStore, to: ConvertedStore, log: Log) {
        (self.from, self.to, self.log) = (from, to, log)
    }

    /// Does it. `progress` is told how many records of how many the new file has.
    ///
    /// Fails, with nothing new under the new name, where a module keeps nothing or cannot open its file,
    /// where there is nothing to convert, where the new file is there already with something in it, and where
    /// the disk refuses.
    public func run(_ progress: (_ done: Int, _ all: Int) -> Void) throws(StartFailure) -> Summary {
        for side in [from, to] {
            let module = try side.choice.search.find(side.choice.backend)
            guard module.isDurable else {
                throw StartFailure(
                    "found \(module.name), which keeps nothing, expected a backend that has a file")
            }
        }
        guard access(from.file, F_OK) == 0 else { throw StartFailure(from.file, errno: errno) }
        try refuseContent(of: to.file)
        var tree = try StoredTree(from.choice(at: from.file), log)
        let folder = try ConversionFolder(beside: to.file)
        defer { folder.remove() }
        try write(&tree, folder.path + "/" + folder.name, progress)
        try folder.moveOut()
        return tree.summary
    }

    private func refuseContent(of path: String) throws(StartFailure) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 else {
            throw StartFailure("\(path): is there already, expected no such file or an empty one")
        }
    }

    private func write(
        _ tree: inout StoredTree, _ path: String, _ progress: (Int, Int) -> Void
    ) throws(StartFailure) {
        let backend = try ModuleBackend(to.choice(at: path), log: log) { _ in }
        defer { backend.close() }
        _ = try backend.recover { _ in true }
        let batches = tree.batches(of: Self.batchSize)
        // The newest batch keeps its number, which other files may know.
        let count = UInt64(batches.count)
        var sequence = tree.summary.sequence > count ? tree.summary.sequence - count : 0
        var done = 0
        for batch in batches {
            sequence += 1
            if case .failed(let code) = backend.commit(sequence, batch.bytes.span) {
                throw StartFailure(backend.failureReason ?? errorText(code))
            }
            done += batch.records
            progress(done, tree.summary.nodes + tree.summary.notes)
        }
        tree.summary.sequence = sequence
        if let failure = backend.flush?() { throw failure }
    }
}

/// Everything that a store holds, newest records only.
private struct StoredTree {
    var summary = Conversion.Summary()
    private var bytes: [UInt8] = []
    /// Where each key's record lies.
    private var newest: [[UInt8]: Range<Int>] = [:]

    init(_ choice: StoreChoice, _ log: Log) throws(StartFailure) {
        let backend = try ModuleBackend(choice, log: log) { _ in }
        defer { backend.close() }
        var (bytes, newest) = (bytes, newest)
        summary.sequence = try backend.recover { records in
            StoreRecord.forEach(in: records) { record in
                let key = Array(record.key)
                if record.kind == .put {
                    newest[key] = bytes.count..<bytes.count + record.bytes.count
                    bytes.append(contentsOf: record.bytes)
                } else {
                    newest[key] = nil
                }
            }
        }
        (self.bytes, self.newest) = (bytes, newest)
        for (key, range) in newest {
            if key[0] == StoreRecord.noteMark { summary.notes += 1 } else { summary.nodes += 1 }
            summary.bytes += range.count
        }
    }

    /// The records as batches of about `size` bytes, each node behind those above it. One at least, if there
    /// has ever been one.
    func batches(of size: Int) -> [(bytes: [UInt8], records: Int)] {
        var levels: [[Range<Int>]] = []
        for (key, range) in newest {
            let depth = key.count == 1 ? 0 : key.count { $0 == 0x2F }
            while levels.count <= depth { levels.append([]) }
            levels[depth].append(range)
        }
        var batches: [(bytes: [UInt8], records: Int)] = []
        var batch: (bytes: [UInt8], records: Int) = ([], 0)
        for level in levels {
            for range in level {
                batch.bytes.append(contentsOf: bytes[range])
                batch.records += 1
                guard batch.bytes.count >= size else { continue }
                batches.append(batch)
                batch = ([], 0)
            }
        }
        if batch.records > 0 || batches.isEmpty && summary.sequence > 0 { batches.append(batch) }
        return batches
    }
}

/// The directory that a new file is made in.
private final class ConversionFolder {
    let path: String
    /// The new file's, in it as later beside it.
    let name: String
    private let target: String

    init(beside target: String) throws(StartFailure) {
        self.target = target
        name = target.lastIndex(of: "/").map { String(target[target.index(after: $0)...]) } ?? target
        var template = Array((target + ".converting-XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else { throw StartFailure("\(target).converting", errno: errno) }
        path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    private var files: [String] { entries(of: path).filter { $0 != "." && $0 != ".." } }

    /// Gives every file in it its place beside it, the one that counts last. Fails with none of them there.
    func moveOut() throws(StartFailure) {
        let names = files.filter { $0 != name }.sorted() + [name]
        var moved: [String] = []
        do throws(StartFailure) {
            for file in names {
                let place = target + file.dropFirst(name.count)
                guard file.hasPrefix(name) else {
                    throw StartFailure("\(path)/\(file): expected files whose names begin with \(name)")
                }
                var status = stat()
                if file == name, lstat(place, &status) == 0, status.st_size == 0 { unlink(place) }
                // Never over a file that is there.
                guard link("\(path)/\(file)", place) == 0 else { throw StartFailure(place, errno: errno) }
                moved.append(place)
            }
        } catch {
            for place in moved { unlink(place) }
            throw error
        }
        let end = target.lastIndex(of: "/") ?? target.startIndex
        let directory = open(
            end == target.startIndex ? "/" : String(target[..<end]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
    }

    func remove() {
        for file in files { unlink("\(path)/\(file)") }
        rmdir(path)
    }
}
