// The place where log lines go. Runs on the log's writer thread.

import CLinux
import Glibc
import XenStore

/// stderr, a file, or syslog.
final class LogSink {
    private enum Form { case dated, journal, syslog }

    private let file: LogFile?
    private let form: Form

    /// Fails if its file cannot be opened.
    init(_ destination: LogDestination) throws(StartFailure) {
        switch destination {
        case .standardError:
            file = LogFile()
            form = standardErrorIsJournal() ? .journal : .dated
        case .file(let path):
            file = try LogFile(path: path)
            form = .dated
        case .syslog:
            file = nil
            form = .syslog
            openSyslog()
        }
    }

    func append(_ level: LogLevel, _ time: timespec, _ text: [UInt8]) {
        switch form {
        case .dated:
            file?.append { line in
                line.append(time, dashes: true)
                line.append(level.word)
                line.append(": ")
                line.append(harmless: text)
            }
        case .journal:
            file?.append { line in
                line.append(contentsOf: [0x3C, 0x30 + UInt8(level.priority), 0x3E])
                line.append(harmless: text)
            }
        case .syslog:
            var line: [UInt8] = []
            line.append(harmless: text)
            line.append(0)
            line.withUnsafeBytes { bytes in
                linux_syslog(level.priority, bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
            }
        }
    }

    func flush() { file?.flush() }

    func reopen() throws(StartFailure) {
        if let file {
            try file.reopen()
        } else {
            closelog()
            openSyslog()
        }
    }

    /// How many lines could not be written since the last call.
    func takeLost() -> Int { file?.takeLost() ?? 0 }
}

/// libc keeps the pointer to the name, so it is one that stays.
private func openSyslog() {
    let name: StaticString = "xenstored"
    let pointer = UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
    openlog(pointer, LOG_PID | LOG_NDELAY, LOG_DAEMON)
}
