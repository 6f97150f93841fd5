// What a line of the audit trail says, key by key. The README has the table.

import XenStorePlugin
import XenStoreTypes

/// A moment of the world's clock.
public struct AuditTime {
    /// Since 1970, in UTC.
    public var seconds: Int64
    public var microseconds: UInt64

    public init(seconds: Int64, microseconds: UInt64) {
        self.seconds = seconds
        self.microseconds = microseconds
    }
}

/// Bytes that a line takes at most, its newline among them: a request's 4096 bytes, six for one where they
/// must be escaped, a path, and the rest.
public let auditLineMax = 32 << 10

/// Puts lines together. What one has in common with the one before is kept as text: the time of a turn of the
/// daemon's loop, and who has asked.
public struct AuditLines {
    private struct Subject: Equatable {
        var domain: UInt16
        var connection: UInt64
        var uid: UInt32?
        var gid: UInt32?
        var pid: Int32?

        init(_ question: PolicyQuestion) {
            domain = question.domain
            connection = question.connection
            guard let peer = question.peer else { return }
            (uid, gid, pid) = peer
        }
    }

    /// Bytes of a written value that are shown.
    private let values: Int
    private var turn: UInt64?
    private var timeText: [UInt8] = []
    private var subject: Subject?
    private var subjectText: [UInt8] = []

    public init(values: Int) { self.values = values }

    /// Adds a request, who made it and how it went. `clock` is asked once a turn.
    public mutating func add(
        _ question: PolicyQuestion, _ outcome: PolicyOutcome, clock: () -> AuditTime, to line: inout JSONLine
    ) {
        if turn != question.now {
            turn = question.now
            timeText = JSONLine.text { $0.add(clock()) }
        }
        let subject = Subject(question)
        if self.subject != subject {
            self.subject = subject
            subjectText = JSONLine.text { $0.addSubject(question) }
        }
        timeText.withUnsafeBytes { line.add($0) }
        subjectText.withUnsafeBytes { line.add($0) }
        line.add(question, outcome, values: values)
    }
}

extension JSONLine {
    /// What `body` adds, at most 256 bytes.
    fileprivate static func text(_ body: (inout JSONLine) -> Void) -> [UInt8] {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { room in
            var line = JSONLine(room)
            body(&line)
            return Array(room[..<line.count])
        }
    }

    /// All but the time and the subject.
    fileprivate mutating func add(_ question: PolicyQuestion, _ outcome: PolicyOutcome, values: Int) {
        add(",\"operation\":\"")
        add(question.operation.name)
        add(question.isInTransaction ? "\",\"transaction\":true" : "\"")
        if !question.path.isEmpty {
            key("path")
            value(question.path)
        }
        if let object = question.object {
            key("object")
            add(UInt64(object))
        }
        addArguments(question)
        if question.operation == .setPermissions { addPermissions(question.permissionsAfter) }
        if values > 0 && question.operation == .write { add(value: question.value, limit: values) }
        if outcome.error == 0 {
            add(",\"result\":\"ok\"")
        } else {
            key("result")
            addError(outcome.error)
        }
        addVerdict(outcome)
        add("}\n")
    }

    /// How many lines are missing in front of this one, and why.
    public mutating func add(missing lines: UInt64, because reason: StaticString, at time: AuditTime) {
        add(time)
        add(",\"operation\":\"missing\",\"lines\":")
        add(lines)
        key("reason")
        add(name: reason)
        add("}\n")
    }

    // MARK: Parts

    private mutating func add(name: StaticString) {
        add(byte: 0x22)
        add(name)
        add(byte: 0x22)
    }

