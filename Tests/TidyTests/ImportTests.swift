// Does each module import only what the table of docs/architecture.md allows it?

import Testing

@Suite struct ImportTests {
    /// Module, and all that it may import.
    static let allowed: [String: Set<String>] = [
        "XenStoreTypes": [],
        "XenStore": ["XenStoreTypes"],
        "XenStoreRing": ["CRing"],
        "XenStoreLog": ["CLinux", "Glibc"],
        "XenStorePlugin": ["XenStoreTypes", "CXenStorePlugin"],
        "XenStorePolicies": ["XenStoreTypes", "XenStore", "CXenStorePlugin"],
        "XenStoreYAML": ["XenStoreTypes", "CYAML", "Glibc"],
        "XenStoreHost": [
            "XenStoreTypes", "XenStore", "XenStoreRing", "XenStoreLog", "CXen", "CXenStorePlugin", "CLinux",
            "XenStoreYAML", "XenStorePolicies", "Glibc",
        ],
        "XenStoreClient": ["XenStoreTypes", "XenStoreRing", "CLinux", "Glibc"],
        "xenstored": [
            "XenStoreTypes", "XenStore", "XenStoreHost", "XenStorePlugin", "AppendLogStore", "MemoryStore",
            "AuditTrail", "RateLimitOptions", "TypeLabelsFile", "PathRulesFile", "Glibc", "ArgumentParser",
        ],
        "xenstore-conformance": [
            "XenStoreTestKit", "XenStoreHost", "AppendLogStore", "MemoryStore", "AuditTrail",
            "RateLimitOptions", "TypeLabelsFile", "PathRulesFile", "Glibc", "ArgumentParser",
        ],
        "simulated-domain": ["XenStoreTypes", "XenStoreHost", "Glibc", "ArgumentParser"],
        "xenstore-demo": ["XenStoreTypes", "XenStoreClient", "XenStoreHost", "Glibc", "ArgumentParser"],
        // A client of its own, of a few lines: what it measures shall not be a client's cost.
        "xenstore-bench": ["XenStoreTypes", "XenStoreRing", "CLinux", "Glibc", "ArgumentParser"],
    ]
    /// What modules may import beside the interface, the SDK and their own targets: their C libraries, and
    /// what goes with them.
    static let plugins: [String: Set<String>] = [
        "MemoryStore": [],
        "AuditTrail": ["CLinux", "Glibc"],
        "RateLimit": [],
        "TypeLabels": ["XenStoreYAML"],
        "AppendLogStore": ["XenStoreLog", "CLinux", "Glibc"],
        "TDBFileStore": ["XenStoreLog", "CTDB", "CLinux", "Glibc"],
        "PathRules": ["XenStoreYAML", "Glibc"],
    ]
    /// These, and the tests, may import anything.
    static let free: Set<String> = ["XenStoreTestKit"]

    @Test func everyImportIsInTheTable() {
        var found: [String] = []
        for file in swiftFiles where file.path.hasPrefix("Sources/") {
            let module = file.module ?? ""
            if Self.free.contains(module) { continue }
            guard let allowed = Self.allowed[module] else {
                found.append("\(file.path): the module \(module) is not in the table")
                continue
            }
            for (index, line) in file.lines.enumerated() {
                guard let imported = importedModule(line), !allowed.contains(imported) else { continue }
                found.append("\(file.place(index)): \(module) may not import \(imported)")
            }
        }
        #expect(found == [])
    }

    /// Examples stand outside: they are what others write.
    @Test func everyImportOfAPluginIsInTheTable() {
        let files = swiftFiles.filter { $0.path.hasPrefix("Plugins/") && $0.module != "Examples" }
        let targets = Set(
            files.compactMap { file -> String? in
                let parts = file.path.split(separator: "/")
                return parts.count > 4 && parts[2] == "Sources" ? String(parts[3]) : nil
            })
        var found: [String] = []
        for file in files {
            let folder = file.module ?? ""
            guard let own = Self.plugins[folder] else {
                found.append("\(file.path): the folder \(folder) is not in the table")
                continue
            }
            let allowed = own.union(["XenStoreTypes", "XenStorePlugin", "CXenStorePlugin"])
            for (index, line) in file.lines.enumerated() {
                guard let imported = importedModule(line), !allowed.contains(imported) else { continue }
                if targets.contains(imported), imported.hasPrefix(folder) { continue }
                found.append("\(file.place(index)): \(folder) may not import \(imported)")
            }
        }
        #expect(!files.isEmpty)
        #expect(found == [])
    }

    /// The stub domain's kernel: the core, the shared page, the deciding halves of policies, the processor.
    @Test func theKernelImportsWhatIsEmbedded() {
        let allowed: Set<String> = [
            "XenStoreTypes", "XenStore", "XenStoreRing", "XenStorePolicies", "XenStorePlugin",
            "CXenStorePlugin", "PathRules", "TypeLabels", "RateLimit", "CMachine",
        ]
        let files = swiftFiles.filter { $0.path.hasPrefix("stubdom/") }
        let found = files.flatMap { file in
            file.lines.enumerated().compactMap { index, line in
                importedModule(line).flatMap { allowed.contains($0) ? nil : "\(file.place(index)): \($0)" }
            }
        }
        #expect(!files.isEmpty)
        #expect(found == [])
    }

    @Test func everyModuleOfTheTableIsThere() {
        let there = Set(swiftFiles.filter { $0.path.hasPrefix("Sources/") }.compactMap(\.module))
        #expect(Set(Self.allowed.keys).union(Self.free) == there)
    }

    /// `-Ounchecked` drops the side effects of preconditions with their checks.
    @Test func uncheckedBuildsAreNotUsed() {
        let builds = tree.filter { ["Package.swift", "Makefile"].contains($0.path) }
        #expect(builds.count == 2)
        #expect(builds.filter { $0.lines.contains { $0.contains("-Ounchecked") } }.map(\.path) == [])
    }

    @Test(arguments: [
        ("import Glibc", "Glibc"), ("@testable import XenStore", "XenStore"),
        ("@_exported public import CXen", "CXen"), ("import struct Foundation.URL", "Foundation"),
        ("    private import CLinux  // why", "CLinux"),
    ])
    func importsAreRecognised(line: String, module: String) {
        #expect(importedModule(line) == module)
    }

    @Test(arguments: ["// import Glibc", "let importance = 1", "important()"])
    func otherLinesAreNone(line: String) {
        #expect(importedModule(line) == nil)
    }
}

/// The module that a line of Swift imports, or nil if it is no import.
func importedModule(_ line: String) -> String? {
    let words = line.split { " .".contains($0) }.map(String.init)
    let before: Set<String> = ["public", "package", "internal", "fileprivate", "private"]
    let kinds: Set<String> = ["struct", "class", "enum", "protocol", "typealias", "func", "let", "var"]
    guard let at = words.firstIndex(of: "import"),
        words[..<at].allSatisfy({ before.contains($0) || $0.hasPrefix("@") })
    else { return nil }
    return words[(at + 1)...].first { !kinds.contains($0) }
}
