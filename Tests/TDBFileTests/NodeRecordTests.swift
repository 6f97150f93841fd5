// Is a node in the file what section I says, both ways, and is what it does not say refused?

import Foundation
import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import TDBFileStore

/// The file's form of the one record in `batch`.
private func encoded(_ batch: [UInt8], children: [UInt8]) throws -> [UInt8] {
    let scratch = ByteBuffer()
    try batch.withUnsafeBytes { batch in
        let record = try #require(StoreRecord(batch))
        children.withUnsafeBytes { NodeRecord.encode(record, children: $0, into: scratch) }
    }
    return Array(scratch.bytes)
}

@Suite struct NodeRecordTests {
    @Test func `the layout, byte by byte`() throws {
        var batch: [UInt8] = []
        let permissions = [
            Permission(.none, DomainID(0)), Permission(.read, DomainID(7)),
            Permission(.both, DomainID(0x7FF0), ignored: true),
        ]
        packed(.put, 0x0102_0304_0506_0708, permissions, "/a", Array("value".utf8), &batch)
        let children: [UInt8] = Array("x".utf8) + [0] + Array("yy".utf8) + [0]
        let expected: [UInt8] =
            [8, 7, 6, 5, 4, 3, 2, 1] + [3, 0, 0, 0] + [5, 0, 0, 0] + [5, 0, 0, 0]
            + [0, 0, 0, 0, 0, 0, 0, 0] + [7, 0, 0, 0, 1, 0, 0, 0] + [0xF0, 0x7F, 0, 0, 19, 0, 0, 0]
            + Array("value".utf8) + children + [0, 0, 0, 0]
        #expect(try encoded(batch, children: children) == expected)
    }

    @Test(arguments: 0..<50)
    func `what is written is read again`(seed: UInt64) throws {
        var history = History(seed: seed)
        for _ in 0..<20 {
            let batch = history.next()
            try batch.withUnsafeBytes { batch in
                _ = try StoreRecord.forEach(in: batch) { record in
                    guard record.kind == .put else { return }
                    let bytes = try encoded(Array(record.bytes), children: Array("a\0bc\0".utf8))
                    try bytes.withUnsafeBytes { bytes in
                        let node = try #require(NodeRecord(bytes))
                        var names: [String] = []
                        node.forEachChild { names.append(String(decoding: $0, as: UTF8.self)) }
                        #expect(names == ["a", "bc"])
                        var again: [UInt8] = []
                        node.append(to: &again, key: record.key)
                        #expect(again == Array(record.bytes))
                    }
                }
            }
        }
    }

    /// Every length in it is checked: whatever is changed, it is refused or stands for itself.
    @Test(arguments: 0..<200)
    func `hostile records`(seed: UInt64) throws {
        var choices = SplitMix64(seed: seed)
        var batch: [UInt8] = []
        packed(.put, 9, [Permission(.read, DomainID(3))], "/k", Array("some value".utf8), &batch)
        let sound = try encoded(batch, children: Array("child\0other\0".utf8))
        for _ in 0..<200 {
            var bytes = sound
            for _ in 0...choices.below(3) {
                let values: [UInt8] = [0, 1, 0x2F, 0x7F, 0x80, 0xFF]
                bytes[choices.below(choices.chance(70) ? 28 : bytes.count)] = choices.one(of: values)
            }
            if choices.chance(30) { bytes.removeLast(choices.below(bytes.count)) }
            bytes.withUnsafeBytes { bytes in
                guard let node = NodeRecord(bytes) else { return }
                let scratch = ByteBuffer()
                node.encode(children: node.children, into: scratch)
                let used = scratch.bytes.count - NodeRecord.slack
                #expect(scratch.bytes.prefix(used).elementsEqual(bytes.prefix(used)))
                #expect(bytes.count == used || bytes.count == used + NodeRecord.slack)
            }
        }
    }

    @Test(arguments: [
        "/a/b", "/", "/a", "@releaseDomain", "/local/domain/0/x y",
    ])
    func `keys of nodes`(key: String) {
        Array(key.utf8).withUnsafeBytes { #expect(isNodeKey($0)) }
    }

    @Test(arguments: ["", "a", "//", "/a/", "/a//b", "@", "@a/b", "/a\0", "\u{1}x"])
    func `keys of none`(key: String) {
        Array(key.utf8).withUnsafeBytes { #expect(!isNodeKey($0)) }
    }

    @Test func `paths above`() {
        func parent(_ path: String) -> String? {
            Array(path.utf8).withUnsafeBytes { bytes in
                parentPath(of: bytes).map { String(decoding: $0, as: UTF8.self) }
            }
        }
        #expect(parent("/a/b") == "/a")
        #expect(parent("/a") == "/")
        #expect(parent("/") == nil)
        #expect(parent("@a") == nil)
    }
}
