// What the policies of a configuration would say of a request, without a daemon and without a tree.

import CXenStorePlugin
import Glibc
import XenStore
import XenStoreTypes

/// A request that nobody makes.
public struct PolicyTrial: Equatable, Sendable {
    /// A domain on its ring, or a user on a socket.
    public enum Subject: Equatable, Sendable {
        case domain(DomainID)
        case user(SocketPeer)
    }

    public var subject: Subject
    /// As `explain` names operations: `write`, `get-perms`.
    public var operation: String
    /// Empty for an operation that has none; else absolute, or relative to the domain's home; of `control`
    /// the command.
    public var path: String
    /// Who owns the node that is there; nil: there is none.
    public var owner: DomainID?

    public init(_ subject: Subject, _ operation: String, _ path: String, owner: DomainID? = nil) {
        self.subject = subject
        self.operation = operation
        self.path = path
        self.owner = owner
    }

    /// `domain 7`, `uid 1000 gid 4`.
    var subjectText: String {
        switch subject {
        case .domain(let domain): "domain \(domain.rawValue)"
        case .user(let peer):
            ([peer.group] + peer.groups).reduce("uid \(peer.user)") { "\($0) gid \($1)" }
        }
    }
}

/// What the policies say together, and a line for each that was asked.
public struct PolicyJudgement: Equatable, Sendable {
    public var verdict = PolicyVerdict.abstain
    public var lines: [String] = []
}

/// Policies that are asked, and nothing else.
public final class PolicyTrials {
    private let policies: OpenPolicies
    private let log: Log
    private let privileged: DomainID

    /// Opens the policies; what they log goes to stderr. Fails as the daemon would.
    public init(
        _ choices: [PolicyChoice], file: String?, search: ModuleSearch, privileged: DomainID = .zero
    ) throws(StartFailure) {
        var options = HostOptions()
        options.policies = choices.map { $0.placed(in: file) }
        options.policySearch = search
        self.privileged = privileged
        log = try Log(.standardError, level: .error)
        do throws(StartFailure) {
            policies = try OpenPolicies(options, log.writer, isTrial: true)
        } catch {
            log.close()
            throw error
        }
    }

    public func close() {
        policies.close()
        log.close()
    }

    /// Throws, with one line, if there is no such operation or the path is none.
    public func judge(_ trial: PolicyTrial) throws(StartFailure) -> PolicyJudgement {
        let operation = try Self.operation(trial)
        let path = try Self.path(trial, operation)
        var judgement = PolicyJudgement()
        ask(trial, operation.number, operation.number, path, &judgement)
        // What it would bring about or remove, as far as that can be known without a tree.
        let isCreating = ["write", "mkdir"].contains(trial.operation) && trial.owner == nil
        if isCreating { ask(trial, PolicyOperation.create, operation.number, path, &judgement) }
        if trial.operation == "rm" {
            ask(trial, PolicyOperation.removeNode, operation.number, path, &judgement)
        }
        return judgement
    }

    private static func operation(_ trial: PolicyTrial) throws(StartFailure) -> ExplainedOperation {
        let all = ExplainedOperation.all
        guard let found = all.first(where: { $0.name.description == trial.operation }) else {
            let names = all.map(\.name.description)
            throw StartFailure(
                "found the operation \(quoted(trial.operation)), expected \(alternatives(names))")
        }
        return found
    }

    private static func path(
        _ trial: PolicyTrial, _ operation: ExplainedOperation
    ) throws(StartFailure) -> String {
        if !operation.hasPath {
            if trial.path.isEmpty || trial.operation == "control" { return trial.path }
            throw StartFailure("found a path, expected none: \(trial.operation) is not about a node")
        }
        var path = trial.path
        if path.utf8.first != UInt8(ascii: "/") && path.utf8.first != UInt8(ascii: "@"), !path.isEmpty {
            let home = if case .domain(let domain) = trial.subject { domain.rawValue } else { UInt16(0) }
            path = "/local/domain/\(home)/\(path)"
        }
        let isSpecial = path.utf8.first == UInt8(ascii: "@") && isNodePath("/" + path)
        guard path == "/" || isSpecial || isNodePath(path) else {
            throw StartFailure("found the path \(quoted(trial.path)), expected a node's")
        }
        return path
    }

    private func ask(
        _ trial: PolicyTrial, _ operation: UInt32, _ request: UInt32, _ path: String,
        _ judgement: inout PolicyJudgement
    ) {
        var question = PolicyQuestion(
            operation: operation, request: request, now: monotonicNow(), subject: subject(trial))
        question.isDryRun = true
        question.wantsReason = true
        question.nodeExists = trial.owner != nil
        let bytes = Array(path.utf8)
        var ends = bytes.indices.dropFirst().filter { bytes[$0] == 0x2F }.map { UInt16($0) }
        if bytes.count > 1 { ends.append(UInt16(bytes.count)) }
        var owner: [xenstore_permission] = []
        if let domain = trial.owner {
            owner = [xenstore_permission(domain: domain.rawValue, mode: 0, flags: 0)]
        }
        bytes.withUnsafeBytes { bytes in
            ends.withUnsafeBufferPointer { ends in
                owner.withUnsafeBytes { owner in
                    if operation == MessageType.control.rawValue {
                        if !bytes.isEmpty { question.arguments = [bytes] }
                    } else {
                        question.path = bytes
                        question.componentEnds = ends
                    }
                    question.before = owner
                    ask(question, &judgement)
                }
            }
        }
    }

    private func subject(_ trial: PolicyTrial) -> PolicySubject {
        var subject = PolicySubject()
        switch trial.subject {
        case .domain(let domain):
            subject.domain = domain
            subject.isPrivileged = domain == privileged
        case .user(let peer):
            subject.isSocket = true
            subject.isPrivileged = peer.user == 0
            if subject.isPrivileged { subject.domain = privileged }
            subject.peer = peer
        }
        return subject
    }

    private func ask(_ question: PolicyQuestion, _ judgement: inout PolicyJudgement) {
        let derived = question.operation == question.request ? "" : ", to \(derivedText(question.operation))"
        for policy in policies.all where policy.decides >> UInt64(question.operation) & 1 != 0 {
            var verdict = policy.decide(question)
            let reason = String(decoding: policy.reason, as: UTF8.self)
            judgement.lines.append(
                "policy \(policy.module.name)\(derived): \(verdict.text)"
                    + (reason.isEmpty ? "" : " (\(reason))"))
            if case .postpone = verdict { verdict = .abstain }
            judgement.verdict = judgement.verdict.together(with: verdict)
        }
    }

    private func derivedText(_ operation: UInt32) -> String {
        operation == PolicyOperation.create ? "create the node" : "remove the node"
    }
}

extension PolicyVerdict {
    /// `denies with EACCES`.
    var text: String {
        switch self {
        case .abstain: "abstains"
        case .grant: "grants"
        case .deny(let error): "denies with \(error.name)"
        case .postpone(let milliseconds): "puts it off for \(milliseconds) ms"
        }
    }
}
