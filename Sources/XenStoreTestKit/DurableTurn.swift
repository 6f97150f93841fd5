// One turn of the loop around a server, as the host takes it (DurableSimulation).

import XenStore
import XenStoreRing
import XenStoreTypes

extension DurableSimulation {
    /// Turns until nothing moves any more.
    func comeToRest() throws {
        for _ in 0..<1000 {
            hasMoved = false
            try takeTurn()
            if !hasMoved { return }
        }
        throw disagreement("it does not come to rest")
    }

    private func takeTurn() throws {
        turn += 1
        if !armed.isEmpty { armed[0].turns -= 1 }
        do {
            for ring in rings.keys.sorted() { try serveGuest(rings[ring]!) }
            try mayBeKilled(.beforeInputs)
            server.advance(to: now)
            for peer in peers { try serve(peer) }
            try compare()
            try mayBeKilled(.afterInputs)
            try settle()
            try check()
        } catch is Killed {
            hasMoved = true
            try restart()
        }
    }

    private func check() throws {
        let findings = server.checkInvariants()
        guard findings == 0 else {
            let lines = world.lines.filter { $0.level == .error }.map(\.text).suffix(5)
            throw disagreement("\(findings) invariants do not hold: \(lines)")
        }
        guard server.nodeCount == reference.tree.nodes.count else {
            throw disagreement("\(server.nodeCount) nodes instead of \(reference.tree.nodes.count)")
        }
        if let number = backend.wrongNumber { throw disagreement("a batch under the number \(number)") }
        world.lines = []
    }

    // MARK: Inputs

    /// What goes on on the guest's side of its ring.
    private func serveGuest(_ ring: Ring) throws {
        let peer = ring.peer
        guard peer.epoch == peer.line.epoch, ring.slot?.isRestarted != true,
            !ring.page.isReconnectRequested
        else { return }
        if ring.isActive { build(peer) }
        if !peer.outgoing.isEmpty && ring.isActive {
            let limit = peer.pieces.isEmpty ? peer.outgoing.count : peer.pieces.removeFirst()
            guard case .moved(let count) = ring.page.sendRequest(Array(peer.outgoing.prefix(limit)).span)
            else { throw disagreement("domain \(peer.ring!): its ring is broken") }
            peer.outgoing.removeFirst(count)
            if count > 0 { hasMoved = true }
        }
        if peer.isAsleep { return }
        var buffer = [UInt8](repeating: 0, count: RingPage.ringCount)
        let outcome = buffer.withUnsafeMutableBytes { ring.page.receiveResponse(into: $0) }
        guard case .moved(let count) = outcome else {
            throw disagreement("domain \(peer.ring!): its ring is broken")
        }
        if count > 0 { try take(Array(buffer[..<count]), by: peer) }
    }

    /// What has arrived must be what was queued.
    private func take(_ bytes: [UInt8], by peer: Peer) throws {
        hasMoved = true
        peer.received += bytes
        while let message = Message.take(from: &peer.received) {
            guard peer.taken < peer.line.stream.count, peer.line.stream[peer.taken] == message else {
                throw disagreement("\(peer.subject) receives \(message), which was not queued next")
            }
            peer.taken += 1
            matcher.show(message)
            peer.delivery.messages += 1
            if !message.isEvent { peer.delivery.replies += 1 }
        }
    }

    private func serve(_ peer: Peer) throws {
        if let domain = peer.ring {
            if let ring = rings[domain] { try serve(ring) }
            return
        }
        build(peer)
        if peer.outgoing.isEmpty { return }
        let limit = peer.pieces.isEmpty ? peer.outgoing.count : peer.pieces.removeFirst()
        let used = try hand(Array(peer.outgoing.prefix(limit)), of: peer)
        peer.outgoing.removeFirst(min(used, peer.outgoing.count))
    }

    private func isWaiting(_ ring: Ring) -> Bool { ring.slot != nil && ring.stagedTurn != turn }

