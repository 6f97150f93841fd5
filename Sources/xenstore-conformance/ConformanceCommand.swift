// xenstore-conformance: tries what every store backend must be proof against on one of them.

import ArgumentParser
import Glibc
import MemoryStore
import XenStoreHost
import XenStoreTestKit

@main
struct ConformanceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstore-conformance",
        abstract: "Try what every store backend must be proof against on one of them.",
        discussion: """
            The backend runs in processes that are killed, and whose disk fails at every call; after each, \
            what is left must be the state after some batch that was offered, and nothing that was final \
            may be missing. Example: xenstore-conformance ./libxenstore-mine.so -o path=@DIR@/store
            """)

    @Argument(help: "The module: its name, or the absolute path of a shared object.")
    var module: String

    @Option(
        name: [.customShort("o"), .customLong("option")],
        help: "An option of the module, KEY=VALUE; @DIR@ is the directory of the run.")
    var options: [String] = []

    @Option(help: "A directory of modules that are named.")
    var modules: String?

    @Option(help: "The library libxenstore-faults.so; beside this program, if it is there.")
    var faults: String?

    @Option(help: "What the histories are made of.")
    var seed: UInt64 = 1

    @Option(help: "Batches of a history.")
    var batches = 60

    @Option(help: "Runs for each kind of fault.")
    var runs = 40

    @Flag(help: .hidden)
    var worker = false

    @Flag(help: .hidden)
    var hold = false

    @Option(help: .hidden)
    var last: Int?

    func run() throws {
        if worker { throw ExitCode(runWorker()) }
        var template = Array("/tmp/xenstore-conformance.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ValidationError("cannot make a directory in /tmp") }
        let directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        guard let program = Self.program else { throw ValidationError("/proc/self/exe cannot be read") }
        let beside = program.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
        var library: String? = faults ?? "\(beside)/libxenstore-faults.so"
        if let path = library, access(path, R_OK) != 0 {
            if faults != nil { throw ValidationError("\(path) cannot be read") }
            print("\(path) is not there: no faults are given, only kills")
            library = nil
        }
        var command = [program, module, "--worker"] + options.flatMap { ["-o", $0] }
        if let modules { command += ["--modules", modules] }
        var kit = BackendConformance(
            command: command, faults: library, directory: directory, seed: seed)
        kit.batches = batches
        kit.runsOfEachKind = runs
        kit.progress = { print($0) }
        do {
            try kit.run()
        } catch {
            print("FAILED: \(error)\nwhat is left: \(directory)")
            throw ExitCode(1)
        }
        removeTree(directory)
        print("\(module) passed")
    }

    private static var program: String? {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &bytes, bytes.count - 1)
        return count > 0
            ? String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    private func runWorker() -> Int32 {
        var choice = StoreChoice()
        choice.backend = Placed(module)
        choice.options = options.map { option in
            let parts = option.split(separator: "=", maxSplits: 1)
            return ModuleOption(Placed(String(parts[0])), Placed(parts.count > 1 ? String(parts[1]) : ""))
        }
        choice.search.builtIn = builtInModules
        if let modules { choice.search.directories = [modules] }
        if let program = Self.program {
            choice.search.directories.append(
                program.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" })
        }
        let status = BackendWorker(
            choice, BackendHistory(seed: seed, batches: batches), last: last ?? batches, hold: hold
        ).run()
        return status
    }
}

/// Removes a directory with all below it.
private func removeTree(_ path: String) {
    if let directory = opendir(path) {
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { removeTree("\(path)/\(name)") }
        }
        closedir(directory)
    }
    remove(path)
}
