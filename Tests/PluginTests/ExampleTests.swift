// Do the examples of docs/plugins.md build as an outsider would build them, load, and do what the page says?

import CXenStorePlugin
import Foundation
import Glibc
import Testing
import XenStore
import XenStoreHost
import XenStoreTestKit

/// The code blocks of docs/plugins.md by the file that each is of, from the top of Plugins/Examples.
func documentedFiles() throws -> [String: String] {
    let page = try String(contentsOfFile: ModuleScratch.top + "/docs/plugins.md", encoding: .utf8)
    var files: [String: String] = [:]
    for block in page.matches(of: /\n`([^`\n]+)`:\n\n```[a-z]+\n((?s).*?)```\n/) {
        files[String(block.1)] = String(block.2)
    }
    return files
}

@Suite struct DocumentedExampleTests {
    /// So the page is the examples, and whoever changes one must change the other.
    @Test func thePageShowsTheFilesAsTheyAre() throws {
        let documented = try documentedFiles()
        let examples = ModuleScratch.top + "/Plugins/Examples"
        var files: [String: String] = [:]
        for path in FileManager.default.enumerator(atPath: examples)?.compactMap({ $0 as? String }) ?? [] {
            let isBuilt = path.split(separator: "/").contains { $0.hasPrefix(".") }
            guard !isBuilt, path.hasSuffix(".swift") || path.hasSuffix(".c") || path.hasSuffix("Makefile")
            else { continue }
            files[path] = try String(contentsOfFile: "\(examples)/\(path)", encoding: .utf8)
        }
        // The policy's and the backend's packages are one.
        #expect(files.count == 8)
        #expect(documented.keys.sorted() == files.keys.sorted())
        for (path, text) in files { #expect(documented[path] == text, "\(path)") }
    }
}

/// Builds the page's modules outside of this tree, once; the tests share them.
private struct OutsideBuild {
    let scratch = ModuleScratch()

    /// A copy of the sources without anything built, with the page's text over the examples.
    init() throws {
        let files = FileManager.default
        for name in ["Package.swift", "Sources", "Plugins", "Tests"] {
            try files.copyItem(atPath: "\(ModuleScratch.top)/\(name)", toPath: scratch / name)
        }
        let examples = scratch / "Plugins/Examples"
        try files.removeItem(atPath: examples)
        for (path, text) in try documentedFiles() {
            let place = URL(filePath: "\(examples)/\(path)")
            try files.createDirectory(
                at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
            try text.write(to: place, atomically: false, encoding: .utf8)
        }
    }

    /// Fails with what the build has said.
    func run(_ words: [String], seconds: Int) throws {
        let outcome = try scratch.run(words, seconds: seconds)
        if outcome.status != 0 { throw StartFailure(outcome.output) }
    }
}

@Suite(.serialized) struct ExampleTests {
    /// Two names that the page gives, and where the files are.
    private struct Built {
        var directory: String
        var store: String
        var policy: String
    }

    @Test func thePackageInSwift() throws {
        let build = try OutsideBuild()
        let package = build.scratch / "Plugins/Examples/Swift"
        try build.run(["swift", "build", "-j", "2", "--package-path", package], seconds: 300)
        try check(
            Built(directory: "\(package)/.build/debug", store: "smallest-store", policy: "smallest-policy"))
    }

    @Test func theModulesInC() throws {
        let build = try OutsideBuild()
        let folder = build.scratch / "Plugins/Examples/C"
        // What `make install` gives is the header alone.
        let include = build.scratch / "include"
        try FileManager.default.createDirectory(atPath: include, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: ModuleScratch.header + "/xenstore_plugin.h", toPath: include + "/xenstore_plugin.h")
        let flags = "CFLAGS=-O1 -Wall -Wextra -Werror"
        try build.run(["make", "-C", folder, "INCLUDE=\(include)", flags], seconds: 60)
        try check(Built(directory: folder, store: "smallest-store-c", policy: "smallest-policy-c"))
    }

    private func check(_ built: Built) throws {
        let scratch = ModuleScratch()
        try checkStore(built, scratch)
        var choice = scratch.choice(built.policy)
        choice.search.directories = [built.directory]
        let module = try choice.search.find(choice.backend)
        let policy = try #require(module.policy)
        let instance = try #require(openPolicy(module, policy))
        var interest = xenstore_interest()
        policy.interest(instance, &interest)
        #expect(interest.decides == 1 << 11 | 1 << 12)
        let write = Int(XENSTORE_OP_WRITE)
        #expect(ask(policy, instance, write, domain: 0, "/a").verdict == 0)
        #expect(ask(policy, instance, write, domain: 7, "/local/domain/7/x").verdict == 0)
        let answer = ask(policy, instance, write, domain: 7, "/local/domain/8/x")
        let reason = "guests write below /local/domain/7/ only"
        #expect(answer == PolicyAnswer(verdict: 2, error: EACCES, delay: 0, reason: reason))
        policy.close(instance)
    }

    private func checkStore(_ built: Built, _ scratch: ModuleScratch) throws {
        let log = try scratch.log()
        defer { log.close() }
        let file = scratch / "store"
        var choice = scratch.choice(built.store, [("path", file)])
        choice.search.directories = [built.directory]
        func open() throws(StartFailure) -> ModuleBackend { try ModuleBackend(choice, log: log) { _ in } }
        func recovered(_ backend: ModuleBackend) throws(StartFailure) -> (UInt64, [[UInt8]]) {
            var batches: [[UInt8]] = []
            let newest = try backend.recover {
                batches.append(Array($0))
                return true
            }
            return (newest, batches)
        }

        let first = try open()
        #expect(first.isDurable)
        #expect(try recovered(first) == (0, []))
        #expect(first.commit(1, [1, 2, 3].span) == .final)
        #expect(first.commit(2, [4].span) == .final)
        let second = #expect(throws: StartFailure.self) { try open() }
        #expect(second?.description.hasPrefix("f.yaml:2:12: store backend \(built.store): \(file)") == true)
        first.close()

        // A batch that was cut short by a death is none, and what follows stands behind the whole ones.
        let size = contents(file).count
        let descriptor = Glibc.open(file, O_WRONLY | O_APPEND)
        let half: [UInt8] = [3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5]
        #expect(write(descriptor, half, half.count) == half.count)
        close(descriptor)
        let third = try open()
        #expect(try recovered(third) == (2, [[1, 2, 3], [4]]))
        #expect(contents(file).count == size)
        #expect(third.commit(3, [6].span) == .final)
        third.close()
        let fourth = try open()
        #expect(try recovered(fourth) == (3, [[1, 2, 3], [4], [6]]))
        fourth.close()

        choice.options[0].value.value = scratch / "none/store"
        let missing = #expect(throws: StartFailure.self) { try open() }
        #expect(
            missing?.description.hasSuffix("/none/store cannot be opened: No such file or directory") == true)
    }

    private func contents(_ path: String) -> Data { FileManager.default.contents(atPath: path) ?? Data() }
}