    private func serve(_ ring: Ring) throws {
        if isWaiting(ring) || ring.slot?.isRestarted == true { return }
        if ring.page.isReconnectRequested {
            server.reconnect(ring.connection)
            reference.reconnect(ring.peer.ring!)
            past.log.append(.reconnect(ring.peer))
            beginAnew(ring, isActive: true)
            return try compare()
        }
        guard ring.isActive else { return }
        try place(ring)
        guard ring.isActive, server.wantsInput(ring.connection) else { return }
        let consumed = ring.slot?.after.consumed ?? ring.page.positions.consumed
        var buffer = [UInt8](repeating: 0, count: RingPage.ringCount)
        let outcome = buffer.withUnsafeMutableBytes { ring.page.look(at: consumed, into: $0) }
        guard case .moved(let count) = outcome else {
            throw disagreement("domain \(ring.peer.ring!): its ring is broken")
        }
        if count == 0 { return }
        let epoch = ring.peer.line.epoch
        let used = try hand(Array(buffer[..<count]), of: ring.peer)
        guard rings[ring.peer.ring!] === ring, ring.peer.line.epoch == epoch else { return }
        if used > 0 { stage(ring).after.consumed = consumed &+ UInt32(used) }
    }

    /// Hands bytes to the server, one message at most at a time, and each that is whole to the reference too.
    /// Answers how many the server wanted.
    private func hand(_ bytes: [UInt8], of peer: Peer) throws -> Int {
        var used = 0
        let epoch = peer.line.epoch
        let delivery = peer.delivery
        while used < bytes.count, let id = peer.id, server.wantsInput(id) {
            let head = peer.sent[peer.line.executed]
            let count = min(head.bytes.count - peer.line.fed, bytes.count - used)
            let isWhole = peer.line.fed + count == head.bytes.count
            if isWhole, let message = head.message {
                past.log.append(.request(peer, message, peer.line.executed, delivery))
            }
            hasMoved = true
            server.receive(id, Array(bytes[used..<used + count]).span)
            used += count
            let isSame = peer.line.epoch == epoch
            if isSame { peer.line.fed += count }
            if !isWhole { continue }
            if isSame { (peer.line.executed, peer.line.fed) = (peer.line.executed + 1, 0) }
            trace?("peer \(peer.key): \(head.message.map { "\($0)" } ?? "oversized")")
            if let message = head.message { reference.handle(peer.key, message) } else { try breakOff(peer) }
            // A reservation would make others wait; tests of their own cover that.
            if let deadline = server.nextDeadline, deadline <= now + 20_000_000 {
                now += 20_000_000
                server.advance(to: now)
            }
            try compare()
            if !isSame || peer.epoch != epoch || peer.delivery !== delivery { break }
        }
        return used
    }

    private func breakOff(_ peer: Peer) throws {
        guard let id = peer.id, server.mustClose(id) else { throw disagreement("not closed") }
        guard let domain = peer.ring else { return reopen(peer) }
        reference.deactivate(domain)
        past.log.append(.deactivate(peer))
        beginAnew(rings[domain]!, isActive: false)
    }

    /// The ring's connection is as it was when it was made; an active one begins anew on the page too, once
    /// that is recorded.
    func beginAnew(_ ring: Ring, isActive: Bool) {
        ring.peer.line = Line(epoch: ring.peer.line.epoch + 1, isActive: isActive)
        ring.isActive = isActive
        ring.slot = nil
        touch(ring)
        guard isActive else { return }
        let slot = stage(ring)
        slot.after = RingPositions(consumed: 0, produced: 0)
        slot.isRestarted = true
    }

    // MARK: The end of a turn

    private func place(_ ring: Ring) throws {
        if ring.slot?.isRestarted == true || server.queuedCount(ring.connection) == 0 { return }
        let produced = ring.slot?.after.produced ?? ring.page.positions.produced
        let outcome = ring.page.place(server.queued(ring.connection).span, at: produced)
        guard case .moved(let count) = outcome else {
            throw disagreement("domain \(ring.peer.ring!): its ring is broken")
        }
        if count == 0 { return }
        stage(ring).after.produced = produced &+ UInt32(count)
        hasMoved = true
        sent(count, by: ring.peer)
        server.sent(ring.connection, count)
        try compare()
    }

    private func sent(_ count: Int, by peer: Peer) {
        var left = count
        var begun = 0
        while left > 0 {
            if !peer.line.isFirstBegun { begun += 1 }
            peer.line.isFirstBegun = left < peer.line.queued[0]
            if peer.line.isFirstBegun {
                peer.line.queued[0] -= left
                left = 0
            } else {
                left -= peer.line.queued.removeFirst()
            }
        }
        reference.sent(peer.key, begun)
        past.log.append(.sent(peer, begun, peer.delivery))
    }

