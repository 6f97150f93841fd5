// How lines look.
//
//     stderr, a file      2026-11-22 18:15:42.123 warning: text
//     stderr, journald    <4>text
//     the trace file      20261122 18:15:42.123 IN c7 READ (/a )

import CLinux
import Glibc
import XenStore

extension LogLevel {
    /// The word in a log line.
    var word: StaticString {
        switch self {
        case .error: "error"
        case .warning: "warning"
        case .notice: "notice"
        case .info: "info"
        case .debug: "debug"
        }
    }

    /// syslog's number for it.
    var priority: Int32 {
        switch self {
        case .error: LOG_ERR
        case .warning: LOG_WARNING
        case .notice: LOG_NOTICE
        case .info: LOG_INFO
        case .debug: LOG_DEBUG
        }
    }
}

extension [UInt8] {
    mutating func append(_ word: StaticString) {
        append(contentsOf: UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
    }

    /// The local time with milliseconds; `dashes` between year, month and day.
    mutating func append(_ time: timespec, dashes: Bool) {
        var seconds = time.tv_sec
        var parts = tm()
        localtime_r(&seconds, &parts)
        append(decimal: Int(parts.tm_year) + 1900, digits: 4)
        if dashes { append(0x2D) }
        append(decimal: Int(parts.tm_mon) + 1, digits: 2)
        if dashes { append(0x2D) }
        append(decimal: Int(parts.tm_mday), digits: 2)
        append(0x20)
        append(decimal: Int(parts.tm_hour), digits: 2)
        append(0x3A)
        append(decimal: Int(parts.tm_min), digits: 2)
        append(0x3A)
        append(decimal: Int(parts.tm_sec), digits: 2)
        append(0x2E)
        append(decimal: time.tv_nsec / 1_000_000, digits: 3)
        append(0x20)
    }

    private mutating func append(decimal value: Int, digits: Int) {
        var scale = 1
        for _ in 1..<digits { scale *= 10 }
        while scale > 0 {
            append(0x30 + UInt8(truncatingIfNeeded: value / scale % 10))
            scale /= 10
        }
    }

    /// Text that others may have chosen: what could forge another line or drive a terminal becomes `?`.
    mutating func append(harmless text: [UInt8]) {
        for byte in text { append(byte < 0x20 || byte == 0x7F ? 0x3F : byte) }
    }
}

/// Whether stderr is the systemd journal: JOURNAL_STREAM names its device and inode.
func standardErrorIsJournal() -> Bool {
    guard let value = getenv("JOURNAL_STREAM") else { return false }
    var status = stat()
    guard fstat(2, &status) == 0 else { return false }
    return String(cString: value) == "\(status.st_dev):\(status.st_ino)"
}
