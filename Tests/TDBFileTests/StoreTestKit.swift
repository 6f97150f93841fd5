// What the tests of the tdb file share: a directory, a host for the module, generated histories, and the tree
// that they should lead to.

import CXenStorePlugin
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

@testable import TDBFileStore

/// A directory that goes away with this object.
final class TestDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/xenstored-tdb.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
    }

    deinit { remove() }

    /// For those who end the process, and so never see the end of its scope.
    func remove() { try? FileManager.default.removeItem(atPath: path) }

    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    static func / (directory: TestDirectory, name: String) -> String { directory.path + "/" + name }
}

/// What a module under test says to its host.
final class Listener: @unchecked Sendable {
    let host: PluginHost
    private let calls = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)
    private let lock = NSLock()
    private var said: [String] = []
    private var final: UInt64 = 0

    var lines: [String] { lock.withLock { said } }
    var committed: UInt64 { lock.withLock { final } }

    init() {
        var calls = xenstore_host()
        calls.size = UInt32(MemoryLayout<xenstore_host>.size)
        calls.log = { world, _, text, count in
            let line = String(decoding: UnsafeRawBufferPointer(start: text, count: count), as: UTF8.self)
            let listener = Listener.of(world)
            listener.lock.withLock { listener.said.append(line) }
        }
        calls.clock = { _ in monotonicNow() }
        calls.committed = { world, sequence in
            let listener = Listener.of(world)
            listener.lock.withLock {
                precondition(sequence > listener.final, "told in order, once each")
                listener.final = sequence
            }
        }
        self.calls.initialize(to: calls)
        host = PluginHost(self.calls)
        // Lives as long as the process: a thread may still be speaking.
        self.calls.pointee.world = Unmanaged.passRetained(self).toOpaque()
    }

    private static func of(_ world: UnsafeMutableRawPointer?) -> Listener {
        Unmanaged<Listener>.fromOpaque(world!).takeUnretainedValue()
    }
}

/// A node or a note, as it was committed.
struct Kept: Equatable {
    var generation: UInt64
    var permissions: [Permission]
    var value: [UInt8]
}

typealias Model = [String: Kept]

/// A batch that is being put together, and the tree that it leads to.
struct History {
    private(set) var model: Model = [:]
    private(set) var sequence: UInt64 = 0
    private var generation: UInt64 = 0
    private var choices: SplitMix64

    init(seed: UInt64) { choices = SplitMix64(seed: seed) }

    /// The next batch: some changes of a small tree, each node with all nodes above it.
    mutating func next() -> [UInt8] {
        var batch: [UInt8] = []
        if sequence == 0 { put("/", &batch) }
        for _ in 0...choices.below(5) {
            switch choices.below(10) {
            case 0: note(&batch)
            case 1...2: removeTree(&batch)
            default: putTree(&batch)
            }
        }
        sequence += 1
        return batch
    }

    private mutating func put(_ key: String, _ batch: inout [UInt8]) {
        generation += 1
        let count = choices.chance(3) ? choices.below(3000) : choices.below(40)
        let value = (0..<count).map { _ in UInt8(choices.below(256)) }
        let modes: [AccessMode] = [.none, .read, .write, .both]
        let permissions = (0...choices.below(3)).map { _ in
            Permission(
                choices.one(of: modes), DomainID(UInt16(choices.below(65_536))), ignored: choices.chance(20))
        }
        let isNote = key.utf8.first == 1
        let kept = Kept(generation: generation, permissions: isNote ? [] : permissions, value: value)
        model[key] = kept
        append(kept, key, to: &batch)
    }

    private mutating func note(_ batch: inout [UInt8]) {
        let key = "\u{1}note/\(choices.below(5))"
        if choices.chance(30) { remove(key, &batch) } else { put(key, &batch) }
    }

    private mutating func putTree(_ batch: inout [UInt8]) {
        var path = ""
        if choices.chance(3) { return put("@name\(choices.below(3))", &batch) }
        for _ in 0...choices.below(4) {
            path += "/" + choices.one(of: ["a", "b", "device", "\(choices.below(30))"])
            if model[path] == nil { put(path, &batch) }
        }
        put(path, &batch)
    }

    private mutating func removeTree(_ batch: inout [UInt8]) {
        let paths = model.keys.filter { $0.utf8.first == 0x2F && $0 != "/" }.sorted()
        guard !paths.isEmpty else { return }
        let top = choices.one(of: paths)
        for path in paths where path == top || path.hasPrefix(top + "/") { remove(path, &batch) }
    }

    private mutating func remove(_ key: String, _ batch: inout [UInt8]) {
        generation += 1
        model[key] = nil
        packed(.remove, generation, [], key, [], &batch)
    }
}

