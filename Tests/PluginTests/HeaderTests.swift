// Does the header hold for those who write C or C++, and does its decoder read what the core writes?

import CXenStorePlugin
import Foundation
import Testing
import XenStoreTestKit
import XenStoreTypes

@Suite struct HeaderTests {
    @Test(arguments: [
        ["cc", "-std=c11"], ["cc", "-std=c99"], ["c++", "-std=c++11", "-xc++"],
        ["c++", "-std=c++20", "-xc++"],
    ])
    func itIsPlainC(compiler: [String]) throws {
        let scratch = ModuleScratch()
        let source = scratch / "x.c"
        try "#include <xenstore_plugin.h>\n".write(toFile: source, atomically: false, encoding: .utf8)
        let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        let outcome = try scratch.run(
            compiler + warnings + ["-I", ModuleScratch.header, "-fsyntax-only", source])
        #expect(outcome.status == 0 && outcome.output == "")
    }

    /// Nothing but numbers and text of the same process: what it includes, any compiler has.
    @Test func itNeedsNoOtherHeader() throws {
        let text = try String(contentsOfFile: ModuleScratch.header + "/xenstore_plugin.h", encoding: .utf8)
        let included = text.matches(of: /#include (.*)/).map { String($0.1) }
        #expect(included == ["<stddef.h>", "<stdint.h>"])
    }

    /// Batches of random records, most of them damaged: both decoders see the same in them.
    @Test(arguments: 1...4 as ClosedRange<UInt64>) func bothDecodersAgree(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var sound = 0
        for _ in 0..<2000 {
            var batch: [UInt8] = []
            for _ in 0..<random.below(4) { append(to: &batch, &random) }
            for _ in 0..<random.below(3) where !batch.isEmpty {
                let at = random.below(batch.count)
                batch[at] = UInt8(truncatingIfNeeded: random.next())
            }
            if random.below(8) == 0 { batch.removeLast(min(batch.count, 5)) }
            batch.withUnsafeBytes { if compare($0) { sound += 1 } }
        }
        #expect(sound > 200 && sound < 1800)
    }

    private func append(to batch: inout [UInt8], _ random: inout SplitMix64) {
        let key = [UInt8](repeating: 0x61, count: 1 + random.below(20))
        let value = [UInt8](repeating: 7, count: random.below(30))
        let permissions = random.below(4)
        let generation = random.next()
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                StoreRecord.append(
                    to: &batch, .put, generation: generation, permissionCount: permissions, key: key,
                    value: value
                ) { Permission(.read, DomainID(UInt16($0)), ignored: $0 == 2) }
            }
        }
    }

    /// Whether the whole of the batch is records; expects the same of both decoders.
    private func compare(_ batch: UnsafeRawBufferPointer) -> Bool {
        guard let start = batch.assumingMemoryBound(to: UInt8.self).baseAddress else { return true }
        var at: UnsafePointer<UInt8> = start
        let end = start + batch.count
        while at != end {
            var record = xenstore_record()
            let next = xenstore_record_next(at, end, &record)
            let rest = UnsafeRawBufferPointer(start: at, count: end - at)
            guard let same = StoreRecord(rest) else {
                #expect(next == nil)
                return false
            }
            #expect(next == at + same.bytes.count)
            #expect(record.kind == same.kind.rawValue && record.generation == same.generation)
            #expect(Int(record.permission_count) == same.permissionCount)
            #expect(
                Array(UnsafeRawBufferPointer(start: record.key.start, count: record.key.count))
                    == Array(same.key))
            #expect(
                Array(UnsafeRawBufferPointer(start: record.value.start, count: record.value.count))
                    == Array(same.value))
            guard let next else { return false }
            at = next
        }
        return true
    }
}
