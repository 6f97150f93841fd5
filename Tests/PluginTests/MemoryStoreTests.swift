// Does the backend that keeps nothing do so, linked in and loaded, and say so?

import Foundation
import MemoryStore
import Testing
import XenStore
import XenStoreHost
import XenStoreTestKit

@Suite struct MemoryStoreTests {
    let scratch = ModuleScratch()

    @Test func linkedIn() throws {
        var choice = StoreChoice()
        choice.search.builtIn = [BuiltInModule(memoryStore.pointer)]
        try check(choice)
        #expect(try choice.module().origin == .builtIn)
    }

    @Test func loaded() throws {
        let built = try #require(Bundle.main.executableURL).deletingLastPathComponent()
        let path = scratch / "libxenstore-memory.so"
        try FileManager.default.copyItem(
            atPath: built.appending(path: "libxenstore-memory.so").path, toPath: path)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        let choice = scratch.choice("memory")
        try check(choice)
        #expect(try choice.module().origin == .file(path))
    }

    private func check(_ choice: StoreChoice) throws {
        let log = try scratch.log()
        defer { log.close() }
        for _ in 1...2 {
            let backend = try ModuleBackend(choice, log: log) { _ in }
            #expect(!backend.isDurable)
            #expect(try backend.recover { _ in false } == 0)
            #expect(backend.commit(1, [1, 2, 3].span) == .final)
            #expect(backend.room == .max)
            backend.close()
        }
    }
}
