// What unprivileged connections have asked for with success, and the rules that would allow exactly that.
//
// Invariants: it has at most `entriesMax` entries and `bytesMax` bytes of paths, however much is asked for;
// what did not fit is counted.

import Glibc
import PathRules
import XenStorePlugin
import XenStoreTypes

/// Any thread may use it.
final class Recorder: @unchecked Sendable {
    static let entriesMax = 8192
    static let bytesMax = 1 << 20

    /// Somebody at a path, or at a command of CONTROL; empty: what has neither.
    struct Seen: Hashable {
        var subject: RuleSubject
        var path: [UInt8]

        var place: Place {
            if path.isEmpty { return .none }
            return path[0] == 0x2F || path[0] == 0x40 ? .path : .command
        }
    }

    enum Place: Hashable { case none, path, command }

    /// What he did there: by node permissions, and by a policy's grant.
    struct Deeds: Hashable {
        var permitted = PolicyOperations()
        var granted = PolicyOperations()
    }

    struct Record {
        var entries: [Seen: Deeds] = [:]
        var bytes = 0
        var dropped: UInt64 = 0

        var isEmpty: Bool { entries.isEmpty && dropped == 0 }
    }

    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private var record = Record()

    init() {
        lock = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    private func locked<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body()
    }

    /// What there is now.
    var current: Record { locked { record } }

    /// Goes on with what another has.
    func take(_ other: Record) { locked { record = other } }

    func note(
        _ subject: RuleSubject, _ operation: PolicyOperation, _ path: UnsafeRawBufferPointer,
        isGranted: Bool
    ) {
        locked {
            let seen = Seen(subject: subject, path: Array(path))
            if record.entries[seen] == nil {
                let fits =
                    record.entries.count < Self.entriesMax && record.bytes + path.count <= Self.bytesMax
                if !fits {
                    record.dropped += 1
                    return
                }
                record.bytes += path.count
            }
            if isGranted {
                record.entries[seen, default: Deeds()].granted.formUnion(PolicyOperations(operation))
            } else {
                record.entries[seen, default: Deeds()].permitted.formUnion(PolicyOperations(operation))
            }
        }
    }
}

extension Recorder.Record {
    /// A rule file.
    var rules: String {
        var text = """
            # Recorded by path-rules: what was asked for with success, and nothing else.
            # Read it before it is used: {domid} and * make of one domain's paths every domain's.

            """
        if dropped > 0 {
            text += "# Incomplete: \(dropped) more requests were about more paths than are recorded.\n"
        }
        text += "rules:\n"
        for (who, paths) in sorted(grouped()) {
            text += "  - effect: \(who.isGranted ? "grant" : "abstain")\n"
            text += "    subjects: \(who.subject.text)\n    operations: [\(who.operations.text)]\n"
            if who.place != .none {
                text += who.place == .path ? "    paths:\n" : "    commands:\n"
                for path in paths.sorted() { text += "      - \"\(path)\"\n" }
            }
        }
        // Without what a write and a removal bring about beside: they are allowed with it.
        text += """
              - effect: deny
                subjects: [guest, user]
                operations: [read, watch, session, manage, WRITE, MKDIR, RM, SET_PERMS]

            """
        return text
    }

    private struct Group: Hashable {
        var subject: RuleSubject
        var isGranted: Bool
        var place: Recorder.Place
        var operations: PolicyOperations
    }

    /// The paths at which the same one did the same.
    private func grouped() -> [Group: [String]] {
        var groups: [Group: [String]] = [:]
        for (seen, deeds) in entries {
            for (operations, isGranted) in [(deeds.permitted, false), (deeds.granted, true)]
            where !operations.isEmpty {
                let group = Group(
                    subject: seen.subject, isGranted: isGranted, place: seen.place,
                    operations: operations)
                groups[group, default: []].append(String(decoding: seen.path, as: UTF8.self))
            }
        }
        return groups
    }

    private func sorted(_ groups: [Group: [String]]) -> [(Group, [String])] {
        groups.map { ($0.key, $0.value) }.sorted { left, right in
            let (one, other) = (left.0, right.0)
            if one.subject != other.subject { return one.subject.order < other.subject.order }
            if one.isGranted != other.isGranted { return other.isGranted }
            return one.operations.rawValue < other.operations.rawValue
        }
    }
}

extension RuleSubject {
    /// As a rule file has it: what a recorder sees.
    fileprivate var text: String {
        switch self {
        case .domains(let first, let last): first == last ? "\(first)" : "\(first)-\(last)"
        case .uid(let uid): "uid \(uid)"
        case .gid(let gid): "gid \(gid)"
        case .anybody: "any"
        case .guest: "guest"
        case .control: "dom0"
        case .user: "user"
        case .owner: "owner"
        }
    }

    fileprivate var order: UInt64 {
        switch self {
        case .domains(let first, _): UInt64(first)
        case .uid(let uid): 1 << 32 | UInt64(uid)
        default: 1 << 33
        }
    }
}

extension PolicyOperations {
    /// The names, with commas between.
    fileprivate var text: String {
        PolicyOperation.allCases.filter { contains($0) }.map(\.name.description).joined(separator: ", ")
    }
}
