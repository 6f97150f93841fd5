// The kernel as the peer of transcripts: everybody speaks by the one ring that a domain has.

import XenStore
import XenStoreTestKit
import XenStoreTypes

final class StubPeer: TranscriptPeer {
    /// Where the answers differ from those in process, they are those of other rings.
    let name: String? = "rings"
    let machine: StubMachine
    private var exists: Set<UInt16> = [0]

    /// A fresh machine, with the quotas and domains that the transcript takes for granted.
    init(for transcript: Transcript, ramdisk: [UInt8]? = nil) throws {
        machine = try StubMachine(ramdisk: ramdisk)
        for (name, limit) in transcript.quotas {
            guard machine.ask(0, .setQuota, [name, "\(limit)"]) == "OK\0" else {
                throw StubFailure("quota \(name)")
            }
        }
        if transcript.needsWorld { return }
        let speaking = Set(transcript.statements.compactMap(\.party.domain))
        for domain in (transcript.domains.map { Set($0) } ?? speaking.union(1...20)).sorted()
        where domain != 0 {
            machine.send(.create, domain)
            exists.insert(domain)
            if speaking.contains(domain), !machine.makeGuest(domain) {
                throw StubFailure("domain \(domain) is not introduced")
            }
        }
    }

    /// Whether a transcript needs no more connections than there are rings.
    static func canPlay(_ transcript: Transcript) -> Bool {
        transcript.statements.allSatisfy { statement in
            if case .world = statement.verb { return true }
            guard let domain = statement.party.domain else { return false }
            return !statement.party.name.contains(".") && transcript.domains?.contains(domain) != false
        }
    }

    func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
        guard let domain = party.domain else { return nil }
        if machine.errors[domain] ?? 0 != 0 {
            machine.send(.reconnect, domain)
            machine.settle()
        }
        return StubLine(machine, domain)
    }

    func happen(_ event: Transcript.WorldEvent, domain: UInt16, isNoticed: Bool) -> String? {
        switch event {
        case .create: machine.send(.create, domain)
        case .shutdown: machine.send(.flags, domain, [4])
        case .resume: machine.send(.flags, domain, [0])
        case .die: machine.send(.flags, domain, [2])
        case .destroy: machine.send(.destroy, domain)
        case .unattachable: machine.send(.unattachable, 0, [1])
        case .attachable: machine.send(.unattachable, 0, [0])
        case .reconnect:
            machine.send(.reconnect, domain)
            machine.settle()
            machine.forget(domain)
        case .breakRing: machine.send(.breakRing, domain)
        }
        if isNoticed { machine.send(.domainEvent) }
        return machine.settle() ? nil : "the machine does not answer: \(machine.console)"
    }
}

/// A guest's ring.
private final class StubLine: TranscriptConnection {
    private let machine: StubMachine
    private let domain: UInt16

    init(_ machine: StubMachine, _ domain: UInt16) {
        self.machine = machine
        self.domain = domain
    }

    func send(_ bytes: [UInt8]) { machine.send(.bytes, domain, bytes) }
    func receive(patience: Int) -> Message? { machine.receive(domain) }

    /// A ring is not closed, it is dead.
    func isClosedByPeer() -> Bool {
        machine.settle()
        return machine.errors[domain] ?? 0 != 0
    }

    /// A guest that goes asks for a new beginning, so that nothing of it is left.
    func close() {
        machine.send(.reconnect, domain)
        machine.settle()
        machine.forget(domain)
    }
}
