// What one speaker's part of the tree, its watches and its transactions must be: nobody else writes there, so
// each request has one right reply, but for what a kill leaves open.
//
// Open is, first, how many of a socket's requests were carried out that have had no reply: all of them up to
// some one. Second, whether a ring's transaction was still alive when a request in it was carried out that
// had been sent before the kill: from some request on it was not.

import XenStoreTypes

struct Model {
    struct Node: Hashable {
        var value: [UInt8]
        var permissions: [String]
    }

    /// By relative path; the root's is empty.
    typealias Nodes = [String: Node]

    struct Watch: Hashable {
        var path: String
        var token: String
    }

    struct Transaction {
        var view: Nodes
        var changes: [Operation] = []
        /// The version of `live` that it began with.
        var version: Int
        /// It may be that no kill has hit it.
        var isSound = true
        /// It may be that one has. Requests from `doomedFrom` on have certainly found it doomed.
        var mayBeDoomed = false
        var doomedFrom = Int.max
    }

    /// A request on its way.
    struct Asked {
        var operation: Operation
        var transaction: UInt32
        /// Counts the speaker's requests.
        var number: Int
    }

    /// Bytes that a value may have: the quota `node-size`; 0: no limit.
    var valueMax = 0
    private(set) var live: Nodes
    private(set) var watches: Set<Watch> = []
    private(set) var transactions: [UInt32: Transaction] = [:]
    /// Nil: whatever comes next is right.
    private(set) var nextTransaction: UInt32? = 1
    private var version = 0

    init(rootPermissions: [String]) { live = ["": Node(value: [], permissions: rootPermissions)] }

    // MARK: Outcomes

    /// All that may be answered to a request, each with what is the case then.
    func outcomes(of asked: Asked) -> [(answer: Answer, after: Model)] {
        var after = self
        switch asked.operation {
        case .watch(let path, let token):
            let isNew = after.watches.insert(Watch(path: path, token: token)).inserted
            return [(isNew ? .done : .failed("EEXIST"), after)]
        case .unwatch(let path, let token):
            let isThere = after.watches.remove(Watch(path: path, token: token)) != nil
            return [(isThere ? .done : .failed("ENOENT"), after)]
        case .resetWatches:
            after.watches = []
            after.transactions = [:]
            return [(.done, after)]
        case .start:
            guard let number = nextTransaction else { return [] }
            return [(.number(number), started(number))]
        case .end(let commit):
            return ends(asked, commit)
        default:
            if asked.transaction != 0 { return inside(asked) }
            let answer = after.apply(asked.operation)
            return [(answer, after)]
        }
    }

    /// Takes the answer in. False: it is not one of those that may be.
    mutating func take(_ answer: Answer, to asked: Asked) -> Bool {
        if case .start = asked.operation, nextTransaction == nil, case .number(let number) = answer {
            self = started(number)
            return true
        }
        guard let (_, after) = outcomes(of: asked).first(where: { $0.answer == answer }) else {
            return false
        }
        self = after
        return true
    }

    private func started(_ number: UInt32) -> Model {
        var after = self
        after.transactions[number] = Transaction(view: live, version: version)
        after.nextTransaction = number + 1
        return after
    }

    private mutating func apply(_ operation: Operation) -> Answer {
        if operation.changes(live) { version += 1 }
        return operation.applied(to: &live, valueMax: valueMax)
    }

    private func inside(_ asked: Asked) -> [(answer: Answer, after: Model)] {
        guard let transaction = transactions[asked.transaction] else { return [(.failed("ENOENT"), self)] }
        var all: [(answer: Answer, after: Model)] = []
        if transaction.isSound && asked.number < transaction.doomedFrom {
            var after = self
            after.transactions[asked.transaction] = nil
            var changed = transaction
            let answer = asked.operation.applied(to: &changed.view, valueMax: valueMax)
            if answer == .done && asked.operation.changes(transaction.view) {
                changed.changes.append(asked.operation)
            }
            after.transactions[asked.transaction] = changed
            all.append((answer, after))
        }
        if transaction.mayBeDoomed {
            var after = self
            after.transactions[asked.transaction]?.isSound = false
            var nodes = live
            all.append((asked.operation.applied(to: &nodes, valueMax: valueMax), after))
        }
        return all
    }

