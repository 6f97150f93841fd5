// Do the documents point at what exists, and does the Makefile list what it can do?

import Foundation
import Testing

@Suite struct DocumentTests {
    @Test func everyLinkLeadsSomewhere() {
        var found: [String] = []
        for file in markdownFiles {
            for (index, line) in file.lines.enumerated() {
                for target in links(line)
                where !FileManager.default.fileExists(atPath: resolve(target, in: file)) {
                    found.append("\(file.place(index)): \(target)")
                }
            }
        }
        #expect(!markdownFiles.isEmpty)
        #expect(found == [])
    }

    @Test func everyDocumentIsLinkedTo() {
        let linked = markdownFiles.flatMap { file in file.lines.flatMap(links).map { resolve($0, in: file) } }
        let lonely = markdownFiles.filter {
            $0.path.hasPrefix("docs/") && !linked.contains(top.appending(path: $0.path).path)
        }
        #expect(lonely.map(\.path) == [])
    }

    @Test func theMakefileListsItsTargetsOnTop() throws {
        let lines = try #require(tree.first { $0.path == "Makefile" }).lines
        let head = lines.prefix { $0.hasPrefix("#") }
        let listed = Set(head.compactMap { $0.firstMatch(of: /^#   make (\S+)/)?.1 })
        let phony = try #require(lines.first { $0.hasPrefix(".PHONY: help") }).split(separator: " ")
            .dropFirst()
        let rules = Set(lines.compactMap { $0.firstMatch(of: /^([a-z-]+):/)?.1 })
        #expect(!listed.isEmpty)
        #expect(listed == Set(phony))
        #expect(listed.subtracting(rules) == [])
    }
}

/// The files that a line links to: no address of another machine, no part after `#`.
func links(_ line: String) -> [String] {
    line.matches(of: /\]\(([^)\s]+)\)/).map { String($0.1) }
        .filter { !$0.contains("://") && !$0.hasPrefix("#") && !$0.hasPrefix("mailto:") }
        .map { String($0.prefix { $0 != "#" }) }
}

/// The path that a link in a document stands for.
func resolve(_ target: String, in file: SourceFile) -> String {
    top.appending(path: file.path).deletingLastPathComponent().appending(path: target).standardizedFileURL
        .path
}
