// Does the README say what the module says of its options?

import Foundation
import Testing

@testable import TDBFileStore

@Suite struct ReadmeTests {
    @Test func `the table of options`() throws {
        let top = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = top.appending(path: "Plugins/TDBFileStore/README.md").path
        let text = String(decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
        let section = try #require(text.components(separatedBy: "## Options\n").last)
            .components(separatedBy: "\n## ")[0]
        let rows = section.components(separatedBy: "\n").filter { $0.hasPrefix("| `") }
        let expected = Settings.descriptions.map { option in
            "| `\(option.name)` | `\(option.fallback ?? "")` | \(option.meaning) |"
        }
        #expect(rows == expected)
    }
}
