// `--target NAME=PID:SOCKET[:DIRECTORY]` or `--target NAME=COMMAND`.

import ArgumentParser
import Glibc

/// A daemon to measure, as the command line names it.
struct TargetArgument: Equatable, Sendable, ExpressibleByArgument {
    enum Source: Equatable, Sendable {
        /// It is running already, and stays running. `simulated` is the directory of the simulated host whose
        /// domains it serves.
        case running(pid: Int32, socket: String, simulated: String?)
        /// We start it by this shell command, afresh for every measurement, and stop it.
        case command(String)
    }

    var name: String
    var source: Source

    init(name: String, source: Source) {
        self.name = name
        self.source = source
    }

    /// Nil unless there is a name, an equals sign and something behind it. What reads as a number, a colon
    /// and a slash is a running daemon; all else is a command. A second colon before a slash ends the
    /// socket's path.
    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        name = String(argument[..<equals])
        let rest = argument[argument.index(after: equals)...]
        guard !name.isEmpty, !rest.isEmpty else { return nil }
        if let colon = rest.firstIndex(of: ":"), let pid = Int32(rest[..<colon]), pid > 0,
            rest[rest.index(after: colon)...].first == "/"
        {
            let paths = rest[rest.index(after: colon)...]
            let second = paths.indices.first { paths[$0...].hasPrefix(":/") }
            source = .running(
                pid: pid, socket: String(paths[..<(second ?? paths.endIndex)]),
                simulated: second.map { String(paths[paths.index(after: $0)...]) })
        } else {
            source = .command(String(rest))
        }
    }

    /// The `xenstored` in the directory that this program was started from, in the foreground, on the
    /// simulated host.
    static func besideThisProgram() -> TargetArgument {
        var path = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let length = path.withUnsafeMutableBytes {
            readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        let program = String(decoding: path.prefix(max(length, 0)), as: UTF8.self)
        let directory = program[..<(program.lastIndex(of: "/") ?? program.startIndex)]
        return TargetArgument(
            name: "xenstored", source: .command("'\(directory)/xenstored' -N --hypervisor simulated"))
    }
}
