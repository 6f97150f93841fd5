// A policy that does what a test says, and notes what it is asked about and told.

import Testing
import XenStoreTestKit
import XenStoreTypes

@testable import XenStore

final class ScriptedPolicy: Policy {
    typealias Script = (Asked) -> PolicyVerdict

    /// A question, kept.
    struct Asked {
        var operation: UInt32
        var request: UInt32
        var subject: PolicySubject
        var path: String
        var components: [String]
        var before: String
        var after: String
        var value: String
        var arguments: [String]
        var object: UInt16?
        var secondObject: UInt16?
        var nodeExists: Bool
        var isInTransaction: Bool
        var isDryRun: Bool
        var now: UInt64

        /// `WRITE /a/b`, `CREATE /a`.
        var text: String {
            let name = Self.names[operation] ?? MessageType(rawValue: operation).map { "\($0)" } ?? "?"
            return path.isEmpty ? name : "\(name) \(path)"
        }

        private static let names: [UInt32: String] = [
            PolicyOperation.create: "CREATE", PolicyOperation.removeNode: "REMOVE_NODE",
            PolicyOperation.event: "EVENT", PolicyOperation.listChild: "LIST_CHILD",
        ]
    }

    private let wanted: PolicyOperations
    private let told: PolicyOperations
    private let shown: PolicyOperations
    private let title: String
    var script: Script
    private(set) var asked: [Asked] = []
    private(set) var outcomes: [(asked: Asked, outcome: PolicyOutcome)] = []
    private(set) var endedDomains: [DomainID] = []

    init(
        _ title: String = "scripted", decides: PolicyOperations = .max, observes: PolicyOperations = 0,
        values: PolicyOperations = 0, _ script: @escaping Script = { _ in .abstain }
    ) {
        self.title = title
        wanted = decides
        told = observes
        shown = values
        self.script = script
        super.init()
    }

    override var decides: PolicyOperations { wanted }
    override var observes: PolicyOperations { told }
    override var values: PolicyOperations { shown }
    override var name: [UInt8] { Array(title.utf8) }
    override var reason: [UInt8] { Array("because of \(title)".utf8) }

    override func decide(_ question: PolicyQuestion) -> PolicyVerdict {
        let kept = keep(question)
        if !question.isDryRun { asked.append(kept) }
        return script(kept)
    }

    override func observe(_ question: PolicyQuestion, _ outcome: PolicyOutcome) {
        outcomes.append((keep(question), outcome))
    }

    override func ended(_ domain: DomainID) { endedDomains.append(domain) }

    /// The texts of what was asked since the last call.
    func takeAsked() -> [String] {
        defer { asked = [] }
        return asked.map(\.text)
    }

    private func keep(_ question: PolicyQuestion) -> Asked {
        var start = question.path.first == 0x2F ? 1 : 0
        var components: [String] = []
        for end in question.componentEnds {
            components.append(text(UnsafeRawBufferPointer(rebasing: question.path[start..<Int(end)])))
            start = Int(end) + 1
        }
        return Asked(
            operation: question.operation, request: question.request, subject: question.subject,
            path: text(question.path), components: components, before: list(question.before),
            after: list(question.after), value: text(question.value),
            arguments: question.arguments.map { text($0) }, object: question.object?.rawValue,
            secondObject: question.secondObject?.rawValue, nodeExists: question.nodeExists,
            isInTransaction: question.isInTransaction, isDryRun: question.isDryRun, now: question.now)
    }

    private func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    /// `n0 r3`.
    private func list(_ bytes: UnsafeRawBufferPointer) -> String {
        stride(from: 0, to: bytes.count, by: 4).map { at in
            let letter = ["n", "r", "w", "b"][Int(bytes[at + 2] & 3)]
            return "\(letter)\(bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))"
        }.joined(separator: " ")
    }
}

extension PolicyOperations {
    /// Of a request's type.
    static func of(_ types: MessageType...) -> PolicyOperations {
        types.reduce(0) { $0 | 1 << UInt64($1.rawValue) }
    }

    /// Of what requests bring about.
    static func derived(_ operations: UInt32...) -> PolicyOperations {
        operations.reduce(0) { $0 | 1 << UInt64($1) }
    }
}

extension TestServer {
    /// A socket's user who is not root.
    func user(_ uid: UInt32, group: UInt32 = 100, readOnly: Bool = false) -> Client {
        let peer = XenStore.SocketPeer(user: uid, group: group, process: 77, groups: [4])
        return Client(server, connection: server.connect(.user(uid), readOnly: readOnly, peer: peer))
    }

    /// What there is, with its values, from the root: `/a=1`.
    func everything(_ path: String = "/") -> [String] {
        let names = control.request(.directory, [path])?.strings ?? []
        var all: [String] = []
        for name in names.sorted() {
            let child = path == "/" ? "/\(name)" : "\(path)/\(name)"
            all.append("\(child)=\(control.read(child) ?? "")")
            all += everything(child)
        }
        return all
    }
}