    /// The slot of this turn, to be moved on: a reference to it.
    private func stage(_ ring: Ring) -> RingSlotReference {
        if ring.slot == nil {
            let (consumed, produced) = ring.page.positions
            let stand = RingPositions(consumed: consumed, produced: produced)
            ring.slot = RingSlot(before: stand, after: stand)
            ring.stagedTurn = turn
            touch(ring)
        }
        return RingSlotReference(ring: ring)
    }

    private func touch(_ ring: Ring) { ring.isTouched = true }

    private func settle() throws {
        while let connection = server.nextChanged() {
            guard let ring = rings.values.first(where: { $0.connection == connection }) else { continue }
            touch(ring)
            if ring.isActive && !isWaiting(ring) { try place(ring) }
        }
        for domain in rings.keys.sorted() {
            guard let ring = rings[domain], ring.isTouched, ring.isActive || ring.slot != nil else {
                continue
            }
            server.recordRing(ring.connection, ring.slot ?? slotAsItStands(ring))
        }
        for ring in rings.values { ring.isTouched = false }
        try writeJournal()
        try mayBeKilled(.beforeCommit)
        commit()
        try mayBeKilled(.afterCommit)
        try deliver()
        try publish()
    }

    func slotAsItStands(_ ring: Ring) -> RingSlot {
        let (consumed, produced) = ring.page.positions
        let stand = RingPositions(consumed: consumed, produced: produced)
        return RingSlot(before: stand, after: stand)
    }

    /// Sockets get what they may see.
    private func deliver() throws {
        for peer in peers where peer.ring == nil && !peer.isAsleep {
            guard let id = peer.id, server.outputCount(id) > 0 else { continue }
            let bytes = server.output(id)
            sent(bytes.count, by: peer)
            server.sent(id, bytes.count)
            try compare()
            try take(bytes, by: peer)
        }
    }

    private func publish() throws {
        for domain in rings.keys.sorted() {
            guard let ring = rings[domain], let slot = ring.slot else { continue }
            if !server.isFinal(ring.connection) { continue }
            trace?("publish \(domain) \(slot)")
            if slot.isRestarted {
                show(ring)
            } else if ring.isActive {
                if case .some(let first) = armed.first, first.turns <= 0, first.moment == .amidPublication {
                    ring.page.publish(consumed: slot.after.consumed, produced: slot.before.produced)
                    try mayBeKilled(.amidPublication)
                }
                ring.page.publish(consumed: slot.after.consumed, produced: slot.after.produced)
            }
            ring.slot = nil
            hasMoved = true
        }
    }

    /// The guest sees the new beginning.
    func show(_ ring: Ring) {
        ring.page.reset()
        ring.page.confirmConnection()
        ring.peer.begin(ring.peer.line.epoch)
    }

    // MARK: Comparing

    /// Holds what is newly queued against what the reference expects.
    func compare() throws {
        for peer in peers {
            guard let id = peer.id else { continue }
            let known = peer.line.queued.reduce(0, +)
            let total = server.queuedCount(id)
            guard total >= known else {
                throw disagreement("\(peer.subject): \(total) bytes queued instead of \(known)")
            }
            var bytes = Array(server.queued(id).dropFirst(known))
            var messages: [Message] = []
            while let message = Message.take(from: &bytes) { messages.append(message) }
            var rest = messages[...]
            for expected in reference.takeExpected(peer.key) {
                if let problem = matcher.match(expected, &rest) {
                    throw disagreement("peer \(peer.key) (\(peer.subject)): \(problem)")
                }
            }
            if let extra = rest.first {
                throw disagreement("peer \(peer.key) (\(peer.subject)): unexpected \(extra)")
            }
            if messages.isEmpty { continue }
            peer.line.stream += messages
            trace?("peer \(peer.key) queued \(messages)")
            peer.line.queued += messages.map(\.bytes.count)
            reference.addUnsent(peer.key, messages)
        }
    }
}

/// A ring's slot, to be changed in place.
struct RingSlotReference {
    let ring: DurableSimulation.Ring
    var after: RingPositions {
        get { ring.slot!.after }
        nonmutating set { ring.slot!.after = newValue }
    }
    var isRestarted: Bool {
        get { ring.slot!.isRestarted }
        nonmutating set { ring.slot!.isRestarted = newValue }
    }
}
