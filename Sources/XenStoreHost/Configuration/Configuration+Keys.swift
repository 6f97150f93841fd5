// The keys of a configuration file: which there are, and what each may hold.

import XenStore
import XenStoreTypes

extension Configuration {
    /// Every key that a file may have, outermost first, as `sockets[].path`. Aliases are not in it.
    public static var keyPaths: [String] { keys.flatMap(\.paths) }

    static var keys: [Key<Configuration>] {
        [
            Key(
                "hypervisor", \.hypervisor,
                .choice(Hypervisor.allCases.map { (name: $0.rawValue, value: $0) })),
            Key("xen", \.xen, keys: Xen.keys),
            Key("simulated", \.simulated, keys: Simulated.keys),
            Key(
                "sockets", \.sockets, blank: Socket(path: ""), keys: Socket.keys, lengths: 1...16,
                check: Socket.check),
            Key("store", \.store, keys: Store.keys),
            Key("modules", \.modules, keys: Modules.keys),
            Key(
                "policies", \.policies, blank: PolicyChoice(Placed("")), keys: PolicyChoice.keys,
                lengths: 0...16, check: PolicyChoice.check),
            Key("quotas", \.quotas, keys: QuotaLimits.keys),
            Key("transactions", \.transactions, keys: Transactions.keys),
            Key("log", \.log, keys: Log.keys),
            Key("pid-file", \.pidFile, .pathOrNone),
            Key("domain", \.domain, .domain),
            Key("privileged-domain", \.privilegedDomain, .domain),
        ]
    }
}

extension Configuration.Xen {
    static var keys: [Key<Self>] { [Key("kva", \.kva, .pathOrNone), Key("port", \.port, .eventChannelPort)] }
}

extension Expected where Value == Configuration.Xen.Port {
    /// A port, or the file that holds it.
    static var eventChannelPort: Expected {
        let last: UInt32 = 131_071
        let what = "a port from 1 to \(last) or the absolute path of a file (at most \(pathMax) bytes)"
        return Expected { node, reading in
            if case .scalar(let text, let isPlain) = node.content {
                if isPlain, let number = wholeNumber(text, in: 1...last) { return .number(number) }
                if isAbsoluteFilePath(text, max: pathMax) { return .file(text) }
            }
            reading.mistakes.add(node.place, found: node.found, expected: what)
            return nil
        }
    }
}

extension Configuration.Simulated {
    static var keys: [Key<Self>] { [Key("directory", \.directory, .pathOrNone)] }
}

extension Configuration.Socket {
    static var keys: [Key<Self>] {
        [
            Key("path", \.path, .path(max: socketPathMax)),
            Key("mode", \.mode, .socketMode),
            Key("owner", \.owner, .user),
            Key("group", \.group, .group),
            Key("read-only", \.readOnly, .flag),
        ]
    }

    /// Notes a path that an earlier socket has.
    static func check(_ socket: Self, _ before: [Self], _ place: Place, _ reading: inout Reading) {
        if !socket.path.isEmpty, before.contains(where: { $0.path == socket.path }) {
            reading.mistakes.add(
                place, found: "the socket \(quoted(socket.path)) again", expected: "another path")
        }
    }

    /// Notes a mode that lets others than the owner connect while no policy says what they may do
    /// (specification, end of section A).
    func checkMode(isAlone: Bool, _ mistakes: inout MistakeList) {
        guard isAlone, mode.value & 0o077 != 0, let place = mode.place else { return }
        let digits = String(mode.value, radix: 8)
        mistakes.add(
            place, found: "the mode \(quoted(String(repeating: "0", count: 4 - digits.count) + digits))",
            expected: "nothing for group and others, such as \"0600\", while there are no policies: what "
                + "others may do is for policies to say")
    }
}

extension Expected where Value == Placed<UInt32> {
    /// A file mode as an octal number in quotes (without them YAML 1.1 and 1.2 read different numbers).
    static var socketMode: Expected {
        let what = "an octal file mode in quotes, such as \"0600\""
        return Expected { node, reading in
            guard case .scalar(let text, plain: false) = node.content, (3...4).contains(text.utf8.count),
                text.utf8.allSatisfy({ (0x30...0x37).contains($0) }), let mode = UInt32(text, radix: 8),
                mode <= 0o777
            else {
                let bare =
                    if case .scalar(let text, plain: true) = node.content { !text.isEmpty } else { false }
                let found = bare ? "\(node.found) without quotes" : node.found
                reading.mistakes.add(node.place, found: found, expected: what)
                return nil
            }
            return Placed(mode, file: reading.mistakes.file, place: node.place)
        }
    }
}

extension QuotaLimits {
    /// The core's names (specification, section E) and `soft-memory`. 0 is unlimited.
    static var keys: [Key<Self>] {
        QuotaName.allCases.map { quota in
            let isBytes = quota == .memory || quota == .nodeSize || quota == .pathMax
            return Key(
                quota.text, aliases: quota == .nodePermissions ? ["permissions"] : [], \QuotaLimits[quota],
                isBytes ? .bytes(0...UInt32.max) : .number(0...UInt32.max))
        } + [Key("soft-memory", \.softMemory, .bytes(0...UInt32.max))]
    }
}

extension QuotaName {
    /// The quota's name as a string.
    var text: String { name.description }
}

extension Configuration.Transactions {
    static var keys: [Key<Self>] {
        [Key("snapshot-memory", \.snapshotMemory, .bytes((64 << 10)...(1 << 40)))]
    }
}

extension Configuration.Log {
    static var keys: [Key<Self>] {
        [
            Key("level", \.level, .choice(levels)),
            Key("destination", \.destination, .logDestination),
            Key("trace", \.trace, .traceSwitches),
            Key("trace-file", \.traceFile, .pathOrNone),
        ]
    }

    private static var levels: [(name: String, value: LogLevel)] {
        [
            ("error", .error), ("warning", .warning), ("notice", .notice), ("info", .info),
            ("debug", .debug),
        ]
    }
}

extension Expected where Value == Configuration.LogDestination {
    static var logDestination: Expected {
        let what = "auto, stderr, syslog, journal or the absolute path of a file (at most \(pathMax) bytes)"
        return Expected(what, plain: false) { text in
            switch text {
            case "auto": .auto
            case "stderr": .stderr
            case "syslog": .syslog
            case "journal": .journal
            default: isAbsoluteFilePath(text, max: pathMax) ? .file(text) : nil
            }
        }
    }
}

extension Expected where Value == TraceSwitches {
    /// A list of switches' names.
    static var traceSwitches: Expected {
        let names = TraceSwitches.choices
        let list = Expected<[TraceSwitches]>.list(
            of: .choice(names), "a list of switches (\(names.map(\.name).joined(separator: ", "))), or []")
        return Expected { node, reading in
            list.read(node, &reading).map { TraceSwitches($0) }
        }
    }
}
