// The conformance kit for access policies: what the plugin interface says every policy must keep to, tried on
// one of them.
//
// The policy runs in this very process: one that reads or writes where it must not may end it.

import CXenStorePlugin
import Glibc
import XenStoreHost

/// What a conformance run found wrong.
public struct PolicyFault: Error, CustomStringConvertible {
    public var description: String
    init(_ description: String) { self.description = description }
}

/// The run of one policy.
public struct PolicyConformance {
    public var module: Module
    /// `@DIR@` in their values is replaced by a directory of each instance's own.
    public var options: [ModuleOption]
    /// A directory of ours.
    public var directory: String
    public var seed: UInt64
    /// Questions of a series.
    public var questions = 5000
    /// Told of each step.
    public var progress: (String) -> Void = { _ in }

    public init(_ module: Module, _ options: [ModuleOption], directory: String, seed: UInt64) {
        self.module = module
        self.options = options
        self.directory = directory
        self.seed = seed
    }

    /// Runs everything. Throws the first thing that is wrong.
    public func run() throws(PolicyFault) {
        progress("what it wants to see")
        let interest = try interest()
        try observing(interest.observes)
        if interest.decides == 0 { return }
        try answers(interest.decides)
        try dryRuns(interest.decides)
        try inheriting(interest.decides)
        try compiled(interest.decides)
        try costOfLength(interest.decides)
        try costOfHistory(interest.decides)
    }

    private func open() throws(PolicyFault) -> TriedPolicy {
        try TriedPolicy(module, options, in: directory)
    }

    private func fault(_ text: String) -> PolicyFault { PolicyFault("seed \(seed): \(text)") }

    // MARK: The runs

    /// Sets of operations that there are, and the same at every call.
    private func interest() throws(PolicyFault) -> xenstore_interest {
        let policy = try open()
        defer { policy.close() }
        let interest = policy.interest
        let again = policy.interest
        let known = (0...XENSTORE_OP_SET_QUOTA).filter { !(15...16).contains($0) }
        let derived = XENSTORE_OP_CREATE...XENSTORE_OP_LIST_CHILD
        let all = (known + derived).reduce(UInt64(0)) { $0 | 1 << UInt64($1) }
        guard (interest.decides | interest.observes | interest.values) & ~all == 0 else {
            throw fault("it wants to see operations that there are not")
        }
        guard interest.decides == again.decides, interest.observes == again.observes,
            interest.values == again.values
        else { throw fault("what it wants to see is not the same at the second call") }
        guard interest.observes == 0 || module.policy?.observe != nil else {
            throw fault("it wants to be told of operations, and has no observe")
        }
        return interest
    }

    /// Whatever it is told of, it does not wait.
    private func observing(_ operations: UInt64) throws(PolicyFault) {
        if operations == 0 { return }
        progress("\(questions) outcomes")
        let policy = try open()
        defer { policy.close() }
        var series = PolicySeries(seed: seed, operations)
        var random = SplitMix64(seed: seed)
        let start = wallClock()
        for _ in 0..<questions {
            let verdict = random.below(3)
            let error = verdict == XENSTORE_DENY ? EACCES : random.chance(20) ? ENOENT : 0
            policy.observe(series.next(), error: error, verdict: verdict, by: random.chance(50))
            if random.chance(1) { policy.ended(UInt16(random.below(10))) }
        }
        let took = (wallClock() - start) / 1_000_000
        if took > 5000 { throw fault("it took \(took) ms to be told of \(questions) outcomes: it waits") }
    }

    /// Answers that there are; and two instances that are asked the same say the same.
    private func answers(_ operations: UInt64) throws(PolicyFault) {
        progress("\(questions) questions to two instances")
        let (one, other) = (try open(), try open())
        defer {
            one.close()
            other.close()
        }
        var series = PolicySeries(seed: seed, operations)
        for number in 0..<questions {
            let question = series.next()
            let answer = try check(one, question, number)
            // Whether a person wants to know why must not matter.
            let second = try check(other, question, number, room: 1 + number % 300)
            if !answer.decidesAs(second) {
                throw fault("question \(number), \(question): one says \(answer), the other \(second)")
            }
            if number % 500 == 499 {
                for policy in [one, other] { policy.ended(UInt16(number / 500 % 10)) }
            }
        }
    }

    private func check(
        _ policy: TriedPolicy, _ question: TriedQuestion, _ number: Int, room: Int = 0
    ) throws(PolicyFault) -> PolicyAnswer {
        guard let answer = policy.decide(question, room: room) else {
            throw fault("question \(number), \(question): it wrote beyond the room for its reason")
        }
        let what = "question \(number), \(question): it answers"
        switch Int(answer.verdict) {
        case XENSTORE_ABSTAIN, XENSTORE_GRANT: break
        case XENSTORE_DENY:
            guard [0, EACCES, EPERM, ENOSPC, EBUSY, ENOENT].contains(answer.error) else {
                throw fault("\(what) a deny with errno \(answer.error)")
            }
        case XENSTORE_DEFER:
            guard (1...UInt32(XENSTORE_DELAY_MAX)).contains(answer.delay) else {
                throw fault("\(what) a delay of \(answer.delay) ms")
            }
        default: throw fault("\(what) \(answer.verdict): it fails to decide")
        }
        return answer
    }

