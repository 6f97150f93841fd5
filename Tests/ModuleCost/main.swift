// What the C border costs a store backend: the same empty commit through a class of the core, and through
// a module that is written in Swift, compiled for and called over the C struct.
//
//     swift run -c release module-cost
//
// Prints nanoseconds a call, the median and the best of 31 rounds of a million calls each, one after the
// other so that what disturbs one disturbs both. Ends with 1 if the median of the differences is over 10 ns.

import CXenStorePlugin
import Glibc
import XenStore
import XenStoreHost
import XenStorePlugin

/// What a call does beside being one: it looks at what it is handed, so that nothing is optimised away.
nonisolated(unsafe) var seen: UInt64 = 0

final class Direct: Backend {
    override func commit(_ sequence: UInt64, _ records: Span<UInt8>) -> Outcome {
        seen &+= sequence &+ UInt64(records.count)
        return .final
    }
}

final class Module: StoreBackend {
    override func commit(
        _ sequence: UInt64, _ records: UnsafeRawBufferPointer
    ) throws(PluginFailure) -> CommitOutcome {
        seen &+= sequence &+ UInt64(records.count)
        return .final
    }
}

let plugin = Plugin(
    backend: Module.init, name: "counting", version: "1", summary: "Counts.", isDurable: false, options: [])

/// Nanoseconds a call of `backend.commit`, of a million.
@inline(never)
func measure(_ backend: Backend, _ batch: [UInt8]) -> Double {
    let count: UInt64 = 1_000_000
    var start = timespec()
    var end = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
    for sequence in 0..<count where backend.commit(sequence, batch.span) != .final { exit(2) }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
    let elapsed = (end.tv_sec - start.tv_sec) * 1_000_000_000 + end.tv_nsec - start.tv_nsec
    return Double(elapsed) / Double(count)
}

func text(_ figure: Double) -> String {
    let tenths = Int((figure * 10).rounded())
    return "\(tenths / 10).\(abs(tenths % 10))"
}

func line(_ name: String, _ figures: [Double]) -> String {
    let sorted = figures.sorted()
    return "\(name): \(text(sorted[sorted.count / 2])) ns, best \(text(sorted[0])) ns"
}

var choice = StoreChoice()
choice.backend = Placed("counting")
choice.search.builtIn = [BuiltInModule(plugin.pointer)]
let log = try Log(.standardError, level: .error)
let module = try ModuleBackend(choice, log: log) { _ in }
let direct = Direct()
let batch = [UInt8](repeating: 0, count: 64)
_ = (measure(direct, batch), measure(module, batch))

var figures: (direct: [Double], module: [Double], border: [Double]) = ([], [], [])
for _ in 0..<31 {
    let round = (measure(direct, batch), measure(module, batch))
    figures.direct.append(round.0)
    figures.module.append(round.1)
    figures.border.append(round.1 - round.0)
}
print(line("a class of the core", figures.direct))
print(line("a module", figures.module))
print(line("the border", figures.border))
log.close()
exit(figures.border.sorted()[15] <= 10 ? 0 : 1)
