// The conformance kit for store backends: what every backend must be proof against, tried on one of them.
//
// The backend runs in processes of its own (`BackendWorker`), which are given faults by a preloaded library
// (CFaults) or are killed. After each of them another process without faults looks at what is left:
// - what was final is there;
// - what is there is the state after some batch, all of it, and no later one than was offered;
// - the history goes on from there to its end.

import CLinux
import Glibc
import XenStoreTypes

/// What a conformance run found wrong.
public struct BackendFault: Error, CustomStringConvertible {
    public var description: String
}

/// The run of one backend.
public struct BackendConformance {
    /// The command that runs a worker: the arguments to which a seed and the last batch are added. `@DIR@`
    /// in them is replaced by the run's directory.
    public var command: [String]
    /// The library of faults; nil: those runs are left out.
    public var faults: String?
    /// A directory of ours; each run makes one in it.
    public var directory: String
    public var seed: UInt64
    public var batches = 60
    /// At most so many runs for each kind of fault, spread over all calls.
    public var runsOfEachKind = 40
    /// Told of each step.
    public var progress: (String) -> Void = { _ in }

    public init(command: [String], faults: String?, directory: String, seed: UInt64) {
        self.command = command
        self.faults = faults
        self.directory = directory
        self.seed = seed
    }

    /// What a worker said.
    private struct Said {
        var recovered: (batch: Int, digest: UInt64)?
        var committed = 0
        var failed = 0
        var refusal: String?
        var calls = 0
        var status: Int32 = 0
    }

    /// Runs everything. Throws the first thing that is wrong.
    public func run() throws {
        let history = BackendHistory(seed: seed, batches: batches)
        let calls = try plainRun(history)
        try secondProcess()
        try killedAtRandom(history)
        guard faults != nil else { return }
        for kind in ["enospc", "eio", "enomem", "full", "kill", "torn"] {
            try faultyRuns(history, kind, calls)
        }
        try readOnly()
    }

    // MARK: The runs

    /// All batches, then once more: everything is there. Answers how many calls there were to give faults to.
    private func plainRun(_ history: BackendHistory) throws -> Int {
        progress("a history of \(batches) batches")
        let place = try freshPlace()
        let first = try worker(place, environment: preload())
        guard first.status == 0, first.committed == batches else {
            throw fault("without any fault, batch \(first.committed) of \(batches) was the last: \(first)")
        }
        try check(place, history, least: batches, most: batches, "after a clean end")
        return first.calls
    }

    /// Whoever has the store open keeps others out.
    private func secondProcess() throws {
        progress("a second process is kept out")
        let place = try freshPlace()
        let first = try start(place, last: batches, environment: [], hold: true)
        defer { stop(first) }
        _ = try hear(first, until: "committed")
        let second = try worker(place)
        guard second.status == 3, let reason = second.refusal, !reason.isEmpty else {
            throw fault("a second process was let in while the first was at work: \(second)")
        }
    }

    private func killedAtRandom(_ history: BackendHistory) throws {
        progress("killed at random moments")
        var random = SplitMix64(seed: seed ^ 0xDEAD)
        let place = try freshPlace()
        var least = 0
        for round in 0..<runsOfEachKind {
            let process = try start(place, last: batches, environment: [], hold: false)
            usleep(useconds_t(random.below(12_000)))
            kill(process.id, SIGKILL)
            let said = try finish(process)
            least = max(least, said.committed)
            let found = try check(
                place, history, least: least, most: min(batches, said.committed + 1 + said.failed),
                "killed, round \(round)", goOn: false)
            least = max(least, found)
            if least == batches { break }
        }
        try check(place, history, least: least, most: batches, "after kills")
    }

    private func faultyRuns(_ history: BackendHistory, _ kind: String, _ calls: Int) throws {
        if calls == 0 { return }
        let stride = max(1, calls / runsOfEachKind)
        progress("\(kind) at \((calls + stride - 1) / stride) of \(calls) calls")
        for at in Swift.stride(from: 1, through: calls, by: stride) {
            let place = try freshPlace()
            let said = try worker(place, environment: preload(at: at, kind: kind))
            // Where a sync has failed nobody can promise any more that the disk has what it was given.
            if said.status == 5 && kind != "eio" {
                throw fault("\(kind) at call \(at): a batch was submitted and never final")
            }
            let offered = min(batches, said.committed + 1)
            try check(place, history, least: said.committed, most: offered, "\(kind) at call \(at)")
        }
    }

    /// A file system that takes nothing: refused, with a reason, or served without a promise broken.
    private func readOnly() throws {
        progress("a read-only file system")
        let place = try freshPlace()
        let said = try worker(place, environment: preload(at: 1, kind: "rofs"))
        guard said.status == 3, said.refusal?.isEmpty == false else {
            throw fault("opened on a read-only file system: \(said)")
        }
    }

    // MARK: Looking at what is left

