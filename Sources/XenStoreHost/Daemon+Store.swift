// What an earlier daemon has left behind: the tree in the store, the sessions in their journal (design,
// "Rings and restarts").
//
//     recover   the tree out of the store, then the sessions that go with it
//     restore   domains that are the same as then are attached again; those that are gone are released
//     begin     the journal is begun anew; what the rings had sent is carried out, by the loop

import Glibc
import XenStore
import XenStoreTypes

extension Daemon {
    /// The store that is configured, opened; nil: nothing is to outlive the process.
    ///
    /// A batch's end is told through `mailbox`, from whatever thread.
    static func openStore(
        _ options: HostOptions, _ log: Log, _ mailbox: Mailbox<Message>
    ) throws(StartFailure) -> ModuleBackend? {
        guard let choice = options.store, try choice.module().isDurable else { return nil }
        let backend = try ModuleBackend(choice, log: log) { mailbox.post(.committed($0)) }
        log.write(.notice, "store: \(backend.module.name) (\(backend.module.origin))")
        return backend
    }

    /// Takes the tree over from the store. Answers the sessions that belong to it.
    func recover(_ backend: ModuleBackend, _ choice: StoreChoice) throws(StartFailure) -> SessionImage {
        let start = monotonicNow()
        server.advance(to: start)
        let boot = bootID()
        let sequence = try backend.recover { server.recover($0) }
        let isSame = server.finishRecovery(
            sequence: sequence, boot: boot.span, keep: choice.keep.map { Array($0.utf8) })
        let journal = try SessionJournal(choice.sessions, server: server, boot: boot, log: log)
        self.journal = journal
        let image = try journal.read(upTo: sequence)
        let milliseconds = (monotonicNow() - start) / 1_000_000
        log.write(
            .notice,
            "store: batch \(sequence), \(server.nodeCount) nodes in \(milliseconds) ms; "
                + "domains with sessions: \(image.domainCount)")
        return isSame ? image : SessionImage()
    }

    /// Takes the sessions up, and records from now on. After `prepareOwnRing`, before any other domain is
    /// introduced.
    func restore(_ image: SessionImage) {
        if rings != nil { server.restore(image) }
    }

    /// From now on the sessions are recorded; what the rings had sent is carried out.
    func beginSessions(_ traffic: RingConnections?) {
        guard let journal else { return }
        // In this order: the number of the first batch may stand on frames of a batch that was lost.
        journal.begin(traffic)
        server.commit()
        loop.journal = journal
        server.proceed()
    }

    /// Which boot of the host this is.
    private func bootID() -> [UInt8] {
        if let boot = rings?.hypervisor.bootID { return Array(boot.utf8) }
        let descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return Array("unknown".utf8) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = max(0, read(descriptor, &bytes, bytes.count))
        return Array(bytes[..<count].prefix { $0 != UInt8(ascii: "\n") })
    }
}