    /// Dry runs between the questions change nothing.
    private func dryRuns(_ operations: UInt64) throws(PolicyFault) {
        progress("dry runs between \(questions) questions")
        let (one, other) = (try open(), try open())
        defer {
            one.close()
            other.close()
        }
        var series = PolicySeries(seed: seed ^ 1, operations)
        var others = PolicySeries(seed: seed ^ 2, operations)
        for number in 0..<questions {
            let question = series.next()
            var dry = others.next()
            dry.isDryRun = true
            dry.now = question.now
            let first = try check(other, dry, number, room: 200)
            let second = try check(other, dry, number)
            if !first.decidesAs(second) {
                throw fault("dry run \(number), \(dry): it says \(first), then \(second)")
            }
            let answer = try check(one, question, number)
            let after = try check(other, question, number)
            if !answer.decidesAs(after) {
                throw fault("question \(number), \(question): \(answer), but after dry runs \(after)")
            }
        }
    }

    /// A reload in the middle: the new instance answers, and its elder is gone.
    private func inheriting(_ operations: UInt64) throws(PolicyFault) {
        progress("reloads")
        var said: [[PolicyAnswer]] = [[], []]
        for run in 0..<2 {
            var policy = try open()
            var series = PolicySeries(seed: seed ^ 3, operations)
            for number in 0..<questions {
                if number % (questions / 5 + 1) == questions / 5 {
                    let next = try open()
                    next.inherit(from: policy)
                    policy.close()
                    policy = next
                }
                said[run].append(try check(policy, series.next(), number))
            }
            policy.close()
        }
        for number in 0..<questions where !said[0][number].decidesAs(said[1][number]) {
            throw fault(
                "question \(number) of a series with reloads: \(said[0][number]), then \(said[1][number])")
        }
    }

    /// What is opened from the compiled form says the same, with the same reasons. Where the options are for
    /// the daemon only, there is no such form.
    private func compiled(_ operations: UInt64) throws(PolicyFault) {
        let policy = try open()
        defer { policy.close() }
        guard let form = try policy.compile() else { return }
        progress("\(questions) questions to the compiled form")
        let other = try TriedPolicy(module, compiled: form)
        defer { other.close() }
        var series = PolicySeries(seed: seed ^ 5, operations)
        for number in 0..<questions {
            let question = series.next()
            let answer = try check(policy, question, number, room: 300)
            let second = try check(other, question, number, room: 300)
            if !answer.decidesAs(second) || answer.reason != second.reason {
                throw fault("question \(number), \(question): \(answer), but compiled \(second)")
            }
        }
        try damaged(form)
    }

    /// Forms that are cut short, too long or changed somewhere are refused with a reason, or are others.
    private func damaged(_ form: [UInt8]) throws(PolicyFault) {
        progress("damaged compiled forms")
        for count in 0..<form.count {
            if TriedPolicy.opens(module, Array(form[..<count])) == .opened {
                throw fault("it opens the first \(count) bytes of its compiled form, of \(form.count)")
            }
        }
        if TriedPolicy.opens(module, form + [0]) == .opened { throw fault("it opens more than its form") }
        var random = SplitMix64(seed: seed ^ 6)
        for number in 0..<questions {
            var changed = form
            for _ in 0...random.below(3) {
                changed[random.below(form.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            if TriedPolicy.opens(module, changed) == .silent {
                throw fault("changed form \(number): it refuses it without a reason")
            }
        }
    }

    // MARK: Cost

    /// A path of a thousand names costs at most two hundred times what one of ten does.
    private func costOfLength(_ operations: UInt64) throws(PolicyFault) {
        let withPath = (0..<64).filter { operations >> $0 & 1 != 0 && PolicySeries.hasPath(UInt32($0)) }
        guard let operation = withPath.first else { return }
        progress("the cost of long paths")
        let policy = try open()
        defer { policy.close() }
        for names in [["a"], ["local", "domain", "7", "data"], ["7"], ["data", "a"]] {
            func cost(_ count: Int) -> UInt64 {
                var question = TriedQuestion(operation)
                question.path = (0..<count).flatMap { [0x2F] + Array(names[$0 % names.count].utf8) }
                question.path = Array(question.path.prefix(3072))
                if question.path.last == 0x2F { question.path.removeLast() }
                return policy.cost(of: question)
            }
            let (short, long) = (cost(10), cost(1000))
            if long > 200 * max(short, 100) {
                throw fault(
                    "a path of ten names costs \(short) ns, one of a thousand \(long) ns: \(names)")
            }
        }
    }

    /// What was asked before makes nothing cost more.
    private func costOfHistory(_ operations: UInt64) throws(PolicyFault) {
        progress("the cost after \(10 * questions) questions")
        let policy = try open()
        defer { policy.close() }
        var series = PolicySeries(seed: seed ^ 4, operations)
        let question = series.next()
        let before = policy.cost(of: question)
        for number in 0..<10 * questions {
            var other = series.next()
            let isBelowRoot = other.path.first == 0x2F && other.path.count > 1
            if isBelowRoot { other.path += Array("/x\(number)".utf8) }
            other.path = Array(other.path.prefix(3072))
            if other.path.last == 0x2F { other.path.removeLast() }
            _ = policy.decide(other)
        }
        let after = policy.cost(of: question)
        if after > 4 * max(before, 1000) {
            throw fault("\(question): it costs \(before) ns, and after many others \(after) ns")
        }
    }
}

extension PolicyAnswer {
    fileprivate func decidesAs(_ other: PolicyAnswer) -> Bool {
        (verdict, error, delay) == (other.verdict, other.error, other.delay)
    }
}
