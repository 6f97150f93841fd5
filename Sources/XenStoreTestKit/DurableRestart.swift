// What a daemon finds that is started after another was killed, and what the reference makes of it
// (DurableSimulation).
//
// The reference is taken back to the newest batch that is final, and then led again through what has been
// carried out since and stands all the same: requests of rings that the journal has as carried out, requests
// of sockets whose reply was seen. Each of them must have the replies and events that it had then: so nothing
// that was shown depended on a batch that is lost.

import XenStore
import XenStoreTypes

/// A frame of the journal, with what the peers' lines were then.
struct JournalFrame {
    var sequence: UInt64
    var bytes: [UInt8]
    /// Holds all sessions.
    var isAll = false
    /// Of rings of which the frame records something.
    var marks: [UInt16: Mark]

    struct Mark {
        /// How much of the past's log had happened.
        var index: Int
        var line: DurableSimulation.Line
    }
}

/// What has happened since the oldest batch that may still be lost.
struct Past {
    enum Entry {
        /// With the number of requests carried out before it.
        case request(DurableSimulation.Peer, Message, Int, DurableSimulation.Delivery)
        case sent(DurableSimulation.Peer, Int, DurableSimulation.Delivery)
        case reconnect(DurableSimulation.Peer)
        case deactivate(DurableSimulation.Peer)
        case connect(DurableSimulation.Peer)
        case disconnect(DurableSimulation.Peer)
        case domains([UInt16: ReferenceDomain]?)
        case full(Bool)
        /// It never happened.
        case lost
    }

    /// The state after a batch was taken.
    struct Checkpoint {
        var reference: ReferenceStore
        var index: Int
        var lines: [Int: (epoch: Int, count: Int, delivery: DurableSimulation.Delivery)]
    }

    var log: [Entry] = []
    var checkpoints: [UInt64: Checkpoint] = [:]

    /// Nothing before this batch can be lost any more.
    mutating func forget(before sequence: UInt64) {
        for number in checkpoints.keys where number < sequence { checkpoints[number] = nil }
    }
}

extension DurableSimulation {
    // MARK: What is kept

    /// Offers the batch, and remembers the state in which it was taken.
    func commit() {
        let (sequence, refused) = (server.lastSequence, backend.refused)
        server.commit()
        if backend.refused > refused { setFull(true) }
        if server.lastSequence == sequence { return }
        setFull(false)
        var lines: [Int: (epoch: Int, count: Int, delivery: Delivery)] = [:]
        for peer in peers { lines[peer.key] = (peer.line.epoch, peer.line.stream.count, peer.delivery) }
        past.checkpoints[server.lastSequence] = Past.Checkpoint(
            reference: reference.copy(), index: past.log.count, lines: lines)
        past.forget(before: server.finalSequence)
    }

    private func setFull(_ isFull: Bool) {
        if reference.isFull == isFull { return }
        reference.isFull = isFull
        past.log.append(.full(isFull))
    }

    func writeJournal() throws {
        var parts: [JournalFrame] = []
        server.takeSessions { frame, sequence in
            parts.append(JournalFrame(sequence: sequence, bytes: [UInt8](copying: frame), marks: [:]))
        }
        for (number, part) in parts.enumerated() {
            if number > 0 { try mayBeKilled(.afterFreeRecords) }
            trace?("frame for \(part.sequence)")
            journal.append(part)
            journal[journal.count - 1].marks = marks(of: part.bytes)
            guard image.add(part.bytes.span) else { throw disagreement("a frame that is none") }
        }
        if parts.count == 1 && parts[0].sequence == 0 { try mayBeKilled(.afterFreeRecords) }
        let different = image.differences(from: try currentImage())
        guard different.isEmpty else {
            throw disagreement("the journal says other things of the domains \(different) than the server")
        }
    }

    private func currentImage() throws -> SessionImage {
        var current = SessionImage()
        let boot = Array(boot.utf8)
        guard current.add(server.copyAllSessions(boot.span).span) else {
            throw disagreement("a frame of all sessions that is none")
        }
        return current
    }

    /// The marks of the rings that a frame records: kinds 7 and 8 of `SessionRecords`.
    private func marks(of frame: [UInt8]) -> [UInt16: JournalFrame.Mark] {
        var marks: [UInt16: JournalFrame.Mark] = [:]
        var at = 0
        while at < frame.count {
            let domain = UInt16(frame[at + 6]) | UInt16(frame[at + 7]) << 8
            if frame[at + 4] == 7 || frame[at + 4] == 8, peer(of: domain).id != nil {
                marks[domain] = mark(peer(of: domain))
            }
            at += frame.withUnsafeBytes { Int($0.loadUnaligned(fromByteOffset: at, as: UInt32.self)) }
        }
        return marks
    }

