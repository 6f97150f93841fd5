// The reference store as a transcript's peer: so the transcripts, which were played against other daemons,
// hold the reference to the same words as the core.

import XenStoreTypes

/// A fresh reference store.
public final class ReferencePeer: TranscriptPeer {
    public let name: String? = nil
    private let store = ReferenceStore()
    private var lastKey = 0

    public init(for transcript: Transcript) {
        if let domains = transcript.domains {
            store.domains = [:]
            for id in domains { store.domains?[id] = ReferenceDomain(uniqueID: UInt64(id)) }
        }
        for (name, limit) in transcript.quotas { store.quotas[name] = Int(limit) }
    }

    public func connect(_ party: Transcript.Party) -> (any TranscriptConnection)? {
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

    init(_ store: ReferenceStore, _ key: Int) {
        self.store = store
        self.key = key
    }

    func send(_ bytes: [UInt8]) {
        received += bytes
        if isClosedByPeer() { return }
        while let message = Message.take(from: &received) { store.handle(key, message) }
    }

    func receive(patience: Int) -> Message? {
        guard isOpen else { return nil }
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
        guard received.count >= MessageHeader.size else { return false }
        let bytes = received
        return MessageHeader(reading: bytes.span.bytes).length > UInt32(MessageHeader.payloadMax)
    }

    func close() {
        if isOpen { store.disconnect(key) }
        isOpen = false
    }
}
