// The module's options.

import XenStorePlugin

/// What the configuration says of the store.
struct Settings {
    static let descriptions = [
        OptionDescription(
            "path", fallback: "/var/lib/xenstored/tdb",
            "the tdb file; PATH.wal and PATH.wal2 beside it are its write-ahead log"),
        OptionDescription(
            "sync", fallback: "interval",
            "what survives the host's death: always (every commit), interval (all but the last), never"),
        OptionDescription(
            "interval", fallback: "1000",
            "milliseconds between two syncs with sync: interval, 1 to 3600000"),
        OptionDescription(
            "apply-interval", fallback: "500",
            "milliseconds that changes are gathered before they go to the tdb file, 1 to 60000"),
    ]

    private(set) var path = "/var/lib/xenstored/tdb"
    private(set) var sync = SyncMode.interval
    /// Nanoseconds.
    private(set) var syncInterval: UInt64 = 1_000_000_000
    private(set) var applyInterval: UInt64 = 500_000_000

    /// Throws for a value that is none of those.
    init(_ options: [PluginOption]) throws(PluginFailure) {
        for option in options {
            switch option.key {
            case "path":
                guard option.value.utf8.first == 0x2F, option.value.utf8.last != 0x2F else {
                    throw .option(option, expected: "an absolute path of a file")
                }
                path = option.value
            case "sync":
                guard let mode = SyncMode(rawValue: option.value) else {
                    throw .option(option, expected: "always, interval or never")
                }
                sync = mode
            case "interval": syncInterval = try Self.milliseconds(option, max: 3_600_000)
            case "apply-interval": applyInterval = try Self.milliseconds(option, max: 60_000)
            default: throw PluginFailure("\(option.place): tdb-file has no option \(option.key)")
            }
        }
    }

    private static func milliseconds(
        _ option: PluginOption, max: UInt64
    ) throws(PluginFailure) -> UInt64 {
        guard let number = UInt64(option.value), (1...max).contains(number) else {
            throw .option(option, expected: "milliseconds from 1 to \(max)")
        }
        return number * 1_000_000
    }
}