    /// `{"time":"2026-01-02T03:04:05.123456Z"`
    fileprivate mutating func add(_ time: AuditTime) {
        let days = time.seconds.quotient(86_400)
        let second = UInt64(time.seconds - days * 86_400)
        let date = civilDate(days)
        add("{\"time\":\"")
        add(UInt64(date.year), digits: 4)
        add(byte: 0x2D)
        add(UInt64(date.month), digits: 2)
        add(byte: 0x2D)
        add(UInt64(date.day), digits: 2)
        add(byte: 0x54)
        add(second / 3600, digits: 2)
        add(byte: 0x3A)
        add(second / 60 % 60, digits: 2)
        add(byte: 0x3A)
        add(second % 60, digits: 2)
        add(byte: 0x2E)
        add(time.microseconds, digits: 6)
        add("Z\"")
    }

    fileprivate mutating func addSubject(_ question: PolicyQuestion) {
        if question.domain < 0x7FF0 {
            key("domain")
            add(UInt64(question.domain))
        }
        if let peer = question.peer {
            key("uid")
            add(UInt64(peer.uid))
            key("gid")
            add(UInt64(peer.gid))
            key("pid")
            add(UInt64(max(peer.pid, 0)))
        }
        key("connection")
        add(question.connection)
    }

    private mutating func addArguments(_ question: PolicyQuestion) {
        if question.argumentCount == 0 { return }
        add(",\"arguments\":[")
        for position in 0..<question.argumentCount {
            if position > 0 { add(byte: 0x2C) }
            value(question.argument(position))
        }
        add("]")
    }

    /// As on the wire: `["n7","r0"]`.
    private mutating func addPermissions(_ list: [Permission]) {
        add(",\"permissions\":[")
        for (position, entry) in list.enumerated() {
            if position > 0 { add(byte: 0x2C) }
            add(byte: 0x22)
            add(byte: entry.mode.letter)
            add(UInt64(entry.domain.rawValue))
            add(byte: 0x22)
        }
        add("]")
    }

    /// Not cut in the midst of a character.
    private mutating func add(value bytes: UnsafeRawBufferPointer, limit: Int) {
        key("value")
        if bytes.count <= limit { return value(bytes) }
        var end = limit
        while end > limit - 3 && end > 0 && bytes[end] & 0xC0 == 0x80 { end -= 1 }
        value(UnsafeRawBufferPointer(rebasing: bytes[..<end]))
        key("value-bytes")
        add(UInt64(bytes.count))
    }

    private mutating func addError(_ error: Int32) {
        if let name = errorName(error) { return add(name: name) }
        add(UInt64(max(error, 0)))
    }

    private mutating func addVerdict(_ outcome: PolicyOutcome) {
        switch outcome.verdict {
        case .grant: add(",\"verdict\":\"grant\"")
        case .deny: add(",\"verdict\":\"deny\"")
        case .abstain, .postpone: return
        }
        guard var policy = outcome.policy else { return }
        key("policy")
        policy.withUTF8 { value(UnsafeRawBufferPointer($0)) }
    }
}

extension Int64 {
    /// Rounded down.
    fileprivate func quotient(_ divisor: Int64) -> Int64 {
        self >= 0 ? self / divisor : -((divisor - 1 - self) / divisor)
    }
}

/// The date of a day that is counted from 1970-01-01. A year is counted from March, so that a leap day is its
/// last; 400 years have 146,097 days.
func civilDate(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let shifted = days + 719_468
    let era = shifted.quotient(146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    let year = yearOfEra + era * 400 + (month >= 10 ? 1 : 0)
    return (year, month < 10 ? month + 3 : month - 9, dayOfYear - (153 * month + 2) / 5 + 1)
}

/// The name of an errno that a reply may have.
func errorName(_ code: Int32) -> StaticString? {
    switch code {
    case 1: "EPERM"
    case 2: "ENOENT"
    case 5: "EIO"
    case 7: "E2BIG"
    case 11: "EAGAIN"
    case 12: "ENOMEM"
    case 13: "EACCES"
    case 16: "EBUSY"
    case 17: "EEXIST"
    case 21: "EISDIR"
    case 22: "EINVAL"
    case 28: "ENOSPC"
    case 30: "EROFS"
    case 38: "ENOSYS"
    case 39: "ENOTEMPTY"
    case 106: "EISCONN"
    default: nil
    }
}
