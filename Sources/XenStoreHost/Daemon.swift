// The daemon: everything that one process needs to serve, put together in order and taken apart in reverse.
//
//     start   log, hypervisor, store, server, loop; signals, pid file, sockets; what an earlier daemon left;
//             the domains that are there; then the parent and the supervisor are told
//     run     the loop, until SIGTERM, SIGINT or a posted stop
//     stop    the supervisor is told; connections, rings, sockets and their files, pid file, log

import Glibc
import XenStore

/// A xenstored in this process. Belongs to the thread that made it.
public final class Daemon {
    /// Reads the configuration again. Runs on a thread of its own, since it reads files.
    public typealias Reload = @Sendable () throws(StartFailure) -> HostOptions

    /// What other threads tell it.
    enum Message: Sendable {
        case stop
        case reloaded(Result<Reloaded, StartFailure>)
        /// The store has every batch up to this one for good.
        case committed(UInt64)
    }

    /// A configuration that was read again, with its policies opened.
    struct Reloaded: Sendable {
        var options: HostOptions
        var policies: OpenPolicies
    }

    public let server: Server
    public let log: Log
    let mailbox: Mailbox<Message>
    let loop: EventLoop
    let world: HostWorld
    let rings: Rings?
    private let backend: ModuleBackend?
    private var policies: OpenPolicies
    private let closings = PolicyClosings()
    /// Nil where the sessions end with this process.
    var journal: SessionJournal?
    private let reload: Reload
    /// What is in force now.
    private(set) var options: HostOptions
    private var pidFile: PidFile?
    private var listeners: [SocketListener] = []
    private var reloading = false
    private var reloadAgain = false

    /// Takes what `options` name, so that clients can connect; they are served by `run`. With `signals`,
    /// SIGTERM, SIGINT and SIGHUP are this daemon's, and no other thread may exist yet.
    ///
    /// Fails with nothing left behind: no thread, no pid file, no socket.
    public init(_ options: HostOptions, signals: Bool, reload: @escaping Reload) throws(StartFailure) {
        raiseDescriptorLimit()
        Signals.ignoreBrokenPipes()
        self.options = options
        self.reload = reload
        mailbox = try Mailbox()
        let poll = try Poll()
        var configuration = options.server
        configuration.hashSeed = try randomSeed()
        log = try Log(Daemon.destination(options), level: options.logLevel, traceFile: options.traceFile)
        rings = try Daemon.makeRings(options, log)
        world = HostWorld(log: log, rings: rings)
        do throws(StartFailure) {
            backend = try Daemon.openStore(options, log, mailbox)
        } catch {
            log.close()
            throw error
        }
        if let own = rings?.hypervisor.ownDomain { configuration.domain = own }
        configuration.continuesInMemory = options.store?.onFull == .continueInMemory
        server = Server(configuration, world: world, backend: backend)
        let traffic = rings.map { [server, log] in RingConnections($0, server: server, log: log) }
        policies = OpenPolicies(all: [])
        loop = EventLoop(server: server, rings: traffic, poll: poll)
        do throws(StartFailure) {
            try open(signals: signals)
            if let traffic { try loop.add(traffic) }
            let ownPort = try prepareOwnRing()
            if let backend, let store = options.store { restore(try recover(backend, store)) }
            try introduceDomains(ownPort: ownPort)
            beginSessions(traffic)
        } catch {
            shutDown()
            throw error
        }
    }

    private func open(signals: Bool) throws(StartFailure) {
        policies = try OpenPolicies(options, log)
        server.setPolicies(policies.all)
        world.reload = { [unowned self] in hangUp() }
        // First, so that an early SIGTERM stops it cleanly too.
        if signals { try loop.add(Signals { [unowned self] in hangUp() }) }
        if let path = options.pidFile { pidFile = try PidFile(path) }
        for socket in options.sockets {
            let listener = try SocketListener(socket, log: log)
            listeners.append(listener)
            try loop.add(listener)
        }
        mailbox.deliver = { [unowned self] message in
            switch message {
            case .stop: loop.stop()
            case .reloaded(let outcome): apply(outcome)
            case .committed(let sequence): server.committed(sequence)
            }
        }
        try loop.add(mailbox)
    }

