// Does every store backend of ours pass the conformance kit, linked in and loaded?

import Glibc
import Testing

@Suite struct StoreBackendTests {
    /// A backend as an author would name it to xenstore-conformance.
    struct Candidate: CustomStringConvertible, Sendable {
        var module: String
        var options: [String]
        var description: String { ([module] + options).joined(separator: " ") }
    }

    static let candidates = [
        Candidate(module: "append-log", options: ["path=@DIR@/store.log", "sync=never"]),
        Candidate(module: "append-log", options: ["path=@DIR@/store.log", "sync=always"]),
        Candidate(module: "\(products)/libxenstore-append-log.so", options: ["path=@DIR@/store.log"]),
        Candidate(
            module: "\(products)/libxenstore-tdb-file.so", options: ["path=@DIR@/tdb", "sync=never"]),
        Candidate(
            module: "\(products)/libxenstore-tdb-file.so", options: ["path=@DIR@/tdb", "sync=always"]),
    ]

    @Test(arguments: candidates) func itKeepsWhatItHasTaken(candidate: Candidate) {
        let arguments =
            [candidate.module, "--batches", "20", "--runs", "3", "--seed", "5"]
            + candidate.options.flatMap { ["-o", $0] }
        let (status, text) = run("\(Self.products)/xenstore-conformance", arguments)
        #expect(status == 0, "xenstore-conformance \(arguments.joined(separator: " "))\n\(text)")
    }

    /// A backend that keeps nothing does not pass: the kit can fail.
    @Test func memoryDoesNot() {
        let (status, text) = run("\(Self.products)/xenstore-conformance", ["memory", "--batches", "3"])
        #expect(status == 1)
        #expect(text.contains("batch 0 is there, expected 3"))
    }

    /// Where the build has put programs and modules: beside these tests.
    private static let products: String = {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &bytes, bytes.count - 1)
        let own = String(decoding: bytes[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return own.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
    }()

    private func run(_ program: String, _ arguments: [String]) -> (status: Int32, text: String) {
        guard
            let pipe = popen(([program] + arguments).map { "'\($0)'" }.joined(separator: " ") + " 2>&1", "r")
        else { return (-1, "cannot run \(program)") }
        var text: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = fread(&bytes, 1, bytes.count, pipe)
            if count == 0 { break }
            text += bytes[..<count]
        }
        let status = pclose(pipe)
        return (status >> 8 & 0xFF, String(decoding: text, as: UTF8.self))
    }
}
