// The module: its options, the file of rules, and what it says while its rules are not enforced.

import Glibc
import PathRules
import XenStorePlugin
import XenStoreYAML

public let pathRules = Plugin(
    policy: FilePathRules.init(host:options:), compiled: PathRulesPolicy.init(host:compiled:),
    name: "path-rules", version: "1.0",
    summary: "Who may do what to which path, by the first rule that matches.", options: FilePathRules.options)

/// Path rules that come from a file.
public final class FilePathRules: PathRulesPolicy {
    static let options = [
        OptionDescription(
            "file", fallback: "none", "the rules; a relative path starts at the configuration's directory"),
        OptionDescription(
            "mode", fallback: "enforce",
            "enforce; permissive: only log what the rules would do; record: permissive, and write rules"),
        OptionDescription(
            "record-to", fallback: "none",
            "mode record: the file for the rules that would allow what was seen"),
    ]

    enum Mode: String, CaseIterable { case enforce, permissive, record }

    private let recorder: Recorder?
    private let record: String?
    private let mode: PluginOption?
    private let isRecording: Bool
    /// A line for the log; empty: the rules are enforced.
    private let whyPermissive: String
    private var reminder: Reminder?
    private var isClosed = false

    public init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        var mode = Mode.enforce
        if let option = options["mode"] {
            guard let named = Mode(rawValue: option.value) else {
                throw .option(option, expected: "enforce, permissive or record")
            }
            mode = named
        }
        isRecording = mode == .record
        self.mode = options["mode"]
        record = try Self.path(options["record-to"])
        if let option = options["mode"], mode == .record, record == nil {
            throw PluginFailure(
                "\(option.place): found the mode record without record-to, expected the file for the rules")
        }
        if let option = options["record-to"], mode != .record, record != nil {
            throw PluginFailure("\(option.place): found record-to without mode: record, expected none")
        }
        recorder = mode == .record && !host.isTrial ? Recorder() : nil
        let path = try Self.path(options["file"])
        let file = try path.map { path throws(PluginFailure) in try Self.read(path, host) } ?? RuleFile()
        let table: RuleTable
        do throws(RuleExcess) {
            table = try RuleTable(file.rules)
        } catch {
            throw PluginFailure(
                "\(file.rules[error.rule].title.string): found too many rules together, expected fewer")
        }
        let isPermissive = mode != .enforce || file.isPermissive
        let why = mode == .enforce ? "\(path ?? "") says permissive" : "mode \(mode.rawValue)"
        let text = "the rules are not enforced (\(why))"
        whyPermissive = isPermissive ? text : ""
        try super.init(host: host, table: table, isPermissive: isPermissive)
        if !isPermissive || host.isTrial { return }
        host.log(.warning, text)
        reminder = try Reminder(every: 60_000_000_000) { [recorder, record] in
            host.log(.warning, text)
            if let recorder, let record { Self.write(recorder, to: record, host) }
        }
    }

    /// The absolute path that an option names; nil: it names none.
    private static func path(_ option: PluginOption?) throws(PluginFailure) -> String? {
        guard let option, option.value != "none" else { return nil }
        if option.value.isEmpty { throw .option(option, expected: "none or a file's path") }
        if option.value.utf8.first == UInt8(ascii: "/") { return option.value }
        guard let file = option.file, let slash = file.lastIndex(of: "/") else { return option.value }
        return String(file[...slash]) + option.value
    }

    /// All mistakes go to the log, and the first into the failure.
    private static func read(_ path: String, _ host: PluginHost) throws(PluginFailure) -> RuleFile {
        do throws(ConfigurationMistakes) {
            return try RuleFile(path: path)
        } catch {
            for mistake in error.all.dropFirst() { host.log(.error, mistake.description) }
            let more = error.all.count > 1 ? " (and \(error.all.count - 1) more)" : ""
            throw PluginFailure((error.all.first?.description ?? path) + more)
        }
    }

    override public func compile() throws(PluginFailure) -> [UInt8] {
        if let mode, isRecording {
            throw .option(mode, expected: "enforce or permissive: a kernel has no file to record to")
        }
        return RuleForm(table.rules, whyPermissive: PlainText(whyPermissive)).bytes
    }

    // MARK: Recording

    override public var interest: PolicyInterest {
        var interest = super.interest
        if recorder != nil { interest.observes = .everything }
        return interest
    }

    override public func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        guard let recorder, !question.isPrivileged, !Self.isRefusal(outcome.error) else { return }
        let subject: RuleSubject
        if let domain = question.speaksFor {
            subject = .domains(domain, domain)
        } else if let peer = question.peer {
            subject = .uid(peer.uid)
        } else {
            return
        }
        recorder.note(
            subject, question.operation, question.place, isGranted: outcome.verdict == .grant)
    }

    /// Refused, or no request at all.
    private static func isRefusal(_ error: Int32) -> Bool {
        [EACCES, EPERM, EROFS, EINVAL, ENOSYS].contains(error)
    }

    override public func inherit(from older: AccessPolicy) {
        guard let recorder, let other = (older as? FilePathRules)?.recorder else { return }
        recorder.take(other.current)
    }

    override public func close() {
        if isClosed { return }
        isClosed = true
        reminder?.stop()
        if let recorder, let record { Self.write(recorder, to: record, host) }
    }

    /// Puts the rules where the earlier ones are, as a whole. Who has seen nothing, as an instance that a
    /// reload with a mistake has opened, leaves those.
    private static func write(_ recorder: Recorder, to path: String, _ host: PluginHost) {
        let current = recorder.current
        if current.isEmpty { return }
        let text = Array(current.rules.utf8)
        let fresh = path + ".new"
        unlink(fresh)
        let file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        var isWritten = file >= 0
        var sent = 0
        while isWritten && sent < text.count {
            let count = text.withUnsafeBytes { Glibc.write(file, $0.baseAddress! + sent, text.count - sent) }
            if count < 0 && errno == EINTR { continue }
            isWritten = count > 0
            sent += max(count, 0)
        }
        if !isWritten || rename(fresh, path) != 0 {
            host.log(.error, "cannot write the rules to \(path): \(String(cString: strerror(errno)))")
        }
        if file >= 0 { Glibc.close(file) }
    }
}
