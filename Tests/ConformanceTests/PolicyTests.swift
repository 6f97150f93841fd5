// Does every access policy of ours pass the conformance kit, linked in and loaded, and do those fail that do
// not keep to the interface?

import Foundation
import Testing
import XenStoreTestKit

@Suite struct PolicyTests {
    /// A policy as an author would name it to xenstore-conformance.
    struct Candidate: CustomStringConvertible, Sendable {
        var module: String
        var options: [String] = []
        var description: String { ([module] + options).joined(separator: " ") }
    }

    private static let policies = ModuleScratch.top + "/config/policies"

    static let candidates = [
        Candidate(module: "path-rules"),
        Candidate(module: "path-rules", options: ["file=\(policies)/hardened-guests.yaml"]),
        Candidate(
            module: "path-rules",
            options: ["file=\(policies)/monitoring-group.yaml", "mode=record", "record-to=@DIR@/seen.yaml"]),
        Candidate(
            module: "\(products)/libxenstore-path-rules.so",
            options: ["file=\(policies)/hardened-guests.yaml", "mode=permissive"]),
        Candidate(module: "type-labels", options: ["file=\(policies)/type-labels.yaml"]),
        Candidate(
            module: "\(products)/libxenstore-type-labels.so", options: ["file=\(policies)/type-labels.yaml"]),
        Candidate(module: "rate-limit"),
        Candidate(
            module: "\(products)/libxenstore-rate-limit.so", options: ["requests=50", "transactions=5"]),
        Candidate(module: "audit-trail", options: ["path=@DIR@/trail"]),
        Candidate(
            module: "\(products)/libxenstore-audit-trail.so", options: ["path=@DIR@/trail", "size=65536"]),
    ]

    private func conformance(_ candidate: Candidate) -> (status: Int32, text: String) {
        let arguments =
            [candidate.module, "--questions", "2000", "--seed", "6"]
            + candidate.options.flatMap { ["-o", $0] }
        let outcome = runProgram("\(products)/xenstore-conformance", arguments)
        return (outcome.status, "xenstore-conformance \(arguments.joined(separator: " "))\n\(outcome.text)")
    }

    @Test(arguments: candidates) func itKeepsToTheInterface(candidate: Candidate) {
        let (status, text) = conformance(candidate)
        #expect(status == 0, "\(text)")
    }

    @Test func theExampleInCDoes() throws {
        let scratch = ModuleScratch()
        let source = ModuleScratch.top + "/Plugins/Examples/C/smallest_policy.c"
        let module = try scratch.build("smallest", try String(contentsOfFile: source, encoding: .utf8))
        let (status, text) = conformance(Candidate(module: module))
        #expect(status == 0, "\(text)")
    }

    /// The body of a decide in C, and what the kit says of it.
    static let faults = [
        ("return n++ % 1000 == 999 ? 7 : XENSTORE_ABSTAIN;", "answers 7: it fails to decide"),
        ("answer->error = EAGAIN; return XENSTORE_DENY;", "answers a deny with errno 11"),
        ("answer->delay = 1001; return XENSTORE_DEFER;", "answers a delay of 1001 ms"),
        ("return n++ % 3;", "one says"),
        (
            "if (answer->reason) memset(answer->reason, 'x', answer->room + 1); return XENSTORE_ABSTAIN;",
            "wrote beyond the room"
        ),
        (
            "long *own = self; if (q->flags & XENSTORE_DRY_RUN) ++*own; return *own > 0 && *own % 5 == 0;",
            "dry run"
        ),
        // As many steps as the square of the path's length.
        (
            """
            volatile size_t a, b; for (a = 0; a < q->path.count; a++) for (b = 0; b < q->path.count; b++) ;
            return XENSTORE_ABSTAIN;
            """, "one of a thousand"
        ),
        (
            "volatile long a; long *own = self; for (a = 0; a < *own; a++) ; ++*own; return 0;",
            "after many others"
        ),
    ]

    @Test(arguments: faults) func oneThatDoesNotFails(decide: String, text: String) throws {
        let scratch = ModuleScratch()
        let module = try scratch.build("faulty", Self.policy(decide))
        let outcome = conformance(Candidate(module: module))
        #expect(outcome.status == 1)
        #expect(outcome.text.contains(text), "\(outcome.text)")
    }

    private static func policy(_ decide: String) -> String {
        """
        #include <errno.h>
        #include <stdlib.h>
        #include <string.h>
        #include <xenstore_plugin.h>
        static long n;
        static void *policy_open(const struct xenstore_plugin *plugin, const struct xenstore_host *host,
            const struct xenstore_option *options, size_t count, struct xenstore_failure *failure)
        { return calloc(1, sizeof(long)); }
        static void policy_interest(void *self, struct xenstore_interest *interest)
        { interest->decides = (uint64_t)1 << XENSTORE_OP_WRITE | (uint64_t)1 << XENSTORE_OP_CREATE; }
        static int policy_decide(void *self, const struct xenstore_question *q,
            struct xenstore_answer *answer)
        { \(decide) }
        static void policy_close(void *self) { free(self); }
        static const struct xenstore_policy policy = { .size = sizeof(policy), .open = policy_open,
            .interest = policy_interest, .decide = policy_decide, .close = policy_close };
        static const struct xenstore_plugin plugin = { XENSTORE_PLUGIN_HEAD, .kind = XENSTORE_KIND_POLICY,
            .name = "faulty", .version = "1", .summary = "None.", .policy = &policy };
        XENSTORE_PLUGIN_EXPORT(plugin)
        """
    }
}
