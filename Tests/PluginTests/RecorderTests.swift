// Is what is recorded bounded, and a rule file that says what was seen? And is somebody reminded in time?

import Foundation
import Glibc
import PathRules
import Testing
import XenStoreHost
import XenStorePlugin

@testable import PathRulesFile

@Suite struct RecorderTests {
    private func note(
        _ recorder: Recorder, _ subject: RuleSubject, _ operation: PolicyOperation, _ path: String,
        isGranted: Bool = false
    ) {
        Array(path.utf8).withUnsafeBytes { recorder.note(subject, operation, $0, isGranted: isGranted) }
    }

    @Test func theRulesSayWhatWasSeenAndNothingElse() throws {
        let recorder = Recorder()
        note(recorder, .domains(7, 7), .read, "/a/b")
        note(recorder, .domains(7, 7), .write, "/a/b")
        note(recorder, .domains(7, 7), .read, "/a/c")
        note(recorder, .domains(7, 7), .transactionStart, "")
        note(recorder, .domains(8, 8), .watch, "@releaseDomain")
        note(recorder, .uid(1000), .read, "/a", isGranted: true)
        note(recorder, .uid(1000), .control, "check", isGranted: true)
        let text = recorder.current.rules
        let file = try RuleFile(Array(text.utf8), file: "seen.yaml")
        let table = try RuleTable(file.rules)
        func effect(_ asker: Asker, _ operation: PolicyOperation, _ path: String) -> RuleEffect? {
            let found = Array(path.utf8).withUnsafeBytes { table.find(asker, operation.rawValue, $0) }
            return found.deciding < 0 ? nil : file.rules[Int(found.deciding)].effect
        }
        let (seven, eight) = (Asker(domain: 7), Asker(domain: 8))
        var user = Asker(domain: nil)
        user.isSocket = true
        user.uid = 1000
        #expect(effect(seven, .read, "/a/b") == .abstain && effect(seven, .write, "/a/b") == .abstain)
        #expect(effect(seven, .read, "/a/c") == .abstain && effect(seven, .write, "/a/c") == .deny(.access))
        #expect(
            effect(seven, .read, "/a") == .deny(.access) && effect(eight, .read, "/a/b") == .deny(.access))
        #expect(effect(seven, .transactionStart, "") == .abstain)
        #expect(effect(eight, .transactionStart, "") == .deny(.access))
        #expect(effect(eight, .watch, "@releaseDomain") == .abstain)
        #expect(effect(user, .read, "/a") == .grant && effect(user, .write, "/a") == .deny(.access))
        #expect(effect(user, .control, "check") == .grant)
        #expect(effect(user, .control, "quota") == .deny(.access))
        var control = Asker(domain: 0)
        control.isControl = true
        #expect(effect(control, .write, "/a") == nil)
    }

    @Test func whatDoesNotFitIsCounted() {
        let recorder = Recorder()
        for number in 0..<Recorder.entriesMax + 10 { note(recorder, .domains(7, 7), .read, "/\(number)") }
        #expect(recorder.current.entries.count == Recorder.entriesMax && recorder.current.dropped == 10)
        #expect(recorder.current.rules.contains("# Incomplete: 10 more requests"))
        // What is there already goes on.
        note(recorder, .domains(7, 7), .write, "/1")
        #expect(recorder.current.dropped == 10)
        let other = Recorder()
        let long = "/" + String(repeating: "x", count: 3000)
        for number in 0..<1000 { note(other, .uid(1), .read, "\(long)\(number)") }
        #expect(other.current.bytes <= Recorder.bytesMax && other.current.dropped > 0)
        // A reload goes on with it.
        let fresh = Recorder()
        fresh.take(other.current)
        #expect(fresh.current.dropped == other.current.dropped)
    }

    @Test func somebodyIsRemindedAgainAndAgainUntilHeStops() throws {
        let count = Count()
        let reminder = try Reminder(every: 2_000_000) { count.add() }
        for _ in 0..<5000 where count.value < 3 { usleep(2000) }
        reminder.stop()
        let last = count.value
        #expect(last >= 3)
        usleep(20_000)
        #expect(count.value == last)
        // And one that is not due is not waited for.
        let start = Date()
        try Reminder(every: 60_000_000_000) { count.add() }.stop()
        #expect(Date().timeIntervalSince(start) < 10 && count.value == last)
    }
}

private final class Count: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0
    var value: Int { lock.withLock { count } }
    func add() { lock.withLock { count += 1 } }
}
