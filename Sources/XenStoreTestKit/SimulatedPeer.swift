// A daemon on a simulated host as the peer of transcripts: guests speak through their rings, and so may
// dom0's first connection; dom0's others are sockets.
//
// Invariants: `guests` holds the guest's side of each domain that exists on the host, by its number; a domain
// that is made anew has a new one.

import CLinux
import Glibc
import XenStore
import XenStoreHost
import XenStoreRing
import XenStoreTypes

/// A daemon in this process, on a host of its own.
public final class SimulatedPeer: TranscriptPeer {
    /// Where the answers differ from those in process, the files say so by this name.
    public let name: String? = "rings"
    private let host: SimulatedHost
    private let daemon: DaemonThread
    private let directory: String
    private let hasRing: Bool
    private var guests: [UInt16: SimulatedGuest] = [:]

    /// Starts a daemon for one transcript, with everything that it needs below `directory`, which is there
    /// and empty. `ring`: dom0's first connection is dom0's own ring. The domains that the transcript takes
    /// for granted are introduced; one that `needs: world` introduces its own.
    public init(for transcript: Transcript, in directory: String, ring: Bool) throws {
        self.directory = directory
        hasRing = ring
        try SimulatedHost.make("\(directory)/host")
        host = try SimulatedHost("\(directory)/host")
        var options = HostOptions()
        options.sockets = [
            SocketOptions(path: "\(directory)/socket"),
            SocketOptions(path: "\(directory)/socket_ro", readOnly: true),
        ]
        options.logDestination = .file("\(directory)/log")
        options.hypervisor = HypervisorChoice(.simulated(directory: "\(directory)/host"))
        for (name, limit) in transcript.quotas {
            for quota in QuotaName.allCases where "\(quota.name)" == name {
                options.server.quotas[quota] = limit
            }
        }
        daemon = try DaemonThread(options)
        guests[0] = try SimulatedGuest(host, 0, exists: true)
        if !transcript.needsWorld { try makeDomains(for: transcript) }
    }

    deinit { daemon.stop() }

    /// What of a transcript can be played here: a guest has one ring, and no other users or domains that do
    /// not exist speak.
    public static func playable(_ transcript: Transcript) -> Transcript {
        var playable = transcript
        playable.statements.removeAll { statement in
            if case .world = statement.verb { return false }
            let party = statement.party
            guard let domain = party.domain else { return true }
            if domain == 0 { return false }
            return party.name.contains(".") || transcript.domains?.contains(domain) == false
        }
        return playable
    }

    /// The domains that the transcript names, else all small ones; those that speak are introduced.
    private func makeDomains(for transcript: Transcript) throws {
        let speaking = Set(transcript.statements.compactMap(\.party.domain))
        let domains = transcript.domains.map { Set($0) } ?? speaking.union(1...20)
        for domain in domains.sorted() where domain != 0 {
            guests[domain] = try SimulatedGuest(host, domain)
            if !speaking.contains(domain) { continue }
            guard toolstack(.introduce, ["\(domain)", "1", "1"]) == "OK" else {
                throw StartFailure("domain \(domain) is not introduced")
            }
        }
    }

    /// What the daemon answers to a request over a socket of its own.
    @discardableResult
    private func toolstack(_ type: MessageType, _ arguments: [String]) -> String? {
        guard let connection = SocketConnection("\(directory)/socket") else { return nil }
        defer { connection.close() }
        connection.send(Message(type, [UInt8](strings: arguments)).bytes)
        return connection.receive(patience: 10_000)?.strings.first
    }

    /// Whether the daemon's invariants hold.
    public var isIntact: Bool { toolstack(.control, ["check"]) == "OK" }

    // MARK: Parties

    public func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
        guard let domain = party.domain else { return nil }
        if domain != 0 || party.name == "dom0" && hasRing {
            // A line that was closed: the guest begins anew.
            if let guest = guests[domain], guest.page.error != 0, !guest.reconnect() { return nil }
            return GuestLine { [unowned self] in guests[domain] }
        }
        return SocketConnection(party.isReadOnly ? "\(directory)/socket_ro" : "\(directory)/socket")
    }

    // MARK: The host

    public func happen(_ event: Transcript.WorldEvent, domain number: UInt16, isNoticed: Bool) -> String? {
        do {
            return try happen(event, number, isNoticed)
        } catch {
            return "\(error)"
        }
    }

    private func happen(_ event: Transcript.WorldEvent, _ number: UInt16, _ isNoticed: Bool) throws -> String?
    {
        if event == .create {
            guests[number] = try SimulatedGuest(host, number)
            return isNoticed ? tellDaemon() : nil
        }
        guard let guest = guests[number] else { return "there is no domain \(number)" }
        switch event {
        case .create: break
        case .shutdown: guest.flags |= 4
        case .resume: guest.flags &= ~4
        case .die: guest.flags |= 2
        case .destroy: guest.flags = 0
        case .unattachable: guest.hideEventChannel(true)
        case .attachable: guest.hideEventChannel(false)
        case .reconnect: return guest.reconnect() ? nil : "the daemon grants no reconnection"
        case .breakRing:
            guest.breakRing()
            return guest.isCutOff(2000) ? nil : "the daemon does not see that the ring is broken"
        }
        return isNoticed ? tellDaemon() : nil
    }

    /// VIRQ_DOM_EXC. Returns when the daemon has looked at its domains; what is wrong if it does not.
    private func tellDaemon() -> String? {
        let fifo = open("\(directory)/host/evtchn", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        defer { close(fifo) }
        var port: UInt32 = 1
        guard write(fifo, &port, 4) == 4 else { return "cannot write to evtchn, errno \(errno)" }
        var waiting = pollfd(fd: fifo, events: Int16(POLLIN), revents: 0)
        for _ in 0..<10_000 where poll(&waiting, 1, 0) > 0 { usleep(1000) }
        // It has read the event; it acts on it before it reads this.
        return toolstack(.getDomainPath, ["0"]) == nil ? "the daemon does not answer" : nil
    }
}

/// A guest's ring; while there is none, nothing is said or heard.
private final class GuestLine: TranscriptConnection {
    private let find: () -> SimulatedGuest?
    private var guest: SimulatedGuest? { find().flatMap { $0.daemonPort != 0 ? $0 : nil } }

    init(_ find: @escaping () -> SimulatedGuest?) {
        self.find = find
    }

    func send(_ bytes: [UInt8]) {
        guard let guest, guest.page.error == 0 else { return }
        guest.send(bytes)
    }

    func receive(patience: Int) -> Message? {
        guard let guest, guest.page.error == 0 else { return nil }
        return guest.receive(patience)
    }

    /// A ring is not closed, it is dead.
    func isClosedByPeer() -> Bool { guest?.isCutOff(2000) ?? true }

    /// A guest that goes asks for a new beginning, so that nothing of it is left.
    func close() { _ = guest?.reconnect() }
}