    private func mark(_ peer: Peer) -> JournalFrame.Mark {
        JournalFrame.Mark(index: past.log.count, line: peer.line)
    }

    private func allSessions(_ sequence: UInt64) -> JournalFrame {
        let boot = Array(boot.utf8)
        let bytes = server.takeAllSessions(boot.span) { [UInt8](copying: $0) }
        var marks: [UInt16: JournalFrame.Mark] = [:]
        for (domain, ring) in rings { marks[domain] = mark(ring.peer) }
        return JournalFrame(sequence: sequence, bytes: bytes, isAll: true, marks: marks)
    }

    /// The journal is begun anew, between turns, if all that it holds is final.
    func compact() {
        if server.nextSequence != nil || server.finalSequence != server.lastSequence { return }
        journal = [allSessions(server.lastSequence)]
    }

    // MARK: Starting

    /// As the host does it after it has restored the sessions.
    func begin() throws {
        server.recordSessions(true)
        for domain in rings.keys.sorted() {
            server.recordRing(rings[domain]!.connection, slotAsItStands(rings[domain]!))
        }
        try mayBeKilled(.beforeNewJournal)
        let all = allSessions(server.nextSequence ?? server.lastSequence)
        journal.append(all)
        guard image.add(all.bytes.span) else { throw disagreement("a frame that is none") }
        try mayBeKilled(.beforeFirstCommit)
        commit()
        try mayBeKilled(.afterFirstCommit)
        server.proceed()
        try compare()
        for peer in peers where peer.ring == nil { open(peer) }
        try adoptOrder()
    }

    func restart() throws {
        kills += 1
        lostBatches += backend.onTheWay.count
        backend = backend.found()
        backend.mode = random.chance(70) ? .final : .submitted
        world.forgetRings()
        rings = [:]
        image = SessionImage()
        var marks: [UInt16: JournalFrame.Mark] = [:]
        for frame in journal where frame.sequence <= backend.sequence {
            guard image.add(frame.bytes.span) else { throw disagreement("a frame that does not fit") }
            marks = frame.isAll ? frame.marks : marks.merging(frame.marks) { $1 }
        }
        trace?("restarted with batch \(backend.sequence) of \(server.lastSequence)")
        try rollBack(marks)
        matcher.restart()
        (world.attachFailure, reference.attachFailure, unnoticed) = (nil, nil, nil)
        for peer in peers { takeBack(peer, marks) }
        firstSequence = backend.sequence
        server = Server(configuration, world: world, backend: backend)
        server.advance(to: now)
        let records = random.chance(50) ? backend.compacted(&random) : backend.records
        guard server.recover(records, sequence: backend.sequence, boot: boot) else {
            throw disagreement("another boot of the host")
        }
        server.restore(image)
        reference.restart()
        try compare()
        do { try begin() } catch is Killed { try restart() }
    }

    private func takeBack(_ peer: Peer, _ marks: [UInt16: JournalFrame.Mark]) {
        peer.id = nil
        guard let domain = peer.ring else {
            peer.line = Line()
            return peer.begin(0)
        }
        guard let mark = marks[domain] else { return }
        if peer.line.epoch == mark.line.epoch { repeated += peer.line.executed - mark.line.executed }
        peer.line = mark.line
    }

    /// The host itself starts anew: pages, domains and the journal are gone.
    func reboot() throws {
        reboots += 1
        backend = backend.found()
        guard let checkpoint = past.checkpoints[backend.sequence] else {
            throw disagreement("no batch \(backend.sequence)")
        }
        world.forgetRings()
        rings = [:]
        journal = []
        image = SessionImage()
        past = Past()
        boot = "boot \(reboots + 1)"
        world.domains = [.zero: DomainIdentity(uniqueID: UInt64(reboots))]
        for peer in peers {
            peer.id = nil
            peer.line = Line()
            peer.begin(0)
        }
        unnoticed = nil
        reference = checkpoint.reference.copy()
        reference.reboot(keeping: kept, quotas: firstQuotas)
        reference.isFull = false
        reference.domains = [0: ReferenceDomain(uniqueID: UInt64(reboots))]
        firstSequence = backend.sequence
        server = Server(configuration, world: world, backend: backend)
        server.advance(to: now)
        if server.recover(backend.records, sequence: backend.sequence, boot: boot, keep: kept) {
            throw disagreement("the same boot of the host")
        }
        server.restore(SessionImage())
        try begin()
    }

    // MARK: The reference's past

