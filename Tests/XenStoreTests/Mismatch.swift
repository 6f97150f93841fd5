// What the property tests share: their seeds, and how they say what is wrong.

import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

/// Each property test runs once for each of these; a failure names the one.
let seeds: [UInt64] = [1, 2, 3, 4, 5, 6, 7, 8]

/// A property does not hold. It ends the test, for what follows would only be noise.
struct Mismatch: Error, CustomStringConvertible {
    var description: String
}

/// Throws a `Mismatch` that names the seed and the step, unless `holds`.
func demand(_ holds: Bool, _ seed: UInt64, _ step: Int, _ what: @autoclosure () -> String) throws {
    if !holds { throw Mismatch(description: "seed \(seed), step \(step): \(what())") }
}

extension SplitMix64 {
    /// So many random bytes.
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(below(256)) } }
}

extension ParsedPath {
    /// Parses a path of text; nil if it was taken, else the error's name.
    func refusal(_ text: String, home: UInt16 = 7, allowSpecial: Bool = false) -> String? {
        refusal(Array(text.utf8), home: home, allowSpecial: allowSpecial)
    }

    func refusal(_ given: [UInt8], home: UInt16 = 7, allowSpecial: Bool = false) -> String? {
        given.withBytes { bytes in
            do throws(ErrorName) {
                try parse(bytes, home: DomainID(home), allowSpecial: allowSpecial)
                return nil
            } catch {
                return "\(error.name)"
            }
        }
    }

    var string: String { String(decoding: text, as: UTF8.self) }
}
