// The peers of transcripts: a server in this process, and any daemon's Unix socket.

import Glibc
import XenStore
import XenStoreTypes

/// A fresh server in this process.
public final class ServerPeer: TranscriptPeer {
    public let name: String? = nil
    public let server: Server
    public let world: TestWorld
    /// Whether bytes are handed over one by one, in both directions.
    private let isBytewise: Bool
    /// Whether dom0 is a socket's peer or a ring's.
    private let isSocket: Bool

    public init(for transcript: Transcript, bytewise: Bool = false, sockets: Bool = true) {
        world =
            (transcript.domains ?? (transcript.needsWorld ? [0] : nil)).map { TestWorld(domains: $0) }
            ?? TestWorld()
        world.canIntroduce = transcript.needsWorld
        var configuration = ServerConfiguration()
        configuration.hashSeed = (1, 2)
        for (name, limit) in transcript.quotas {
            for quota in QuotaName.allCases where "\(quota.name)" == name {
                configuration.quotas[quota] = limit
            }
        }
        server = Server(configuration, world: world)
        isBytewise = bytewise
        isSocket = sockets
    }

    public func happen(_ event: Transcript.WorldEvent, domain number: UInt16, isNoticed: Bool) -> String? {
        let domain = DomainID(number)
        switch event {
        case .create: world.create(number)
        case .shutdown: world.domains?[domain]?.isShutdown = true
        case .resume: world.domains?[domain]?.isShutdown = false
        case .die: world.domains?[domain]?.isDying = true
        case .destroy: world.domains?[domain] = nil
        case .unattachable: world.attachFailure = .io
        case .attachable: world.attachFailure = nil
        case .reconnect, .breakRing:
            guard let ring = world.rings[domain] else { return "domain \(number) has no ring" }
            if event == .reconnect { server.reconnect(ring) } else { server.deactivate(ring) }
            world.noteBeginning(domain)
            return nil
        }
        if isNoticed { server.domainsChanged() }
        return nil
    }

    public func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
        if world.canIntroduce, let domain = party.domain, domain != 0 {
            return RingLine(server, world, DomainID(domain), isBytewise)
        }
        let subject: Subject
        if let domain = party.domain {
            subject = .domain(DomainID(domain))
        } else if let user = party.user {
            subject = .user(user)
        } else {
            return nil
        }
        let client = Client(
            server, subject, readOnly: party.isReadOnly,
            isSocket: party.domain == 0 ? isSocket : party.user != nil)
        return ServerConnection(client, isBytewise)
    }
}

private final class ServerConnection: TranscriptConnection {
    private let client: Client
    private let isBytewise: Bool
    private var messages: [Message] = []

    init(_ client: Client, _ isBytewise: Bool) {
        self.client = client
        self.isBytewise = isBytewise
    }

    func send(_ bytes: [UInt8]) {
        guard isBytewise else { return client.send(bytes) }
        for byte in bytes {
            client.send([byte])
            client.fetch(1)
        }
    }

    func receive(patience: Int) -> Message? {
        messages += client.drain()
        return messages.isEmpty ? nil : messages.removeFirst()
    }

    func isClosedByPeer() -> Bool {
        guard client.mustClose else { return false }
        client.close()
        return true
    }

    func close() { client.close() }
}

/// The guest's side of a domain's ring: as long as there is none, nothing is said or heard.
private final class RingLine: TranscriptConnection {
    private let server: Server
    private let world: TestWorld
    private let domain: DomainID
    private let isBytewise: Bool
    private var beginning = 0
    private var line: ServerConnection?
    private var client: Client?

    init(_ server: Server, _ world: TestWorld, _ domain: DomainID, _ isBytewise: Bool) {
        self.server = server
        self.world = world
        self.domain = domain
        self.isBytewise = isBytewise
    }

    /// The connection of now; what an earlier one had not read is gone with it.
    private func current() -> ServerConnection? {
        guard let ring = world.rings[domain] else { return nil }
        if line == nil || beginning != world.beginnings[domain] {
            beginning = world.beginnings[domain] ?? 0
            client = Client(server, connection: ring)
            line = ServerConnection(client!, isBytewise)
        }
        return line
    }

    func send(_ bytes: [UInt8]) { current()?.send(bytes) }
    func receive(patience: Int) -> Message? { current()?.receive(patience: patience) }

    /// A ring is not closed, it is dead.
    func isClosedByPeer() -> Bool { current() == nil || client?.mustClose == true }
    func close() {}
}

/// A daemon behind a Unix socket, for which only dom0 can speak.
public final class SocketPeer: TranscriptPeer {
    public let name: String?
    private let path: String
    private let readOnlyPath: String?

    /// `name` is nil for our own daemon.
    public init(name: String?, path: String, readOnlyPath: String? = nil) {
        self.name = name
        self.path = path
        self.readOnlyPath = readOnlyPath
    }

    public func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
        guard party.domain == 0, let path = party.isReadOnly ? readOnlyPath : path else { return nil }
        return SocketConnection(path)
    }

    /// Removes what transcripts leave behind: they write only below `/t` and the relative `t`.
    public func clean() {
        guard let connection = SocketConnection(path) else { return }
        for top in ["/t", "t"] {
            connection.send(Message(.remove, [UInt8](strings: [top])).bytes)
            _ = connection.receive(patience: 2000)
        }
        connection.close()
    }
}

/// A connected socket, read with poll and a time limit.
final class SocketConnection: TranscriptConnection {
    private var file: Int32
    private var received: [UInt8] = []
    private var isAtEnd = false

    /// Nil if nobody listens there.
    init?(_ path: String) {
        file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = UInt16(AF_UNIX)
        guard file >= 0, path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(file, $0, UInt32(MemoryLayout<sockaddr_un>.size))
            }
        }
        if status != 0 {
            Glibc.close(file)
            return nil
        }
    }

    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(file, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            sent += count
        }
    }

    func receive(patience: Int) -> Message? {
        while true {
            if let message = Message.take(from: &received) { return message }
            if isAtEnd || !fill(patience) { return nil }
        }
    }

    func isClosedByPeer() -> Bool {
        while !isAtEnd { if !fill(2000) { break } }
        if isAtEnd { close() }
        return isAtEnd
    }

    func close() {
        if file >= 0 { Glibc.close(file) }
        file = -1
        isAtEnd = true
    }

    /// Reads once; false if nothing came in time.
    private func fill(_ patience: Int) -> Bool {
        var waiting = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, Int32(patience)) > 0 else { return false }
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = recv(file, &buffer, buffer.count, 0)
        if count <= 0 { isAtEnd = true } else { received += buffer[..<count] }
        return true
    }
}
