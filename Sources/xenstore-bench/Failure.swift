// Why a measurement could not be taken. It is printed as it is; nothing here recovers from it.

import Glibc

struct Failure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }

    /// A system call that failed, with what errno says about it.
    static func call(_ what: String) -> Failure {
        Failure("\(what): \(String(cString: strerror(errno)))")
    }
}
