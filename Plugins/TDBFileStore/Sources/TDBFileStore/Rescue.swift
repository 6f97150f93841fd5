// What can be proved good of a damaged tdb file.
//
// libtdb looks for records in a copy, never in the file itself: whatever has a record's form, and a key that
// belongs to its hash. Of those the ones count that decode as a node or a note. Where there are several of
// one key, the one of the newest change counts, and a node counts only if all nodes above it do (the
// root is taken for granted).

import Glibc
import XenStorePlugin
import XenStoreTypes

/// The good records of a damaged file.
final class Rescue {
    private(set) var nodes = 0
    private(set) var notes = 0
    /// What had a record's form, and is not kept.
    private(set) var dropped = 0
    /// The newest batch that the file knew of; 0 where it could not be found out.
    private(set) var batch: UInt64 = 0

    private let found = ByteBuffer()
    private var places: [(key: Range<Int>, value: Range<Int>)] = []
    private let keys = KeyTable()
    /// For each key, which of `places` counts.
    private var chosen: [Int] = []

    /// Throws where no copy can be made, or a newer daemon wrote the file.
    init(_ path: String) throws(PluginFailure) {
        let copy = path + ".rescue"
        defer { unlink(copy) }
        try Self.copy(path, to: copy)
        var newer: PluginFailure?
        if let file = Self.open(copy) {
            let listed = ListedNodes(file)
            file.rescue { key, value in
                if Applied.isKey(key) {
                    do throws(PluginFailure) {
                        self.batch = max(self.batch, try Applied.decode(value, path) ?? 0)
                    } catch { newer = error }
                } else if Opening.isRecord(key, value), listed.areForeign == false || listed.names(key) {
                    self.keep(key, value)
                } else {
                    self.dropped += 1
                }
                return true
            }
        }
        if let newer { throw newer }
        choose()
    }

    /// Hands the nodes and notes over as one batch.
    func give(to group: Group) {
        var batch = ByteBuffer()
        var packed: [UInt8] = []
        for number in 0..<keys.count where isWhole(keys[number]) {
            guard let record = NodeRecord(value(chosen[number])) else { continue }
            packed.removeAll(keepingCapacity: true)
            record.append(to: &packed, key: keys[number])
            packed.withUnsafeBytes { batch.append($0) }
            if keys[number][0] == StoreRecord.noteMark { notes += 1 } else { nodes += 1 }
        }
        dropped += places.count - nodes - notes
        group.take(&batch, through: 1)
    }

    private func keep(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        let start = found.count
        found.append(key)
        found.append(value)
        let middle = start + key.count
        places.append((start..<middle, middle..<found.count))
    }

    private func value(_ place: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: found.bytes[places[place].value])
    }

    private func choose() {
        for (place, bytes) in places.enumerated() {
            let number = keys.number(of: UnsafeRawBufferPointer(rebasing: found.bytes[bytes.key]))
            if number == chosen.count {
                chosen.append(place)
            } else if let new = NodeRecord(value(place)), let old = NodeRecord(value(chosen[number])),
                new.generation > old.generation
            {
                chosen[number] = place
            }
        }
    }

    /// Whether every node above this one is there too.
    private func isWhole(_ key: UnsafeRawBufferPointer) -> Bool {
        var path = key
        while let above = parentPath(of: path), above.count > 1 {
            if !keys.contains(above) { return false }
            path = above
        }
        return true
    }

    // MARK: The copy

    private static func copy(_ path: String, to copy: String) throws(PluginFailure) {
        unlink(copy)
        let from = Glibc.open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        let to = Glibc.open(copy, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        defer {
            if from >= 0 { close(from) }
            if to >= 0 { close(to) }
        }
        let block = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { block.deallocate() }
        while from >= 0, to >= 0 {
            let count = read(from, block, 1 << 20)
            if count == 0 { return }
            guard count > 0, write(to, block, count) == count else { break }
        }
        throw PluginFailure("\(path): cannot be copied to \(copy): \(errorText(errno))", errno: errno)
    }

    /// The copy as libtdb will open it: as it is, or else with a header that claims no more than a free list
    /// and one chain. Nil: there is nothing to be found in it.
    private static func open(_ copy: String) -> TDBFile? {
        do throws(PluginFailure) {
            if try TDBHeader.inspect(copy) == .sound { return try TDBFile(copy, syncing: false) }
        } catch {}
        let header = ByteBuffer()
        let bytes = header.extend(TDBHeader.size + 8)
        memset(bytes, 0, TDBHeader.size + 8)
        TDBHeader.magic.withUnsafeBytes { bytes.copy($0) }
        bytes.little(TDBHeader.version, 32)
        bytes.little(UInt32(1), 36)
        let descriptor = Glibc.open(copy, O_RDWR | O_CLOEXEC)
        let count = pwrite(descriptor, bytes, header.count, 0)
        close(descriptor)
        guard count == header.count else { return nil }
        do throws(PluginFailure) { return try TDBFile(copy, syncing: false) } catch { return nil }
    }
}

/// Which nodes a file's lists of children name: how an earlier xenstored told its nodes from what a crash had
/// left behind. A file of ours needs no such proof, since its transactions are whole.
final class ListedNodes {
    /// The file is not one of ours.
    let areForeign: Bool
    /// What is wrong: a node that no list names, or a name without a node. Nil in a file of ours.
    private(set) var disagreement: String?

    private let names = KeyTable()
    private let bytes = ByteBuffer()

    init(_ file: TDBFile) {
        var isOurs = false
        do throws(PluginFailure) { isOurs = try Applied.read(from: file) != nil } catch { isOurs = true }
        areForeign = !isOurs
        if areForeign { collect(file) }
    }

    /// Whether a list names this node, or it needs none: the root, and what is no path.
    func names(_ key: UnsafeRawBufferPointer) -> Bool {
        parentPath(of: key) == nil || names.contains(key)
    }

    private func collect(_ file: TDBFile) {
        var ends: [Int] = []
        var listed = 0
        _ = file.visitAll { key, value in
            guard isNodeKey(key), let node = NodeRecord(value) else { return true }
            node.forEachChild { name in
                self.bytes.append(key)
                if key.count > 1 { self.bytes.append(byte: 0x2F) }
                self.bytes.append(name)
                ends.append(self.bytes.count)
            }
            return true
        }
        var start = 0
        for end in ends {
            _ = names.number(of: bytes.bytes.part(start, end - start))
            start = end
        }
        _ = file.visitAll { key, _ in
            guard parentPath(of: key) != nil else { return true }
            if self.names.contains(key) {
                listed += 1
            } else if self.disagreement == nil {
                self.disagreement = "no list of children names \"\(key.shown)\""
            }
            return true
        }
        if disagreement == nil, listed != names.count {
            disagreement = "\(names.count - listed) names in lists of children have no node"
        }
    }
}
