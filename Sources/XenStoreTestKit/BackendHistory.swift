// What a store backend is given in its conformance tests: batches as the core would offer them, generated
// from a seed, and what the store must hold after each.
//
// Batch n is the same whenever it is generated, so that a process that was killed and one that checks what it
// left need to share no more than the seed.

import XenStoreTypes

/// A tree's life in batches, numbered from 1.
public struct BackendHistory {
    /// What a backend keeps of a key.
    public struct Kept: Hashable, Sendable {
        public var generation: UInt64
        public var permissions: [Permission]
        public var value: [UInt8]
    }

    public typealias State = [[UInt8]: Kept]

    /// `batches[n - 1]` is batch n.
    public private(set) var batches: [[UInt8]] = []
    /// `states[n]` is what there is after batch n.
    public private(set) var states: [State] = [[:]]
    private var random: SplitMix64
    private var generation: UInt64 = 1
    /// Paths of nodes that exist, parents before children.
    private var paths: [[UInt8]] = []

    public init(seed: UInt64, batches count: Int) {
        random = SplitMix64(seed: seed)
        for _ in 0..<count { addBatch() }
    }

    private mutating func addBatch() {
        var batch: [UInt8] = []
        var state = states[states.count - 1]
        generation += 1
        if paths.isEmpty { put(Array("/".utf8), &batch, &state) }
        // Now and then one that changes nothing.
        for _ in 0..<Int(random.next() % 5) {
            generation += 1
            switch random.next() % 10 {
            case 0: remove(&batch, &state)
            case 1: note(&batch, &state)
            case 2...5: put(paths[Int(random.next() % UInt64(paths.count))], &batch, &state)
            default: create(&batch, &state)
            }
        }
        batches.append(batch)
        states.append(state)
    }

    private mutating func put(_ path: [UInt8], _ batch: inout [UInt8], _ state: inout State) {
        if state[path] == nil { paths.append(path) }
        let size = [0, 1, 7, 8, 30, 200, 2048][Int(random.next() % 7)]
        var kept = Kept(generation: generation, permissions: [], value: [])
        for _ in 0..<size { kept.value.append(UInt8(truncatingIfNeeded: random.next())) }
        for position in 0...Int(random.next() % 4) {
            let mode = AccessMode(rawValue: UInt8(random.next() % 4)) ?? .none
            kept.permissions.append(
                Permission(
                    mode, DomainID(UInt16(random.next() % 5)),
                    ignored: position > 0 && random.next() % 4 == 0))
        }
        state[path] = kept
        append(.put, path, kept, &batch)
    }

    private mutating func create(_ batch: inout [UInt8], _ state: inout State) {
        let parent = paths[Int(random.next() % UInt64(paths.count))]
        let name = Array("n\(random.next() % 12)".utf8)
        if parent.count > 500 { return }
        put((parent == [0x2F] ? [] : parent) + [0x2F] + name, &batch, &state)
    }

    /// A node with all below it, from the leaves up, as the core does it.
    private mutating func remove(_ batch: inout [UInt8], _ state: inout State) {
        let top = paths[Int(random.next() % UInt64(paths.count))]
        if top == [0x2F] { return }
        let doomed = paths.filter { $0 == top || $0.starts(with: top + [0x2F]) }
        for path in doomed.sorted(by: { $0.count > $1.count }) {
            append(.remove, path, Kept(generation: generation, permissions: [], value: []), &batch)
            state[path] = nil
        }
        paths.removeAll { doomed.contains($0) }
    }

    private mutating func note(_ batch: inout [UInt8], _ state: inout State) {
        let key = [StoreRecord.noteMark] + Array("note/\(random.next() % 4)".utf8)
        var kept = Kept(generation: generation, permissions: [], value: [])
        if random.next() % 3 == 0 {
            state[key] = nil
            return append(.remove, key, kept, &batch)
        }
        kept.value = Array("value \(random.next())".utf8)
        state[key] = kept
        append(.put, key, kept, &batch)
    }

    private func append(
        _ kind: StoreRecord.Kind, _ key: [UInt8], _ kept: Kept, _ batch: inout [UInt8]
    ) {
        key.withUnsafeBytes { key in
            kept.value.withUnsafeBytes { value in
                StoreRecord.append(
                    to: &batch, kind, generation: kept.generation,
                    permissionCount: kept.permissions.count, key: key, value: value
                ) { kept.permissions[$0] }
            }
        }
    }
}

extension BackendHistory.Kept {
    /// What a record of kind `put` keeps.
    public init(_ record: StoreRecord) {
        generation = record.generation
        permissions = (0..<record.permissionCount).compactMap { record.permission($0) }
        value = Array(record.value)
    }
}

extension [[UInt8]: BackendHistory.Kept] {
    /// Applies packed records. False: what follows the last one is none.
    public mutating func apply(_ records: UnsafeRawBufferPointer) -> Bool {
        StoreRecord.forEach(in: records) { record in
            switch record.kind {
            case .put: self[Array(record.key)] = BackendHistory.Kept(record)
            case .remove: self[Array(record.key)] = nil
            }
        }
    }

    /// The same for equal states, in every process.
    public var digest: UInt64 {
        var sum: UInt64 = 0
        for (key, kept) in self {
            var hash: UInt64 = 0xCBF2_9CE4_8422_2325
            func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
            key.forEach(add)
            add(0)
            // A note has no generation to speak of.
            if key.first != StoreRecord.noteMark {
                withUnsafeBytes(of: kept.generation.littleEndian) { $0.forEach(add) }
            }
            for entry in kept.permissions {
                add(UInt8(truncatingIfNeeded: entry.domain.rawValue))
                add(UInt8(truncatingIfNeeded: entry.domain.rawValue >> 8))
                add(entry.mode.rawValue)
                add(entry.ignored ? 1 : 0)
            }
            kept.value.forEach(add)
            sum &+= hash
        }
        return sum
    }
}
