// What the tests of append-log share: a host that listens, batches of a seed, and a tree as a dictionary.

import CXenStorePlugin
import Foundation
import Glibc
import Testing
import XenStorePlugin
import XenStoreTestKit
import XenStoreTypes

@testable import AppendLogStore

/// A directory that goes away with this object: in memory where it can be.
final class TestDirectory: Sendable {
    let path: String

    init(onDisk: Bool = false) {
        let parent = !onDisk && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var template = Array("\(parent)/xenstored-store.XXXXXX".utf8CString)
        path = String(cString: mkdtemp(&template)!)
    }

    deinit { remove() }

    /// For those who end the process, and so never see the end of its scope.
    func remove() { try? FileManager.default.removeItem(atPath: path) }

    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    static func / (directory: TestDirectory, name: String) -> String { directory.path + "/" + name }
}

/// What a module tells its host.
final class TestHost: @unchecked Sendable {
    private let lock = NSLock()
    private var ownLines: [String] = []
    private var ownCommitted: [UInt64] = []
    private let table = UnsafeMutablePointer<xenstore_host>.allocate(capacity: 1)

    var lines: [String] { lock.withLock { ownLines } }
    var committed: [UInt64] { lock.withLock { ownCommitted } }
    var host: PluginHost { PluginHost(table) }

    init() {
        var host = xenstore_host()
        host.size = UInt32(MemoryLayout<xenstore_host>.size)
        host.log = { world, level, text, count in
            let bytes = UnsafeRawBufferPointer(start: text, count: count)
            TestHost.of(world).note("\(level) " + String(decoding: bytes, as: UTF8.self))
        }
        host.clock = { _ in now() }
        host.committed = { world, sequence in TestHost.of(world).note(sequence) }
        table.initialize(to: host)
        table.pointee.world = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit { table.deallocate() }

    private static func of(_ world: UnsafeMutableRawPointer?) -> TestHost {
        Unmanaged<TestHost>.fromOpaque(world!).takeUnretainedValue()
    }
    private func note(_ line: String) { lock.withLock { ownLines.append(line) } }
    private func note(_ sequence: UInt64) { lock.withLock { ownCommitted.append(sequence) } }
}

func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Asks every millisecond, for ten seconds or so.
func eventually(milliseconds: Int = 10_000, _ condition: () -> Bool) -> Bool {
    for _ in 0..<milliseconds {
        if condition() { return true }
        usleep(1000)
    }
    return condition()
}

func options(_ pairs: [(String, String)]) -> [PluginOption] {
    pairs.enumerated().map { PluginOption(key: $1.0, value: $1.1, place: "x.yaml:\($0 + 1):5") }
}

/// What a store keeps: each key's whole record.
typealias Kept = [String: [UInt8]]

/// One change of a batch.
struct Change {
    let key: String
    /// Nil: it is removed.
    let value: [UInt8]?
}

func packed(_ changes: [Change], generation: UInt64) -> [UInt8] {
    var batch: [UInt8] = []
    for change in changes {
        Array(change.key.utf8).withUnsafeBytes { key in
            (change.value ?? []).withUnsafeBytes { value in
                let isNode = change.value != nil && change.key.hasPrefix("/")
                StoreRecord.append(
                    to: &batch, change.value == nil ? .remove : .put, generation: generation,
                    permissionCount: isNode ? 1 : 0, key: key, value: value,
                    permission: { _ in Permission(.none, DomainID(3)) })
            }
        }
    }
    return batch
}

/// The changes of batch `sequence` of a history: the same for everybody who asks.
func changes(_ sequence: UInt64, seed: UInt64) -> [Change] {
    var choices = SplitMix64(seed: seed &* 1_000_003 &+ sequence)
    return (0...choices.below(4)).map { _ in
        let key = choices.chance(10) ? "\u{1}ended/\(choices.below(5))" : "/local/domain/\(choices.below(40))"
        if choices.chance(30) { return Change(key: key, value: nil) }
        let length = choices.chance(3) ? choices.below(4096) : choices.below(60)
        return Change(key: key, value: (0..<length).map { _ in UInt8(choices.below(256)) })
    }
}

/// Makes the records of a batch part of what is kept. False if they are none.
func apply(_ batch: UnsafeRawBufferPointer, to kept: inout Kept) -> Bool {
    StoreRecord.forEach(in: batch) { record in
        let key = String(decoding: record.key, as: UTF8.self)
        kept[key] = record.kind == .put ? Array(record.bytes) : nil
    }
}

/// What is kept after the first batches of a history.
func history(upTo last: UInt64, seed: UInt64) -> Kept {
    var kept: Kept = [:]
    follow(&kept, after: 0, upTo: last, seed: seed)
    return kept
}

/// Makes the batches of a history behind `first` part of what is kept.
func follow(_ kept: inout Kept, after first: UInt64, upTo last: UInt64, seed: UInt64) {
    for sequence in (first + 1)..<(last + 1) {
        packed(changes(sequence, seed: seed), generation: sequence).withUnsafeBytes {
            _ = apply($0, to: &kept)
        }
    }
}

extension AppendLogStore {
    func commit(_ sequence: UInt64, _ batch: [UInt8]) throws(PluginFailure) -> CommitOutcome {
        try batch.span.bytes.withUnsafeBytes { bytes throws(PluginFailure) in try commit(sequence, bytes) }
    }

    func recovered() throws -> (kept: Kept, last: UInt64) {
        var kept: Kept = [:]
        var areRecords = true
        let last = try recover { areRecords = apply($0, to: &kept) && areRecords }
        #expect(areRecords)
        return (kept, last)
    }

    var compactions: Int { number("append-log compactions") }
    var logBytes: Int { number("append-log bytes") }

    private func number(_ name: String) -> Int {
        let line = report().split(separator: "\n").first { $0.hasPrefix("\(name): ") }
        return line.flatMap { $0.split(separator: " ").last.flatMap { Int($0) } } ?? -1
    }
}

extension SyncMode: CustomTestStringConvertible {
    public var testDescription: String { rawValue }
}
