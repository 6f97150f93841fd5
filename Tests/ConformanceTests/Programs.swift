// Where the programs and modules under test are, and how they are run.

import Glibc

/// Where the build has put programs and modules: beside these tests.
let products: String = {
    var bytes = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &bytes, bytes.count - 1)
    let own = String(decoding: bytes[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return own.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
}()

/// Runs a program to its end; stdout and stderr together.
func runProgram(_ program: String, _ arguments: [String]) -> (status: Int32, text: String) {
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