    /// Serves until it is told to stop, then takes everything apart. To be called once.
    public func run() {
        let paths = options.sockets.map(\.path).joined(separator: ", ")
        log.write(.notice, "process \(getpid()) serves \(paths)")
        Readiness.ready()
        loop.run()
        Readiness.stopping()
        log.write(.notice, "stopping with \(loop.sockets.count) connections")
        shutDown()
    }

    private func shutDown() {
        loop.sockets.closeAll()
        rings?.detachAll()
        for listener in listeners { listener.close() }
        listeners = []
        journal?.close()
        backend?.close()
        policies.close()
        closings.finish()
        pidFile?.remove()
        pidFile = nil
        log.close()
    }

    /// The rings of the hypervisor that was chosen, none of them attached yet; nil: there is none.
    private static func makeRings(_ options: HostOptions, _ log: Log) throws(StartFailure) -> Rings? {
        let hypervisor: (any Hypervisor)?
        do throws(StartFailure) {
            hypervisor = try makeHypervisor(options, log)
        } catch {
            log.close()
            throw error
        }
        log.write(.notice, "hypervisor: \(hypervisor?.name ?? "none"), since \(options.hypervisor.reason)")
        return hypervisor.map(Rings.init)
    }

    /// A daemon in the background has no stderr.
    private static func destination(_ options: HostOptions) -> LogDestination {
        options.background && options.logDestination == .standardError ? .syslog : options.logDestination
    }
}

/// SIGHUP.
extension Daemon {
    /// Opens the log files anew, and has the configuration read.
    private func hangUp() {
        log.reopen()
        if reloading {
            reloadAgain = true
            return
        }
        let (reload, mailbox, writer) = (reload, mailbox, log.writer)
        do throws(StartFailure) {
            try startThread("reload") {
                let outcome = Result { () throws(StartFailure) in
                    let options = try reload()
                    return Reloaded(options: options, policies: try OpenPolicies(options, writer))
                }
                mailbox.post(.reloaded(outcome))
            }
            reloading = true
        } catch {
            apply(.failure(error))
        }
    }

    /// Puts in force what can be changed while clients are connected. A configuration with mistakes changes
    /// nothing.
    private func apply(_ outcome: Result<Reloaded, StartFailure>) {
        reloading = false
        switch outcome {
        case .failure(let failure):
            log.write(.error, "the configuration stays as it was:")
            for line in failure.description.split(separator: "\n") { log.write(.error, String(line)) }
        case .success(let reloaded):
            let fresh = reloaded.options
            let older = policies
            policies = reloaded.policies
            policies.inherit(from: older)
            server.setPolicies(policies.all)
            closings.close(older)
            log.level = fresh.logLevel
            if Daemon.destination(fresh) != Daemon.destination(options) {
                log.setDestination(Daemon.destination(fresh))
            }
            if let path = fresh.traceFile, path != options.traceFile { _ = log.setTraceFile(path) }
            server.setQuotas(fresh.server.quotas)
            if fresh.server.tracing != options.server.tracing { server.setTracing(fresh.server.tracing) }
            warnOfRestart(fresh)
            options = fresh
            log.write(.notice, "the configuration was read again")
        }
        if reloadAgain {
            reloadAgain = false
            hangUp()
        }
    }

    private func warnOfRestart(_ fresh: HostOptions) {
        let changes = [
            ("hypervisor", fresh.hypervisor.kind != options.hypervisor.kind),
            ("sockets", fresh.sockets != options.sockets),
            ("pid file", fresh.pidFile != options.pidFile),
            ("domain", fresh.server.domain != options.server.domain),
            ("privileged domain", fresh.server.privilegedDomain != options.server.privilegedDomain),
            ("snapshot memory", fresh.server.snapshotMemory != options.server.snapshotMemory),
            ("store", fresh.store != options.store),
            ("socket output limit", fresh.server.socketOutputMax != options.server.socketOutputMax),
        ]
        for (name, changed) in changes where changed {
            log.write(.warning, "the new \(name) will be in force after a restart of the daemon")
        }
    }
}
