// What the configuration's tests share: the shipped files, and reading text without this machine's users.

import Glibc
import Testing

@testable import XenStoreHost

/// The root of the package.
let packageRoot: String = {
    let parts = #filePath.split(separator: "/")
    return "/" + parts.dropLast(3).joined(separator: "/")
}()

/// A file of the package, whole.
func packageFile(_ path: String) throws -> [UInt8] { try wholeFile("\(packageRoot)/\(path)") }

/// All bytes of a file.
func wholeFile(_ path: String) throws -> [UInt8] {
    let file = try #require(fopen(path, "r"), "\(path) is missing")
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return bytes
}

/// One user and one group, so that no test depends on the machine's.
let twoAccounts = Accounts(user: { $0 == "alice" ? 1001 : nil }, group: { $0 == "staff" ? 50 : nil })

/// The defaults with `text` over them.
func configuration(_ text: String) throws -> Configuration {
    var result = Configuration()
    try result.read(Array(text.utf8), file: "f.yaml", accounts: twoAccounts)
    return result
}

/// The lines that are printed about a file with these bytes; none if it is good.
func mistakes(_ bytes: [UInt8]) -> [String] {
    var result = Configuration()
    do {
        try result.read(bytes, file: "f", accounts: twoAccounts)
        return []
    } catch {
        return error.all.map(\.description)
    }
}

func mistakes(_ text: String) -> [String] { mistakes(Array(text.utf8)) }