    private func rollBack(_ marks: [UInt16: JournalFrame.Mark]) throws {
        let domains = reference.domains
        guard let checkpoint = past.checkpoints[backend.sequence] else {
            throw disagreement("no batch \(backend.sequence)")
        }
        reference = checkpoint.reference.copy()
        reference.isReplaying = true
        var replay = Replay(self, checkpoint, marks)
        for index in checkpoint.index..<past.log.count {
            let stands = replay.happensAgain(past.log[index], index)
            trace?("\(stands ? "stands" : "is lost"): \(past.log[index])")
            if stands {
                try replay.repeat(past.log[index])
            } else {
                past.log[index] = .lost
            }
        }
        try replay.finish()
        reference.isReplaying = false
        reference.domains = domains
        reference.isFull = false
        for (domain, mark) in marks {
            let waiting = mark.line.queued.count - (mark.line.isFirstBegun ? 1 : 0)
            reference.setUnsent(ReferenceStore.ringKey(domain), waiting)
        }
    }
}

/// The reference is led through what stands once more.
private struct Replay {
    let simulation: DurableSimulation
    let checkpoint: Past.Checkpoint
    let marks: [UInt16: JournalFrame.Mark]
    /// How far each connection's output has been compared, and how many beginnings it has had.
    private var positions: [Int: Int] = [:]
    private var epochs: [Int: Int] = [:]
    private var matcher = OutputMatcher()

    init(
        _ simulation: DurableSimulation, _ checkpoint: Past.Checkpoint, _ marks: [UInt16: JournalFrame.Mark]
    ) {
        self.simulation = simulation
        self.checkpoint = checkpoint
        self.marks = marks
        for (key, line) in checkpoint.lines {
            positions[key] = line.count
            epochs[key] = line.epoch
        }
    }

    func happensAgain(_ entry: Past.Entry, _ index: Int) -> Bool {
        func stands(_ peer: DurableSimulation.Peer) -> Bool { index < marks[peer.ring!]?.index ?? 0 }
        switch entry {
        case .request(let peer, _, let number, let delivery):
            return peer.ring == nil ? number < delivery.replies : stands(peer)
        case .sent(let peer, _, _): return peer.ring == nil || stands(peer)
        case .reconnect(let peer), .deactivate(let peer): return stands(peer)
        case .connect, .disconnect, .domains, .full: return true
        case .lost: return false
        }
    }

    mutating func `repeat`(_ entry: Past.Entry) throws {
        let reference = simulation.reference
        switch entry {
        case .request(let peer, let message, _, _):
            reference.handle(peer.key, message)
        case .sent(let peer, let count, _):
            // What was sent to a socket, or in an earlier beginning, has perhaps not been compared.
            reference.sent(peer.key, min(count, reference.unsentCount(peer.key)))
        case .reconnect(let peer):
            reference.reconnect(peer.ring!)
            beginAnew(peer)
        case .deactivate(let peer):
            reference.deactivate(peer.ring!)
            beginAnew(peer)
        case .connect(let peer): reference.connect(peer.key, peer.subject, readOnly: peer.isReadOnly)
        case .disconnect(let peer): reference.disconnect(peer.key)
        case .domains(let domains): reference.domains = domains
        case .full(let isFull): reference.isFull = isFull
        case .lost: break
        }
        for peer in simulation.peers { try compare(peer) }
    }

    private mutating func beginAnew(_ peer: DurableSimulation.Peer) {
        positions[peer.key] = 0
        epochs[peer.key, default: 0] += 1
    }

    /// The messages that the connection had, as far as they are to stand; nil: they are of another
    /// connection.
    private func messages(_ peer: DurableSimulation.Peer) -> ArraySlice<Message>? {
        guard let domain = peer.ring else {
            guard checkpoint.lines[peer.key]?.delivery === peer.delivery else { return nil }
            return peer.line.stream.prefix(peer.delivery.messages)
        }
        guard let mark = marks[domain], mark.line.epoch == epochs[peer.key] else { return nil }
        return mark.line.stream[...]
    }

    private mutating func compare(_ peer: DurableSimulation.Peer) throws {
        let expected = simulation.reference.takeExpected(peer.key)
        if expected.isEmpty { return }
        guard let all = messages(peer) else { return }
        let start = min(positions[peer.key] ?? 0, all.count)
        var rest = all[start...]
        for item in expected {
            // A socket has seen a beginning only.
            if peer.ring == nil && rest.isEmpty { break }
            if let problem = matcher.match(item, &rest, isPrefix: peer.ring == nil) {
                throw simulation.disagreement(
                    "\(peer.subject) was shown what depends on a lost batch: \(problem)")
            }
        }
        simulation.reference.addUnsent(peer.key, Array(all[start..<rest.startIndex]))
        positions[peer.key] = rest.startIndex
    }

    /// Nothing was recorded that did not happen.
    func finish() throws {
        for peer in simulation.peers {
            guard let all = messages(peer), peer.ring != nil else { continue }
            if let extra = all.dropFirst(positions[peer.key] ?? 0).first {
                throw simulation.disagreement("\(peer.subject) was recorded to have \(extra)")
            }
        }
    }
}
