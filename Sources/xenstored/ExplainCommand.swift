// `xenstored explain` and `xenstored test-policy`: what access policies would say, without a daemon.
//
// They stand before the daemon's own options, which no word without a hyphen can begin.

import ArgumentParser
import XenStore
import XenStoreHost
import XenStoreTypes

struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstored explain",
        abstract: "Say which policy, and which rule of it, decides about a request.",
        discussion: """
            Asks the policies of a configuration, without a daemon; nothing is done. Where they abstain, \
            node permissions decide: a running daemon tells which entry, by "xenstore-control explain".
            """,
        helpNames: [.short, .long])

    @Option(help: ArgumentHelp("The configuration.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The domain that asks, by its ring.", valueName: "domid"))
    var domain: UInt16?

    @Option(help: ArgumentHelp("Or the socket's user that asks.", valueName: "uid"))
    var uid: UInt32?

    @Option(help: ArgumentHelp("A group of that user, its own first. May be repeated.", valueName: "gid"))
    var gid: [UInt32] = []

    @Option(help: ArgumentHelp("Who owns the node; else there is none.", valueName: "domid"))
    var owner: UInt16?

    @Argument(help: "read, directory, get-perms, write, mkdir, rm, set-perms, watch, control, ...")
    var operation: String

    @Argument(help: "The node's path, where the operation has one; the command of a control.")
    var path: String = ""

    func validate() throws {
        if (domain == nil) == (uid == nil) {
            throw ValidationError("expected --domain or --uid, and not both")
        }
    }

    /// The lines to print.
    func answer(_ builtIn: [BuiltInModule]) throws -> String {
        let options = try DaemonOptions(
            file: config, changes: ConfigurationChanges(), flags: DaemonFlags())
        let subject: PolicyTrial.Subject =
            if let domain {
                .domain(DomainID(domain))
            } else {
                .user(SocketPeer(user: uid ?? 0, group: gid.first ?? .max, groups: Array(gid.dropFirst())))
            }
        let trials = try PolicyTrials(
            options.configuration.policies, file: options.file,
            search: ModuleSearch(options, builtIn: builtIn),
            privileged: options.configuration.privilegedDomain)
        defer { trials.close() }
        let trial = PolicyTrial(subject, operation, path, owner: owner.map { DomainID($0) })
        let judgement = try trials.judge(trial)
        return (judgement.lines + [conclusion(judgement.verdict)]).map { $0 + "\n" }.joined()
    }

    private func conclusion(_ verdict: PolicyVerdict) -> String {
        switch verdict {
        case .grant: "answer: granted, whatever the node's permissions are"
        case .deny(let error): "answer: \(error.name)"
        case .abstain, .postpone:
            uid.map { $0 == 0 } ?? true
                ? "answer: no policy decides, node permissions and privilege do"
                : "answer: EACCES, since no policy grants it to a socket's user"
        }
    }
}

struct TestPolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstored test-policy",
        abstract: "Test access policies with a table of requests and what is to be said of them.",
        helpNames: [.short, .long])

    @Argument(help: ArgumentHelp("The policies and the tests.", valueName: "file"))
    var file: String

    /// What to print, and the exit status: 1 if a test has failed.
    func answer(_ builtIn: [BuiltInModule]) throws -> (text: String, status: Int32) {
        let options = try DaemonOptions(
            file: "/dev/null", changes: ConfigurationChanges(), flags: DaemonFlags())
        let outcome = try testPolicies(
            file, in: .process, search: ModuleSearch(options, builtIn: builtIn))
        return (outcome.text, outcome.failed == 0 ? 0 : 1)
    }
}

/// What the command about policies that `arguments` begin with exits with; nil: they begin with none.
func policyCommand(_ arguments: [String], _ builtIn: [BuiltInModule]) -> Int32? {
    let rest = Array(arguments.dropFirst())
    switch arguments.first {
    case "explain": return answer(ExplainCommand.self, rest) { (try $0.answer(builtIn), 0) }
    case "test-policy": return answer(TestPolicyCommand.self, rest) { try $0.answer(builtIn) }
    default: return nil
    }
}

/// Prints what the command says. Returns the exit status: 2 where the command line or a file is wrong.
private func answer<Command: ParsableCommand>(
    _ type: Command.Type, _ arguments: [String], _ body: (Command) throws -> (String, Int32)
) -> Int32 {
    do {
        let command = try type.parse(arguments)
        let (text, status) = try body(command)
        print(text, terminator: "")
        return status
    } catch let mistakes as ConfigurationMistakes {
        complain(mistakes.description)
    } catch let failure as StartFailure {
        complain(failure.description)
    } catch {
        if type.exitCode(for: error) == .success {
            print(type.message(for: error))
            return 0
        }
        complain("xenstored: \(type.message(for: error))")
    }
    return 2
}
