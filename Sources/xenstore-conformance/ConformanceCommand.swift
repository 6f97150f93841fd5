// xenstore-conformance: tries what every store backend must be proof against, or what every access policy
// must keep to, on one of them.

import ArgumentParser
import Glibc
import MemoryStore
import XenStoreHost
import XenStoreTestKit

@main
struct ConformanceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstore-conformance",
        abstract: "Try on a module what every store backend, or every access policy, must be proof against.",
        discussion: """
            A backend runs in processes that are killed, and whose disk fails at every call; after each, \
            what is left must be the state after some batch that was offered, and nothing that was final \
            may be missing. A policy is asked thousands of questions, usual and hostile ones: its answers \
            must be ones that there are and depend on the questions alone, dry runs must change nothing, \
            and what a question costs must grow with its path's length only. Examples:
            xenstore-conformance /home/me/libxenstore-mine.so -o path=@DIR@/store
            xenstore-conformance path-rules -o file=/etc/xen/policies/hardened-guests.yaml
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

    @Option(help: "Batches of a history, for a backend.")
    var batches = 60

    @Option(help: "Questions of a series, for a policy.")
    var questions = 5000

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
        do {
            let found = try choice.search.find(choice.backend)
            if found.isPolicy { try tryPolicy(found, directory) } else { try tryBackend(directory) }
        } catch let error as ValidationError {
            removeTree(directory)
            throw error
        } catch {
            print("FAILED: \(error)\nwhat is left: \(directory)")
            throw ExitCode(1)
        }
        removeTree(directory)
        print("\(module) passed")
    }

    private func tryPolicy(_ found: Module, _ directory: String) throws {
        var kit = PolicyConformance(found, choice.options, directory: directory, seed: seed)
        kit.questions = questions
        kit.progress = { print($0) }
        try kit.run()
    }

    private func tryBackend(_ directory: String) throws {
        guard let program = Self.program else { throw ValidationError("/proc/self/exe cannot be read") }
        var library: String? = faults ?? "\(Self.directory(of: program))/libxenstore-faults.so"
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
        try kit.run()
    }

    private static func directory(of program: String) -> String {
        program.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
    }

    private static var program: String? {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &bytes, bytes.count - 1)
        return count > 0
            ? String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    /// The module with its options, and where it is looked for.
    private var choice: StoreChoice {
        var choice = StoreChoice()
        choice.backend = Placed(module)
        choice.options = options.map { option in
            let parts = option.split(separator: "=", maxSplits: 1)
            return ModuleOption(Placed(String(parts[0])), Placed(parts.count > 1 ? String(parts[1]) : ""))
        }
        choice.search.builtIn = builtInModules
        if let modules { choice.search.directories = [modules] }
        if let program = Self.program { choice.search.directories.append(Self.directory(of: program)) }
        return choice
    }

    private func runWorker() -> Int32 {
        BackendWorker(
            choice, BackendHistory(seed: seed, batches: batches), last: last ?? batches, hold: hold
        ).run()
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
