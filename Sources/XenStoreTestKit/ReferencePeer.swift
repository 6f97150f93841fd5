// The reference store as a transcript's peer: so the transcripts, which were played against other daemons,
// hold the reference to the same words as the core.

import XenStoreTypes

/// A fresh reference store.
public final class ReferencePeer: TranscriptPeer {
    public let name: String? = nil
    private let store = ReferenceStore()
    private var lastKey = 0
    private var lastUniqueID: UInt64 = 1 << 32

    public init(for transcript: Transcript) {
        store.hasHypervisor = transcript.needsWorld
        if let domains = transcript.domains ?? (transcript.needsWorld ? [0] : nil) {
            store.domains = [:]
            for id in domains { store.domains?[id] = ReferenceDomain(uniqueID: UInt64(id)) }
        }
        for (name, limit) in transcript.quotas { store.quotas[name] = Int(limit) }
    }

    public func happen(_ event: Transcript.WorldEvent, domain: UInt16, isNoticed: Bool) -> String? {
        switch event {
        case .create:
            lastUniqueID += 1
            store.domains?[domain] = ReferenceDomain(uniqueID: lastUniqueID)
        case .shutdown: store.domains?[domain]?.isShutdown = true
        case .resume: store.domains?[domain]?.isShutdown = false
        case .die: store.domains?[domain]?.isDying = true
        case .destroy: store.domains?[domain] = nil
        case .unattachable: store.attachFailure = .io
        case .attachable: store.attachFailure = nil
        case .reconnect: store.reconnect(domain)
        case .breakRing: store.deactivate(domain)
        }
        let isOfRing = event == .reconnect || event == .breakRing
        if isNoticed && !isOfRing { store.domainsChanged() }
        return nil
    }

    public func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
        if store.hasHypervisor, let domain = party.domain, domain != 0 {
            return ReferenceLine(store, ReferenceStore.ringKey(domain), ring: domain)
        }
        lastKey += 1
        let subject: ReferenceSubject = party.domain.map { .domain($0) } ?? .user(party.user ?? 0)
        store.connect(lastKey, subject, readOnly: party.isReadOnly)
        return ReferenceLine(store, lastKey)
    }
}

private final class ReferenceLine: TranscriptConnection {
    private let store: ReferenceStore
    private let key: Int
    private var received: [UInt8] = []
    private var messages: [Message] = []
    private var isOpen = true
    /// The domain whose ring it is.
    private let ring: UInt16?
    private var beginning: ReferenceBeginning?

    init(_ store: ReferenceStore, _ key: Int, ring: UInt16? = nil) {
        self.store = store
        self.key = key
        self.ring = ring
    }

    /// What was half said or not yet heard before a ring's new beginning is gone.
    private func follow() {
        let now = store.beginning(key)
        if ring == nil || now == beginning { return }
        beginning = now
        received = []
        messages = []
    }

    func send(_ bytes: [UInt8]) {
        follow()
        received += bytes
        if isClosedByPeer() {
            if let ring { store.deactivate(ring) }
            return
        }
        while let message = Message.take(from: &received) { store.handle(key, message) }
    }

    func receive(patience: Int) -> Message? {
        guard isOpen else { return nil }
        follow()
        for item in store.takeExpected(key) {
            switch item {
            case .events(let events): messages += events.map { Message(.watchEvent, $0) }
            case .reply(let reply): messages.append(reply)
            case .part(let request, let list, let offset, _, let listing, _):
                messages.append(part(request, list, offset, listing))
            }
        }
        return messages.isEmpty ? nil : messages.removeFirst()
    }

    private func part(_ request: Message, _ list: [UInt8], _ offset: Int, _ generation: Int) -> Message {
        var answer = request
        answer.payload = [UInt8](strings: [String(generation)])
        var rest = list.dropFirst(offset)
        while let end = rest.firstIndex(of: 0) {
            let name = rest[...end]
            if answer.payload.count + name.count >= MessageHeader.payloadMax { return answer }
            answer.payload += name
            rest = rest[(end + 1)...]
        }
        answer.payload.append(0)
        return answer
    }

    func isClosedByPeer() -> Bool {
        if ring != nil && (store.beginning(key) == nil || store.isBroken(key)) { return true }
        guard received.count >= MessageHeader.size else { return false }
        let bytes = received
        return MessageHeader(reading: bytes.span.bytes).length > UInt32(MessageHeader.payloadMax)
    }

    func close() {
        if isOpen && ring == nil { store.disconnect(key) }
        isOpen = false
    }
}
