// A store backend at work in a process that may be killed: takes up what is there, then commits batch after
// batch of a history. What it says, a line each, in the order in which it happens:
//
//     recovered N DIGEST   newest batch, and the digest of all that was handed back
//     committed N          batch N is final
//     failed N CODE        batch N was not taken, and errno
//     refused TEXT         it could not be opened, or not recovered
//     calls N              how many calls could have been given a fault (FAULT_AT), at the end
//
// Exit status: 0 all batches are final; 3 refused; 4 a batch was not taken three times in a row; 5 a batch
// that was submitted was not final after three seconds.

import Glibc
import XenStore
import XenStoreHost
import XenStoreTypes

/// One process's share of a conformance run.
public struct BackendWorker {
    public var choice: StoreChoice
    public var history: BackendHistory
    /// The last batch to commit.
    public var last: Int
    /// Keep the store open at the end, until the input ends.
    public var hold = false

    public init(_ choice: StoreChoice, _ history: BackendHistory, last: Int, hold: Bool = false) {
        self.hold = hold
        self.choice = choice
        self.history = history
        self.last = last
    }

    public func run() -> Int32 {
        defer { sayCalls() }
        let final = FinalBatch()
        do throws(StartFailure) {
            let log = try Log(.file("/dev/null"), level: .error)
            let backend = try ModuleBackend(choice, log: log) { final.raise(to: $0) }
            defer { backend.close() }
            var state = BackendHistory.State()
            let newest = try backend.recover { state.apply($0) }
            say("recovered \(newest) \(state.digest)")
            let status = commit(backend, from: newest + 1, final)
            var byte: UInt8 = 0
            if hold { while read(0, &byte, 1) > 0 {} }
            return status
        } catch {
            say("refused \(error)")
            return 3
        }
    }

    private func commit(_ backend: ModuleBackend, from first: UInt64, _ final: FinalBatch) -> Int32 {
        guard first <= UInt64(last) else { return 0 }
        for number in first...UInt64(last) {
            let batch = history.batches[Int(number) - 1]
            var failures = 0
            while true {
                switch backend.commit(number, batch.span) {
                case .final: break
                case .submitted:
                    if !final.wait(for: number) { return 5 }
                case .failed(let code):
                    say("failed \(number) \(code)")
                    failures += 1
                    if failures == 3 { return 4 }
                    usleep(20_000)
                    continue
                }
                break
            }
            say("committed \(number)")
        }
        return 0
    }

    private func sayCalls() {
        guard let symbol = dlsym(nil, "faults_count") else { return }
        typealias Count = @convention(c) () -> UInt
        say("calls \(unsafeBitCast(symbol, to: Count.self)())")
    }

    private func say(_ line: String) {
        let bytes = Array("\(line)\n".utf8)
        _ = write(1, bytes, bytes.count)
    }
}

/// The newest batch of which the backend has told that it is final, from whatever thread.
private final class FinalBatch: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var newest: UInt64 = 0

    init() { pthread_mutex_init(lock, nil) }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    func raise(to sequence: UInt64) {
        pthread_mutex_lock(lock)
        newest = max(newest, sequence)
        pthread_mutex_unlock(lock)
    }

    private var value: UInt64 {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return newest
    }

    /// False: it took longer than three seconds.
    func wait(for sequence: UInt64) -> Bool {
        for _ in 0..<3000 {
            if value >= sequence { return true }
            usleep(1000)
        }
        return false
    }
}
