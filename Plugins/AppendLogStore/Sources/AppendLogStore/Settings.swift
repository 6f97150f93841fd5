// The options of append-log.

import XenStorePlugin

/// When what is committed is made proof against the death of the host.
enum SyncMode: String, CaseIterable {
    /// Before it is acknowledged.
    case always
    /// Every so many milliseconds.
    case interval
    /// When the kernel sees fit.
    case never
}

/// What the configuration says.
struct Settings {
    var path = "/var/lib/xenstored/store.log"
    var sync = SyncMode.interval
    /// Milliseconds.
    var interval = 1000
    /// Bytes: a shorter log is left as it is.
    var compactAt = 16 << 20
    /// Percent of what the last compaction left.
    var compactGrowth = 100
    /// Bytes.
    var reserve = 4 << 20

    static let descriptions = [
        OptionDescription("path", fallback: "/var/lib/xenstored/store.log", "the log's file"),
        OptionDescription(
            "sync", fallback: "interval",
            "when the disk must have it: always (before it is acknowledged), interval, or never"),
        OptionDescription("interval", fallback: "1000", "milliseconds between two syncs, 1 to 3600000"),
        OptionDescription("compact-at", fallback: "16MiB", "a shorter log is not compacted"),
        OptionDescription(
            "compact-growth", fallback: "100",
            "percent that the log may grow by before it is compacted again, 10 to 10000"),
        OptionDescription(
            "reserve", fallback: "4MiB", "allocated ahead for removals when the disk is full, 64KiB to 1GiB"),
    ]

    init(_ options: [PluginOption]) throws(PluginFailure) {
        for option in options {
            switch option.key {
            case "path":
                guard option.value.hasPrefix("/"), !option.value.hasSuffix("/") else {
                    throw .option(option, expected: "the absolute path of a file")
                }
                path = option.value
            case "sync":
                guard let mode = SyncMode(rawValue: option.value) else {
                    throw .option(option, expected: "always, interval or never")
                }
                sync = mode
            case "interval": interval = try Self.number(option, 1...3_600_000)
            case "compact-at": compactAt = try Self.size(option, 0...1 << 40)
            case "compact-growth": compactGrowth = try Self.number(option, 10...10_000)
            case "reserve": reserve = try Self.size(option, 1 << 16...1 << 30)
            default: throw .option(option, expected: "no option of this name")
            }
        }
    }

    private static func number(
        _ option: PluginOption, _ range: ClosedRange<Int>
    ) throws(PluginFailure) -> Int {
        guard let number = Int(option.value), range.contains(number) else {
            throw .option(option, expected: "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Bytes, or a number and KiB, MiB or GiB.
    private static func size(
        _ option: PluginOption, _ range: ClosedRange<Int>
    ) throws(PluginFailure) -> Int {
        let digits = option.value.prefix { $0.isASCII && $0.isNumber }
        let units = ["": 0, "KiB": 10, "MiB": 20, "GiB": 30]
        guard let number = Int(digits), let shift = units[String(option.value.dropFirst(digits.count))],
            number <= range.upperBound >> shift, range.contains(number << shift)
        else {
            let (least, most) = (text(range.lowerBound), text(range.upperBound))
            throw .option(option, expected: "a size from \(least) to \(most), as 4096, 64KiB or 4MiB")
        }
        return number << shift
    }

    private static func text(_ size: Int) -> String {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        where size > 0 && size & (1 << shift - 1) == 0 {
            return "\(size >> shift)\(unit)"
        }
        return "\(size)"
    }
}
