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
        let (status, text) = runProgram("\(products)/xenstore-conformance", arguments)
        #expect(status == 0, "xenstore-conformance \(arguments.joined(separator: " "))\n\(text)")
    }

    /// A backend that keeps nothing does not pass: the kit can fail.
    @Test func memoryDoesNot() {
        let (status, text) = runProgram("\(products)/xenstore-conformance", ["memory", "--batches", "3"])
        #expect(status == 1)
        #expect(text.contains("batch 0 is there, expected 3"))
    }
}
