// The audit trail: who did what to which path with which outcome, as lines of JSON. It decides nothing.

import AuditTrailLines
import XenStorePlugin

final class AuditTrail: AccessPolicy {
    private let filter: AuditFilter
    private let showsValues: Bool
    private var lines: AuditLines
    /// Nil where nobody does anything that could be written down.
    private let writer: AuditWriter?
    /// The thread belongs to a newer instance.
    private var isFollowed = false
    /// Where a line is put together.
    private let room = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: auditLineMax)

    override init(host: PluginHost, options: [PluginOption]) throws(PluginFailure) {
        guard let path = options["path"] else { throw PluginFailure("the option path is missing") }
        guard path.value.utf8.first == 0x2F else { throw .option(path, expected: "an absolute path") }
        filter = try AuditFilter(options)
        let values = Int(try options["values"]?.number(in: 0...4096) ?? 0)
        showsValues = values > 0
        lines = AuditLines(values: values)
        let limit = try options["size"]?.fileSize() ?? 64 << 20
        let keep = try options["keep"]?.number(in: 0...1000) ?? 4
        let capacity = try options["queue"]?.byteCount(in: 64 << 10...1 << 30) ?? 1 << 20
        do throws(PluginFailure) {
            let file = AuditFile(path.value, limit: limit, keep: keep)
            writer = host.isTrial ? nil : try AuditWriter(file, capacity: Int(capacity), host: host)
        } catch {
            throw PluginFailure("\(path.place): \(error.reason)", errno: error.code)
        }
        try super.init(host: host, options: options)
    }

    deinit { room.deallocate() }

    override var interest: PolicyInterest {
        PolicyInterest(
            decides: [], observes: filter.operations, values: showsValues ? PolicyOperations(.write) : [])
    }

    override func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        if !filter.admits(question, outcome) { return }
        var line = JSONLine(room)
        lines.add(question, outcome, clock: { .now }, to: &line)
        assert(line.isWhole)
        if line.isWhole {
            writer?.add(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<line.count]))
        }
    }

    /// Its lines are written first.
    override func inherit(from older: AccessPolicy) {
        guard let older = older as? AuditTrail, let writer, let olderWriter = older.writer else { return }
        older.isFollowed = true
        writer.follow(olderWriter)
    }

    override func close() { if !isFollowed { writer?.close() } }
}

extension AuditFilter {
    fileprivate init(_ options: [PluginOption]) throws(PluginFailure) {
        self.init()
        if let option = options["operations"] { operations = try option.requests() }
        if let option = options["subjects"] { subjects = try option.subjects() }
        for word in options["paths"]?.words ?? [] {
            guard let path = PathPrefix(word) else {
                throw .option(
                    options["paths"]!, expected: "a list of absolute paths, in which * is any one name")
            }
            paths.append(path)
        }
        if let option = options["results"] {
            switch option.value {
            case "all": results = .all
            case "ok": results = .done
            case "refused": results = .refused
            default: throw .option(option, expected: "all, ok or refused")
            }
        }
    }
}

extension PluginOption {
    /// 0, or as many bytes as a few lines may have.
    fileprivate func fileSize() throws(PluginFailure) -> UInt64 {
        value == "0" ? 0 : try byteCount(in: 64 << 10...1 << 40)
    }
}

public let auditTrail = Plugin(
    policy: AuditTrail.init, name: "audit-trail", version: "1.0",
    summary: "Writes who did what, and how it went, as lines of JSON.",
    options: [
        OptionDescription("path", fallback: nil, "the file, an absolute path"),
        OptionDescription(
            "operations", fallback: "change manage TRANSACTION_END",
            "requests and groups of them to write down"),
        OptionDescription("subjects", fallback: "any", "whose requests: any, dom0, guest, user, domain ids"),
        OptionDescription("paths", fallback: "/", "only requests about these nodes and what is below them"),
        OptionDescription("results", fallback: "all", "only requests that went so: all, ok or refused"),
        OptionDescription("values", fallback: "0", "bytes of a written value to show"),
        OptionDescription("size", fallback: "64MiB", "no file gets larger; 0: no limit"),
        OptionDescription("keep", fallback: "4", "how many older files are kept"),
        OptionDescription("queue", fallback: "1MiB", "bytes of lines that may wait for the disk"),
    ])