func append(_ kept: Kept, _ key: String, to batch: inout [UInt8]) {
    packed(.put, kept.generation, kept.permissions, key, kept.value, &batch)
}

func packed(
    _ kind: StoreRecord.Kind, _ generation: UInt64, _ permissions: [Permission], _ key: String,
    _ value: [UInt8], _ batch: inout [UInt8]
) {
    Array(key.utf8).withUnsafeBytes { key in
        value.withUnsafeBytes { value in
            StoreRecord.append(
                to: &batch, kind, generation: generation, permissionCount: permissions.count, key: key,
                value: value
            ) { permissions[$0] }
        }
    }
}

extension Model {
    /// Applies packed records. False: they are not well formed.
    mutating func apply(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var model = self
        defer { self = model }
        return StoreRecord.forEach(in: bytes) { record in
            let key = String(decoding: record.key, as: UTF8.self)
            guard record.kind == .put else {
                model[key] = nil
                return
            }
            let permissions = (0..<record.permissionCount).compactMap(record.permission)
            model[key] = Kept(
                generation: record.generation, permissions: permissions, value: Array(record.value))
        }
    }

    /// The names below each node, as the file should list them.
    var children: [String: Set<String>] {
        var children: [String: Set<String>] = [:]
        for path in keys where path.utf8.first == 0x2F {
            if children[path] == nil { children[path] = [] }
            if path == "/" { continue }
            let parent = String(path[..<path.lastIndex(of: "/")!])
            let name = String(path[path.index(after: path.lastIndex(of: "/")!)...])
            children[parent.isEmpty ? "/" : parent, default: []].insert(name)
        }
        return children
    }
}

extension TDBFileStore {
    convenience init(
        _ path: String, _ listener: Listener, sync: String = "never", every milliseconds: Int = 5
    ) throws(PluginFailure) {
        func option(_ key: String, _ value: String) -> PluginOption {
            PluginOption(key: key, value: value, place: "test.yaml:1:1")
        }
        try self.init(
            host: listener.host,
            options: [
                option("path", path), option("sync", sync), option("apply-interval", "\(milliseconds)"),
                option("interval", "20"),
            ])
    }

    func recovered() throws -> (model: Model, sequence: UInt64) {
        var model: Model = [:]
        var isGood = true
        let sequence = try recover { if !model.apply($0) { isGood = false } }
        try #require(isGood)
        return (model, sequence)
    }

    @discardableResult
    func commit(_ sequence: UInt64, _ batch: [UInt8]) throws(PluginFailure) -> CommitOutcome {
        let copy = ByteBuffer()
        batch.withUnsafeBytes { copy.append($0) }
        return try commit(sequence, copy.bytes)
    }

    /// Waits until the tdb file has every batch up to `sequence`.
    func waitUntilApplied(_ sequence: UInt64) throws {
        let line = "tdb-file batches in the file: \(sequence)\n"
        for _ in 0..<2000 {
            if report().contains(line) { return }
            usleep(5000)
        }
        Issue.record("the file has not got batch \(sequence): \(report())")
        throw PluginFailure("not applied")
    }
}

/// What a tdb file holds: the model, and the children that each node lists.
func contents(of path: String) throws -> (model: Model, children: [String: Set<String>], applied: UInt64?) {
    let file = try TDBFile(path, syncing: false)
    let applied = try Applied.read(from: file)
    var model: Model = [:]
    var children: [String: Set<String>] = [:]
    var isGood = true
    isGood = file.isSound { key, value in Applied.isKey(key) || Opening.isRecord(key, value) }
    try #require(isGood)
    _ = file.visitAll { key, value in
        guard !Applied.isKey(key), let node = NodeRecord(value) else { return true }
        let name = String(decoding: key, as: UTF8.self)
        var packed: [UInt8] = []
        node.append(to: &packed, key: key)
        _ = packed.withUnsafeBytes { model.apply($0) }
        guard name.utf8.first == 0x2F else { return true }
        var count = 0
        var names: Set<String> = []
        node.forEachChild {
            names.insert(String(decoding: $0, as: UTF8.self))
            count += 1
        }
        if names.count != count { isGood = false }
        children[name] = names
        return true
    }
    try #require(isGood, "a child is listed twice")
    return (model, children, applied)
}

/// Runs a tool to its end, with lines for its input. Returns its output and status.
@discardableResult
func run(_ tool: String, _ arguments: [String], input: String = "") throws -> (text: String, status: Int32) {
    let process = Process()
    process.executableURL = URL(filePath: tool)
    process.arguments = arguments
    let (inward, outward) = (Pipe(), Pipe())
    process.standardInput = inward
    process.standardOutput = outward
    process.standardError = outward
    try process.run()
    try inward.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try inward.fileHandleForWriting.close()
    let text = String(decoding: try outward.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    return (text, process.terminationStatus)
}
