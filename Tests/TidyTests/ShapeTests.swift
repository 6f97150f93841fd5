// Are files, functions and lines short, names the field's own words, and nothing left half done?

import Testing

@Suite struct ShapeTests {
    /// Hard limits; the habits of CONTRIBUTING.md are tighter.
    static let fileMax = 500
    static let functionMax = 100
    static let columnMax = 110

    static let code = tree.filter { $0.isSwift || $0.isC }

    /// The plugin interface is one file that says everything, for those who have nothing else.
    static let longFiles = ["Sources/CXenStorePlugin/include/xenstore_plugin.h"]

    @Test func filesAreShort() {
        let long = Self.code.filter { $0.lines.count > Self.fileMax && !Self.longFiles.contains($0.path) }
        #expect(!Self.code.isEmpty)
        #expect(long.map { "\($0.path): \($0.lines.count) lines" } == [])
    }

    @Test func linesAreShort() {
        var found: [String] = []
        for file in Self.code + tree.filter({ $0.path.hasPrefix("config/") }) {
            for (index, line) in file.lines.enumerated() where columns(line) > Self.columnMax {
                found.append("\(file.place(index)): \(columns(line)) columns")
            }
        }
        #expect(found == [])
    }

    @Test func functionsAreShort() {
        var found: [String] = []
        for file in swiftFiles {
            for (index, count) in functionLengths(file.lines) where count > Self.functionMax {
                found.append("\(file.place(index)): a function of \(count) lines")
            }
        }
        #expect(found == [])
    }

    @Test func filesSayWhatTheyAre() {
        let found = Self.code.filter { file in
            let first = file.lines.first ?? ""
            return !first.hasPrefix("//") && !first.hasPrefix("/*")
        }
        #expect(found.map(\.path) == [])
    }

    @Test func namesAreTheFieldsOwn() {
        var found: [String] = []
        for file in Self.code {
            let name = file.path.split(separator: "/").last?.split(separator: ".").first ?? ""
            if let banned = bannedWord(String(name)) { found.append("\(file.path): \(banned)") }
        }
        for file in swiftFiles {
            for (index, line) in file.lines.enumerated() {
                for name in declaredTypes(line) {
                    if let banned = bannedWord(name) {
                        found.append("\(file.place(index)): \(banned) in \(name)")
                    }
                }
            }
        }
        #expect(found == [])
    }

    /// A trap in the core is a promise about its caller: its message says which, or a comment on its line or
    /// above.
    @Test func theCoreTrapsOnlyWithAReason() {
        let traps = ["try!", "as!", "fatalError()", "preconditionFailure()"]
        var found: [String] = []
        for file in swiftFiles where file.module == "XenStore" || file.module == "XenStoreTypes" {
            for (index, line) in file.lines.enumerated() where traps.contains(where: line.contains) {
                let above = index > 0 ? file.lines[index - 1] : ""
                if !line.contains("//") && !above.contains("//") { found.append(file.place(index)) }
            }
        }
        #expect(found == [])
    }

    /// What is unfinished stands in an issue, and what is of one machine nowhere.
    @Test func nothingIsLeftHalfDone() {
        // Each in two parts, so that this file does not find itself.
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", ".." + "/shared", "/wo" + "rk/"]
        var found: [String] = []
        for file in tree {
            for (index, line) in file.lines.enumerated() where marks.contains(where: line.contains) {
                found.append("\(file.place(index)): \(line.prefix(80))")
            }
        }
        #expect(found == [])
    }
}

/// The width of a line, a tab going to the next multiple of 8.
func columns(_ line: String) -> Int {
    line.reduce(0) { at, character in character == "\t" ? (at / 8 + 1) * 8 : at + 1 }
}

/// The index of each function's first line, and how many lines it has. As swift format indents, a function
/// ends at the first brace that stands in the column where it began.
func functionLengths(_ lines: [String]) -> [(index: Int, count: Int)] {
    let starts = ["func ", "init(", "init?(", "init<", "deinit", "subscript("]
    return lines.enumerated().compactMap { index, line in
        let indent = line.prefix { $0 == " " }
        let text = line.dropFirst(indent.count)
        guard !text.hasPrefix("//"), !text.contains("= "), !text.hasSuffix("}"),
            starts.contains(where: { text.hasPrefix($0) || text.contains(" " + $0) }),
            let last = lines[index...].firstIndex(of: indent + "}")
        else { return nil }
        return (index, last - index + 1)
    }
}

/// The types that a line declares.
func declaredTypes(_ line: String) -> [String] {
    let keywords = ["class ", "struct ", "enum ", "protocol ", "actor ", "typealias ", "associatedtype "]
    if line.drop(while: { $0 == " " }).hasPrefix("//") || !keywords.contains(where: line.contains) {
        return []
    }
    let declaration = /\b(?:class|struct|enum|protocol|actor|typealias|associatedtype)\s+([A-Z]\w*)/
    return line.matches(of: declaration).map { String($0.1) }
}

/// The first of a name's words that tells nothing of what is named, or nil.
func bannedWord(_ name: String) -> String? {
    let banned: Set<String> = [
        "manager", "helper", "helpers", "util", "utils", "utilities", "engine", "provider", "handler",
        "context", "info", "data",
    ]
    var words: [String] = [""]
    for character in name {
        if character.isUppercase || !character.isLetter { words.append("") }
        words[words.count - 1].append(character.lowercased())
    }
    return words.first { banned.contains($0) }
}

@Suite struct ShapeRulesTests {
    @Test func bannedWordsAreFoundInNames() {
        #expect(bannedWord("SocketManager") == "manager")
        #expect(bannedWord("UserInfo") == "info")
        #expect(bannedWord("Database") == nil)
        #expect(bannedWord("Informant") == nil)
    }

    @Test func typesAreFound() {
        #expect(declaredTypes("    public final class Server {") == ["Server"])
        #expect(declaredTypes("    class func make() {}") == [])
        #expect(declaredTypes("// struct Gone") == [])
    }

    @Test func functionsAreMeasured() {
        let lines = [
            "struct A {", "    func f() {", "        if x {", "        }", "    }", "    init() {}", "}",
        ]
        #expect(functionLengths(lines).map(\.count) == [4])
        #expect(functionLengths(lines).map(\.index) == [1])
    }

    @Test func tabsCount() { #expect(columns("\ta\tb") == 17) }
}
