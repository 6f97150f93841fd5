// Tests of policies as a table: requests, and what the policies must say of them (docs/policies.md).

import XenStore
import XenStoreTypes

/// One row: a request and what is expected.
struct PolicyRow {
    enum Expectation: String, CaseIterable { case abstain, grant, deny }

    var subject = PolicyTrial.Subject.domain(.zero)
    var operation = ""
    var path = ""
    var owner: DomainID?
    var expectation: Expectation?
    var error: ErrorName?
    var place = Place(line: 1, column: 1)

    var trial: PolicyTrial { PolicyTrial(subject, operation, path, owner: owner) }

    static var keys: [Key<PolicyRow>] {
        let words = Expectation.allCases.map { (name: $0.rawValue, value: Optional($0)) }
        let errors: [ErrorName] = [.acces, .perm, .nospc, .busy, .noent]
        return [
            Key("subject", \.subject, .trialSubject),
            Key("operation", \.operation, Expected("an operation's name", plain: false) { $0 }),
            Key("path", \.path, Expected("a path", plain: false) { $0 }),
            Key(
                "owner", \.owner,
                Expected("a domain id", plain: true) { text in
                    wholeNumber(text, in: 0...(DomainID.firstReserved - 1)).map { .some(DomainID($0)) }
                }),
            Key("expect", \.expectation, .choice(words)),
            Key("error", \.error, .choice(errors.map { (name: $0.name.description, value: Optional($0)) })),
        ]
    }

    /// `deny with EACCES`.
    var expected: String {
        let word = expectation?.rawValue ?? ""
        return error.map { "\(word) with \($0.name)" } ?? word
    }

    func isMet(by verdict: PolicyVerdict) -> Bool {
        switch (expectation, verdict) {
        case (.abstain, .abstain), (.grant, .grant): true
        case (.deny, .deny(let found)): error == nil || error == found
        default: false
        }
    }
}

/// A file of tests: the policies, as the configuration has them, and the rows.
struct PolicyTable {
    var policies: [PolicyChoice] = []
    var rows: [PolicyRow] = []

    static var keys: [Key<PolicyTable>] {
        [
            Key(
                "policies", \.policies, blank: PolicyChoice(Placed("")), keys: PolicyChoice.keys,
                lengths: 1...16, check: PolicyChoice.check),
            Key("tests") { node, table, reading in
                guard case .list(let items) = node.content else {
                    reading.mistakes.add(node.place, found: node.found, expected: "a list of tests")
                    return
                }
                for item in items {
                    var row = PolicyRow()
                    row.place = item.place
                    if !readMapping(item, PolicyRow.keys, first: .required, into: &row, &reading) { continue }
                    if row.operation.isEmpty || row.expectation == nil {
                        reading.mistakes.add(
                            item.place, found: "a test without all of subject, operation and expect",
                            expected: "a request and what the policies say of it")
                    }
                    table.rows.append(row)
                }
            },
        ]
    }

    /// Throws every mistake in the file.
    init(path: String, name: String) throws(ConfigurationMistakes) {
        var reading = Reading(mistakes: MistakeList(file: name), accounts: .machine)
        let bytes: [UInt8]
        do {
            bytes = try fileContents(of: path, max: 4 << 20, "a file with tests of policies")
        } catch {
            throw ConfigurationMistakes(file: name, text: error.text)
        }
        if let root = readYAML(bytes, &reading.mistakes) {
            readMapping(root, Self.keys, into: &self, &reading)
        }
        if rows.isEmpty || policies.isEmpty, reading.mistakes.isEmpty {
            reading.mistakes.add(nil, "found no tests, expected policies and tests")
        }
        if let mistakes = reading.mistakes.all { throw mistakes }
    }
}

/// What a file of tests has come to.
public struct PolicyTableOutcome: Equatable, Sendable {
    public var count = 0
    public var failed = 0
    /// Three lines for each that failed, and the sum.
    public var text = ""
}

/// Carries out the tests in a file, which mistakes and failures call `name`.
///
/// Throws, by place, what is wrong with the file and the policies.
public func testPolicies(
    _ name: String, in environment: Configuration.Environment, search: ModuleSearch
) throws(StartFailure) -> PolicyTableOutcome {
    let path = environment.absolute(name)
    let table: PolicyTable
    do throws(ConfigurationMistakes) {
        table = try PolicyTable(path: path, name: name)
    } catch {
        throw StartFailure(error.description)
    }
    let trials = try PolicyTrials(table.policies, file: path, search: search)
    defer { trials.close() }
    var outcome = PolicyTableOutcome()
    for row in table.rows {
        let at = "\(name):\(row.place.line):\(row.place.column): "
        let judgement: PolicyJudgement
        do throws(StartFailure) {
            judgement = try trials.judge(row.trial)
        } catch {
            throw StartFailure(at + error.description)
        }
        outcome.count += 1
        if row.isMet(by: judgement.verdict) { continue }
        outcome.failed += 1
        outcome.text += "\(at)\(row.trial.subjectText) \(row.operation) \(row.path)\n"
        outcome.text += "    found that it \(judgement.verdict.text), expected \(row.expected)\n"
        for line in judgement.lines { outcome.text += "    \(line)\n" }
        if judgement.lines.isEmpty { outcome.text += "    no policy wants to see it\n" }
    }
    outcome.text += "\(outcome.count) tests, \(outcome.failed) failed\n"
    return outcome
}

extension Expected where Value == PolicyTrial.Subject {
    /// A domain id, or `uid` and `gid` with numbers or names: the peer's own group first, then others.
    static var trialSubject: Expected {
        Expected { node, reading in
            if case .scalar(let text, _) = node.content {
                if let id: UInt16 = wholeNumber(text, in: 0...(DomainID.firstReserved - 1)) {
                    return .domain(DomainID(id))
                }
                if let peer = socketPeer(text, reading.accounts) { return .user(peer) }
            }
            reading.mistakes.add(
                node.place, found: node.found,
                expected: "a domain id, or a user, such as: uid nobody gid nogroup gid adm")
            return nil
        }
    }
}

/// `uid U`, with any number of `gid G` behind it.
func socketPeer(_ text: String, _ accounts: Accounts) -> SocketPeer? {
    let words = text.split(separator: " ").map(String.init)
    guard words.count >= 2, words.count % 2 == 0, words[0] == "uid", !text.utf8.contains(0) else {
        return nil
    }
    func number(_ word: String, _ find: (String) -> UInt32?) -> UInt32? {
        wholeNumber(word, in: 0...UInt32.max) ?? find(word)
    }
    guard let user = number(words[1], accounts.user) else { return nil }
    var groups: [UInt32] = []
    for at in stride(from: 2, to: words.count, by: 2) {
        guard words[at] == "gid", let group = number(words[at + 1], accounts.group) else { return nil }
        groups.append(group)
    }
    return SocketPeer(user: user, group: groups.first ?? .max, groups: Array(groups.dropFirst()))
}
