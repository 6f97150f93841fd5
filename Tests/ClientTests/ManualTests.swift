// Is the code in docs/client.md code? What stands there stands here too, word for word, and is run.

import Foundation
import Testing
import XenStoreClient
import XenStoreTypes

// A backend's part in connecting a network device: the first example of docs/client.md.
func serveDevice(_ client: XenStoreClient, frontend: String, backend: String) async throws {
    try await client.write(backend + "/state", "2")
    for try await _ in try await client.watch(frontend + "/state") {
        guard let state = try? await client.readString(frontend + "/state") else { continue }
        if state == "3" {
            let ring = try await client.readString(frontend + "/ring-ref")
            try await client.withTransaction { transaction in
                try await transaction.write(backend + "/ring", ring)
                try await transaction.write(backend + "/state", "4")
            }
        }
        if state == "5" { return }
    }
}

// Domains that end, and the second example.
func deaths(_ client: XenStoreClient, _ report: (String) -> Void) async throws {
    for try await event in try await client.watch("@releaseDomain", depth: 1) {
        if event.stoodForOthers {
            report("some: look at all of them")
        } else {
            report(event.path)
        }
    }
}

// Errors, and the third example.
func nameOrNil(_ client: XenStoreClient, _ domain: DomainID) async throws -> String? {
    do {
        return try await client.readString(client.domainPath(domain) + "/name")
    } catch let error as XenStoreError where error.errorName == .noent {
        return nil
    }
}

@Suite(.timeLimit(.minutes(10)))
struct ManualTests {
    let daemon: TestDaemon

    init() throws { daemon = try TestDaemon() }

    @Test func `a device is connected`() async throws {
        let (backend, frontend) = (try await daemon.client(), try await daemon.client())
        let serving = Task { try await serveDevice(backend, frontend: "/front", backend: "/back") }
        var states = try await frontend.watch("/back/state").makeAsyncIterator()
        try await frontend.write("/front/ring-ref", "8")
        try await frontend.write("/front/state", "3")
        repeat {
            #expect(try await states.next() != nil)
        } while try await frontend.read("/back/state") != [52]
        #expect(try await frontend.readString("/back/ring") == "8")
        try await frontend.write("/front/state", "5")
        try await serving.value
    }

    @Test func `deaths are reported`() async throws {
        let client = try await daemon.client()
        let (paths, continuation) = AsyncStream.makeStream(of: String.self)
        let watching = Task { try await deaths(client) { continuation.yield($0) } }
        for await path in paths {
            #expect(path == "@releaseDomain")
            break
        }
        watching.cancel()
        try await watching.value
    }

    @Test func `a name, or none`() async throws {
        let client = try await daemon.client()
        #expect(try await nameOrNil(client, .zero) == nil)
        try await client.write("/local/domain/0/name", "Domain-0")
        #expect(try await nameOrNil(client, .zero) == "Domain-0")
    }

    @Test func `the manual's code is this file's`() throws {
        let here = URL(filePath: #filePath)
        let source = try String(contentsOf: here, encoding: .utf8)
        let manual = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "docs/client.md")
        let blocks = try String(contentsOf: manual, encoding: .utf8).components(separatedBy: "```swift\n")
            .dropFirst().map { $0.components(separatedBy: "```")[0] }
        #expect(blocks.count == 3)
        for block in blocks { #expect(source.contains(block), "\(block)") }
    }
}