    private func ends(_ asked: Asked, _ commit: Bool) -> [(answer: Answer, after: Model)] {
        var gone = self
        guard let it = gone.transactions.removeValue(forKey: asked.transaction) else {
            return [(.failed("ENOENT"), self)]
        }
        if !commit { return [(.done, gone)] }
        var all: [(answer: Answer, after: Model)] = []
        if it.isSound && asked.number < it.doomedFrom {
            var after = gone
            for change in it.changes { _ = after.apply(change) }
            all.append((.done, after))
            // Whether this is a conflict is the simulation's question.
            if it.version != version { all.append((.failed("EAGAIN"), gone)) }
        }
        if it.mayBeDoomed { all.append((.failed("EAGAIN"), gone)) }
        return all
    }

    // MARK: Deaths

    /// The daemon has died. Requests from `number` on are sent to the next one.
    mutating func daemonDied(before number: Int) {
        for (id, it) in transactions {
            var doomed = it
            doomed.mayBeDoomed = true
            doomed.doomedFrom = min(it.doomedFrom, number)
            transactions[id] = doomed
        }
    }

    /// The transaction was begun by a request that a kill may have come before or after.
    mutating func isUncertain(_ id: UInt32) { transactions[id]?.mayBeDoomed = true }

    /// The connection is another one, or begun anew: `next` as `nextTransaction`.
    mutating func forgetConnection(next: UInt32?) {
        watches = []
        transactions = [:]
        nextTransaction = next
    }

    /// What may be the case when up to all of `asked` were carried out. `isSocket`: transactions are gone.
    func states(after asked: [Asked]) -> [Model] {
        var all = [self]
        var last = [self]
        for request in asked {
            last = last.flatMap { model -> [Model] in
                if case .start = request.operation, model.nextTransaction == nil { return [model] }
                return model.outcomes(of: request).map(\.after)
            }
            all += last
        }
        return all
    }
}

extension Operation {
    /// Whether it would change nodes that are these: to remove what is not there, and to make what is there,
    /// changes nothing, and does not conflict with others' changes.
    func changes(_ nodes: Model.Nodes) -> Bool {
        switch self {
        case .write, .setPermissions: true
        case .makeDirectory(let path): nodes[path] == nil
        case .remove(let path): nodes[path] != nil
        default: false
        }
    }

    /// What becomes of `nodes`, and the answer, for an operation that is about nodes.
    func applied(to nodes: inout Model.Nodes, valueMax: Int) -> Answer {
        switch self {
        case .read(let path): return nodes[path].map { .bytes($0.value) } ?? .failed("ENOENT")
        case .write(let path, let value):
            if valueMax > 0 && value.count > valueMax { return .failed("ENOSPC") }
            Self.make(path, &nodes)
            nodes[path]?.value = value
        case .makeDirectory(let path): Self.make(path, &nodes)
        case .remove(let path):
            if nodes[path] == nil { return nodes[Self.parent(path)] == nil ? .failed("ENOENT") : .done }
            for other in nodes.keys where other == path || other.hasPrefix(path + "/") { nodes[other] = nil }
        case .directory(let path):
            if nodes[path] == nil { return .failed("ENOENT") }
            let before = path.isEmpty ? "" : path + "/"
            let names = nodes.keys.filter { !$0.isEmpty && Self.parent($0) == path && $0 != path }
                .map { String($0.dropFirst(before.count)) }
            if names.reduce(0, { $0 + $1.utf8.count + 1 }) > 4096 { return .failed("E2BIG") }
            return .names(names.sorted())
        case .getPermissions(let path):
            return nodes[path].map { .names($0.permissions) } ?? .failed("ENOENT")
        case .setPermissions(let path, let list):
            if nodes[path] == nil { return .failed("ENOENT") }
            nodes[path]?.permissions = list
        default: return .failed("no operation on nodes")
        }
        return .done
    }

    private static func parent(_ path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }

    private static func make(_ path: String, _ nodes: inout Model.Nodes) {
        if nodes[path] != nil { return }
        let above = parent(path)
        make(above, &nodes)
        nodes[path] = Model.Node(value: [], permissions: nodes[above]?.permissions ?? [])
    }
}
