// The command line as getopt_long(3) reads it, which is how the daemon's users write it (specification,
// section H), turned into the one form that the argument parser takes: `--name` or `--name=value`.
//
//     written                            becomes
//     -T FILE, -TFILE                    --trace-file=FILE
//     -NTFILE, -NT FILE                  --no-fork --trace-file=FILE
//     --quota nodes=5, --quota=nodes=5   --quota=nodes=5
//     --trace-control -io                --trace-control=-io
//     --priv 3 (a unique beginning)      --priv-domid=3
//     -H, -h                             --help
//     -D -P -V -R -I[x] --internal-db[=x] and their long names: nothing, they are taken and ignored
//
// What is no option is passed on, and so is everything behind `--`: the parser refuses it.

/// A command line that cannot be understood. The description says what was found and what was expected.
public struct OptionMistake: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }

    init(found: String, expected: String) { description = "found \(found), expected \(expected)" }
}

/// An option's names and whether it has a value.
public struct OptionForm: Sendable {
    public enum Value: Equatable, Sendable {
        case none
        /// Always one. The text says what, as in `--help`.
        case required(String)
        /// Only right behind the name: `-Ix`, `--internal-db=x`.
        case optional
    }

    public var letters: [Character]
    public var name: String
    public var value: Value
    /// Earlier daemons' options that have nothing to say to this one.
    public var isIgnored: Bool

    init(_ letters: Character..., name: String, _ value: Value = .none, ignored: Bool = false) {
        self.letters = letters
        self.name = name
        self.value = value
        isIgnored = ignored
    }

    /// Every option that is taken.
    public static let all: [OptionForm] = [
        OptionForm("F", name: "pid-file", .required("FILE")),
        OptionForm("N", name: "no-fork"),
        OptionForm("H", "h", name: "help"),
        OptionForm("T", name: "trace-file", .required("FILE")),
        OptionForm(name: "trace-control", .required("+SWITCH or -SWITCH")),
        OptionForm("E", name: "entry-nb", .required("a number")),
        OptionForm("S", name: "entry-size", .required("a number")),
        OptionForm("W", name: "watch-nb", .required("a number")),
        OptionForm("t", name: "transaction", .required("a number")),
        OptionForm("A", name: "perm-nb", .required("a number")),
        OptionForm("M", name: "path-max", .required("a number")),
        OptionForm("Q", name: "quota", .required("NAME=NUMBER")),
        OptionForm("q", name: "quota-soft", .required("NAME=NUMBER")),
        OptionForm("w", name: "timeout", .required("NAME=SECONDS")),
        OptionForm("K", name: "keep-orphans"),
        OptionForm("U", name: "live-update"),
        OptionForm(name: "event", .required("a port")),
        OptionForm(name: "master-domid", .required("a domain id")),
        OptionForm(name: "priv-domid", .required("a domain id")),
        OptionForm(name: "config", .required("FILE")),
        OptionForm(name: "check-config"),
        OptionForm(name: "compile-config", .required("FILE")),
        OptionForm(name: "list-modules"),
        OptionForm(name: "describe-module", .required("a module's name")),
        OptionForm(name: "hypervisor", .required("auto, xen, simulated or none")),
        OptionForm(name: "version"),
        OptionForm("D", name: "no-domain-init", ignored: true),
        OptionForm("P", name: "output-pid", ignored: true),
        OptionForm("V", name: "verbose", ignored: true),
        OptionForm("R", name: "no-recovery", ignored: true),
        OptionForm("I", name: "internal-db", .optional, ignored: true),
    ]

    /// `arguments` (without the program's name) in the form that the top of this file describes.
    ///
    /// Throws on an unknown or ambiguous option, and on a value that is missing, empty or not wanted.
    public static func canonical(_ arguments: [String]) throws(OptionMistake) -> [String] {
        var result: [String] = []
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if argument == "--" {
                result.append(contentsOf: [argument] + rest)
                break
            } else if argument.hasPrefix("--") {
                try takeLong(argument.dropFirst(2), &rest, &result)
            } else if argument.hasPrefix("-"), argument != "-" {
                try takeLetters(argument.dropFirst(), &rest, &result)
            } else {
                result.append(argument)
            }
        }
        return result
    }

    private static func takeLong(
        _ text: Substring, _ rest: inout ArraySlice<String>, _ result: inout [String]
    ) throws(OptionMistake) {
        let equals = text.firstIndex(of: "=")
        let option = try named(String(text[..<(equals ?? text.endIndex)]))
        let value = equals.map { String(text[text.index(after: $0)...]) }
        try option.take("--" + option.name, value, &rest, &result)
    }

    /// Letters behind one dash: options without values, of which the last may have one.
    private static func takeLetters(
        _ text: Substring, _ rest: inout ArraySlice<String>, _ result: inout [String]
    ) throws(OptionMistake) {
        var text = text
        while let letter = text.popFirst() {
            guard let option = all.first(where: { $0.letters.contains(letter) }) else {
                throw OptionMistake("found the unknown option \(quoted("-\(letter)"))")
            }
            var value: String?
            if option.value != .none, !text.isEmpty {
                value = String(text)
                text = ""
            }
            try option.take("-\(letter)", value, &rest, &result)
        }
    }

    /// The option of this name, or the only one whose name begins with it.
    private static func named(_ name: String) throws(OptionMistake) -> OptionForm {
        let matches = all.filter { $0.name.hasPrefix(name) }
        if let exact = matches.first(where: { $0.name == name }) { return exact }
        if let only = matches.first, matches.count == 1 { return only }
        let found = quoted("--" + name)
        guard matches.isEmpty || name.isEmpty else {
            let names = alternatives(matches.map { "--\($0.name)" })
            throw OptionMistake(found: "the ambiguous option \(found)", expected: names)
        }
        let nearest = nearest(to: name, among: all.map(\.name)).map { " (did you mean --\($0)?)" } ?? ""
        throw OptionMistake("found the unknown option \(found)\(nearest)")
    }

    /// Appends the option with its value, which stands behind its name or is the next argument.
    private func take(
        _ written: String, _ attached: String?, _ rest: inout ArraySlice<String>, _ result: inout [String]
    ) throws(OptionMistake) {
        var text = attached
        switch value {
        case .none:
            if let text {
                throw OptionMistake(found: "\(written) with a value (\(quoted(text)))", expected: "none")
            }
        case .required(let what):
            text = attached ?? rest.popFirst()
            if text ?? "" == "" {
                throw OptionMistake(found: "\(written) without a value", expected: what)
            }
        case .optional: break
        }
        if isIgnored { return }
        result.append("--\(name)" + (text.map { "=\($0)" } ?? ""))
    }
}
