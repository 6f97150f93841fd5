// The reference's requests: arguments, order of checks (specification, section A) and those that touch no
// node.

import XenStoreTypes

/// One request on its way.
struct ReferenceRequest {
    let store: ReferenceStore
    let key: Int
    let connection: ReferenceConnection
    let message: Message

    var subject: ReferenceSubject { connection.subject }
    var isPrivileged: Bool { store.isPrivileged(subject) }

    func carryOut() throws(ErrorName) {
        guard let type = MessageType(rawValue: message.type) else { throw .nosys }
        if [.watchEvent, .error, .restrict].contains(type) { throw .nosys }
        let ofPrivileged: Set<MessageType> = [
            .control, .introduce, .release, .isDomainIntroduced, .resume, .setTarget, .setFeature, .getQuota,
            .setQuota,
        ]
        let isPrivilegedOnly =
            ofPrivileged.contains(type) || (type == .getFeature && !message.payload.isEmpty)
        if isPrivilegedOnly && !isPrivileged { throw .acces }
        let asksOnly: Set<MessageType> = [.isDomainIntroduced, .getFeature, .getQuota]
        let changesNodes: Set<MessageType> = [.write, .makeDirectory, .remove, .setPermissions]
        if connection.isReadOnly,
            changesNodes.contains(type) || (isPrivilegedOnly && !asksOnly.contains(type))
        {
            throw .rofs
        }
        if message.transactionID != 0, type != .watch, type != .unwatch,
            connection.transactions[message.transactionID] == nil
        {
            throw .noent
        }
        try carryOut(type)
    }

    private func carryOut(_ type: MessageType) throws(ErrorName) {
        switch type {
        case .directory: try directory()
        case .directoryPart: try directoryPart()
        case .read: try read()
        case .getPermissions: try getPermissions()
        case .write: try write()
        case .makeDirectory: try makeDirectory()
        case .remove: try remove()
        case .setPermissions: try setPermissions()
        case .watch: try watch()
        case .unwatch: try unwatch()
        case .resetWatches: resetWatches()
        case .transactionStart: try startTransaction()
        case .transactionEnd: try endTransaction()
        case .getDomainPath: try domainPath()
        case .introduce: try introduce()
        case .release: try release()
        case .resume: try resume()
        case .setTarget: try setTarget()
        case .isDomainIntroduced: try isDomainIntroduced()
        case .setFeature: try setFeature()
        case .getFeature: try getFeature()
        case .getQuota: try getQuota()
        case .setQuota: try setQuota()
        default: throw .nosys
        }
    }

    // MARK: Replies

    func reply(_ payload: [UInt8]) {
        var answer = message
        answer.payload = payload
        connection.queue(.reply(answer))
    }

    func reply(_ text: String) { reply(Array(text.utf8) + [0]) }

    // MARK: Arguments

    /// The payload's strings, each ended by a NUL.
    func strings(_ payload: [UInt8]) throws(ErrorName) -> [[UInt8]] {
        guard payload.last == 0 else { throw .inval }
        return payload.dropLast().split(separator: 0, omittingEmptySubsequences: false).map(Array.init)
    }

    func oneString() throws(ErrorName) -> [UInt8] {
        let all = try strings(message.payload)
        guard all.count == 1 else { throw .inval }
        return all[0]
    }

    /// A decimal number without sign; nil for anything else.
    func number(_ bytes: [UInt8]) -> Int? {
        guard !bytes.isEmpty, bytes.count <= 10, bytes.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(String(decoding: bytes, as: UTF8.self))
    }

    /// `/local/domain/N/`, which a relative path stands for.
    var home: String {
        if case .domain(let id) = subject { return "/local/domain/\(id)/" }
        return "/local/domain/0/"
    }

    /// The absolute path that `bytes` name.
    func path(_ bytes: [UInt8], special: Bool = false) throws(ErrorName) -> String {
        let letters = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@".utf8)
        guard !bytes.isEmpty, bytes.allSatisfy(letters.contains) else { throw .inval }
        let text = String(decoding: bytes, as: UTF8.self)
        if text.contains("//") || (text.hasSuffix("/") && text != "/") { throw .inval }
        if text.hasPrefix("@") && !special { throw .inval }
        var full = text
        if !text.hasPrefix("/") && !text.hasPrefix("@") {
            if text.utf8.count > 2048 { throw .inval }
            full = home + text
        }
        if full.utf8.count > 3072 { throw .inval }
        if let limit = store.limit("path-max", subject), counted(full) > limit { throw .inval }
        return full
    }

    /// A path's length for the quota: without a leading `/local/domain/N/`.
    private func counted(_ path: String) -> Int {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count > 4, parts[1] == "local", parts[2] == "domain", number(Array(parts[3].utf8)) != nil
        else {
            return path.utf8.count
        }
        return parts[4...].joined(separator: "/").utf8.count
    }

    // MARK: Requests that touch no node

    private func getQuota() throws(ErrorName) {
        if message.payload.isEmpty { return reply(ReferenceStore.quotaNames.joined(separator: " ")) }
        let all = try strings(message.payload)
        guard (1...2).contains(all.count) else { throw .inval }
        let name = try quotaName(all.last!)
        guard all.count == 2 else { return reply(String(store.quotas[name]!)) }
        guard let domain = number(all[0]), domain <= 0xFFFF else { throw .inval }
        guard store.exists(domain, noting: false) else { throw .noent }
        reply(String(store.notes[UInt16(domain)]?.quotas[name] ?? store.quotas[name]!))
    }

    private func setQuota() throws(ErrorName) {
        let all = try strings(message.payload)
        guard (2...3).contains(all.count) else { throw .inval }
        let name = try quotaName(all[all.count - 2])
        guard let value = number(all.last!), value <= UInt32.max else { throw .inval }
        if all.count == 2 {
            store.quotas[name] = value
        } else {
            guard let domain = number(all[0]), domain <= 0xFFFF else { throw .inval }
            guard store.exists(domain, noting: true) else { throw .noent }
            store.notes[UInt16(domain), default: ReferenceNote()].quotas[name] = value
        }
        reply("OK")
    }

    private func quotaName(_ bytes: [UInt8]) throws(ErrorName) -> String {
        let name = String(decoding: bytes, as: UTF8.self)
        if name == "permissions" { return "node-permissions" }
        guard store.quotas[name] != nil else { throw .inval }
        return name
    }
}

extension ReferenceStore {
    /// In the order in which GET_QUOTA lists them.
    static let quotaNames = [
        "nodes", "watches", "transactions", "outstanding", "transaction-nodes", "memory", "node-size",
        "path-max",
        "node-permissions",
    ]
}
