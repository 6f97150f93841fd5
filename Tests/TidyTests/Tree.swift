// The files of this repository, as the tidiness tests read them.

import Foundation

/// One text file: where it is, and its lines without their newlines.
struct SourceFile: Sendable {
    /// From the repository's top: `Sources/XenStore/Server.swift`.
    let path: String
    let lines: [String]

    /// The folder below `Sources`, `Tests` or `Plugins` that the file is in: its module.
    var module: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 ? String(parts[1]) : nil
    }
    var isSwift: Bool { path.hasSuffix(".swift") }
    var isC: Bool { path.hasSuffix(".c") || path.hasSuffix(".h") }

    /// `path:line`, as a compiler says it; lines count from 1.
    func place(_ index: Int) -> String { "\(path):\(index + 1)" }
}

/// The repository's top: three folders above this file.
let top = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

/// Every text file that somebody wrote: hidden files, builds and the fuzzers' corpus are none.
let tree: [SourceFile] = {
    let files = FileManager.default
    let folders = ["Sources", "Tests", "Plugins", "config", "docs", "stubdom"]
    var paths = (try? files.contentsOfDirectory(atPath: top.path)) ?? []
    for folder in folders {
        let walk = files.enumerator(atPath: top.appending(path: folder).path)
        while let path = walk?.nextObject() as? String { paths.append("\(folder)/\(path)") }
    }
    return paths.sorted().compactMap { path in
        let isSkipped = path.split(separator: "/").contains { $0.hasPrefix(".") || $0 == "corpus" }
        guard !isSkipped, path != "LICENSE",
            let text = try? String(contentsOf: top.appending(path: path), encoding: .utf8)
        else { return nil }
        var lines = text.components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        return SourceFile(path: path, lines: lines)
    }
}()

let swiftFiles = tree.filter(\.isSwift)
let markdownFiles = tree.filter { $0.path.hasSuffix(".md") }