    /// Takes up what is left without faults, and goes on to the end of the history. Answers which batch was
    /// there.
    @discardableResult
    private func check(
        _ place: String, _ history: BackendHistory, least: Int, most: Int, _ what: String,
        goOn: Bool = true
    ) throws -> Int {
        let said = try worker(place, last: goOn ? batches : 0)
        guard let (batch, digest) = said.recovered else {
            throw fault("\(what): it cannot be taken up again: \(said.refusal ?? "status \(said.status)")")
        }
        guard batch >= least, batch <= most else {
            throw fault("\(what): batch \(batch) is there, expected \(least) to \(most)")
        }
        guard digest == history.states[batch].digest else {
            throw fault("\(what): what is there is not the state after batch \(batch)")
        }
        if !goOn { return batch }
        guard said.status == 0 else { throw fault("\(what): it does not go on: \(said)") }
        let end = try worker(place, last: 0)
        guard let last = end.recovered, last.batch == batches, last.digest == history.states[batches].digest
        else { throw fault("\(what): the history does not end as it should: \(end)") }
        return batch
    }

    private func fault(_ text: String) -> BackendFault {
        BackendFault(description: "seed \(seed): \(text)")
    }

    // MARK: Processes

    private struct Process {
        var id: pid_t
        var output: Int32
        /// Kept open as long as the process is to hold the store.
        var input: Int32
        var text = ""
    }

    private func preload(at: Int = 0, kind: String = "") -> [String] {
        guard let faults else { return [] }
        return ["LD_PRELOAD=\(faults)", "FAULT_AT=\(at)", "FAULT_KIND=\(kind)"]
    }

    private func freshPlace() throws -> String {
        var template = Array("\(directory)/run.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw fault("cannot make a directory in \(directory)") }
        return template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    private func worker(
        _ place: String, last: Int? = nil, environment: [String] = []
    ) throws -> Said {
        try finish(try start(place, last: last ?? batches, environment: environment, hold: false))
    }

    private func start(
        _ place: String, last: Int, environment: [String], hold: Bool
    ) throws -> Process {
        var (output, input): ([Int32], [Int32]) = ([-1, -1], [-1, -1])
        guard linux_pipe(&output) == 0, linux_pipe(&input) == 0 else {
            throw fault("cannot make a pipe")
        }
        let arguments =
            command.map { $0.replacing("@DIR@", with: place) }
            + ["--seed", "\(seed)", "--batches", "\(batches)", "--last", "\(last)"] + (hold ? ["--hold"] : [])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, input[0], 0)
        posix_spawn_file_actions_adddup2(&actions, output[1], 1)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var id: pid_t = 0
        let names = ["PATH", "LD_LIBRARY_PATH", "HOME"]
        let inherited: [String] = names.compactMap { (name: String) -> String? in
            getenv(name).map { "\(name)=\(String(cString: $0))" }
        }
        let code = withStrings(arguments) { argv in
            withStrings(inherited + environment) { envp in
                posix_spawn(&id, command[0], &actions, nil, argv, envp)
            }
        }
        close(input[0])
        close(output[1])
        guard code == 0 else { throw fault("cannot run \(command[0]): errno \(code)") }
        return Process(id: id, output: output[0], input: input[1])
    }

    /// Reads until a line begins with `word`.
    private func hear(_ process: Process, until word: String) throws -> Process {
        var process = process
        var bytes = [UInt8](repeating: 0, count: 4096)
        while !process.text.split(separator: "\n").contains(where: { $0.hasPrefix(word) }) {
            let count = read(process.output, &bytes, bytes.count)
            if count <= 0 { throw fault("the worker said no \(word): \(process.text)") }
            process.text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return process
    }

    private func stop(_ process: Process) {
        close(process.input)
        kill(process.id, SIGKILL)
        var status: Int32 = 0
        waitpid(process.id, &status, 0)
        close(process.output)
    }

    /// Reads to the end, and what it ended with. A worker that takes longer than a minute is killed.
    private func finish(_ process: Process) throws -> Said {
        close(process.input)
        defer { close(process.output) }
        var text = process.text
        var bytes = [UInt8](repeating: 0, count: 65536)
        var ready = pollfd(fd: process.output, events: Int16(POLLIN), revents: 0)
        while true {
            if poll(&ready, 1, 60_000) <= 0 {
                kill(process.id, SIGKILL)
                throw fault("a worker has hung, after: \(text.suffix(200))")
            }
            let count = read(process.output, &bytes, bytes.count)
            if count <= 0 { break }
            text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        var status: Int32 = 0
        waitpid(process.id, &status, 0)
        return said(text, status)
    }

    private func said(_ text: String, _ status: Int32) -> Said {
        var said = Said()
        said.status = status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F)
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 2)
            let number = words.count > 1 ? Int(words[1]) ?? 0 : 0
            switch words.first {
            case "recovered": said.recovered = (number, words.count > 2 ? UInt64(words[2]) ?? 0 : 0)
            case "committed": said.committed = number
            case "failed": said.failed += 1
            case "calls": said.calls = number
            case "refused": said.refusal = String(line.dropFirst(8))
            default: break
            }
        }
        // What was there before counts as committed too.
        said.committed = max(said.committed, said.recovered?.batch ?? 0)
        return said
    }
}

/// Lends texts as C has them, with a null pointer behind the last.
private func withStrings<R>(
    _ texts: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R
) -> R {
    let copies = texts.map { strdup($0) } + [nil]
    defer { for copy in copies { free(copy) } }
    return copies.withUnsafeBufferPointer { body($0.baseAddress!) }
}
