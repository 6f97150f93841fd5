// Makes and ends domains of a simulated Xen (docs/simulated-xen.md).
//
// Exit status: 0; 1 where an action failed, after one line on stderr; 2 where the command line is wrong.

import ArgumentParser
import Glibc
import XenStoreHost
import XenStoreTypes

/// What can be done to a simulated host, or to its domains.
enum Action: String, CaseIterable, ExpressibleByArgument {
    case `init`, create, shutdown, crash, destroy, forget
}

struct SimulatedDomainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulated-domain",
        abstract: "Makes and ends domains of a simulated Xen.",
        discussion: """
            init makes the host, with domain 0, in place of one that is there. The others act on the domains \
            named, in order: create makes them, shutdown and crash stop them, destroy kills them, forget \
            frees their ids. The daemon is told of all but create: that is for INTRODUCE.
            """)

    @Argument(help: "The directory that stands for the host.")
    var host: String

    @Argument(help: "init, create, shutdown, crash, destroy or forget.")
    var action: Action

    @Argument(help: "The ids of domains.")
    var domains: [UInt16] = []

    func validate() throws {
        if action == .`init` && !domains.isEmpty {
            throw ValidationError("found domains after init, expected none")
        }
        if action != .`init` && domains.isEmpty {
            throw ValidationError("found \(action.rawValue) without a domain, expected an id or more")
        }
    }

    /// Throws `SimulationFailure` at the first action that fails; those before it are done.
    func run() throws {
        if action == .`init` { return try SimulatedHost.make(host) }
        let host = try SimulatedHost(host)
        for domain in domains { try act(host, DomainID(domain)) }
    }

    private func act(_ host: SimulatedHost, _ domain: DomainID) throws(SimulationFailure) {
        switch action {
        case .`init`: break
        case .create: try host.create(domain)
        case .shutdown: try host.shutDown(domain)
        case .crash: try host.crash(domain)
        case .destroy: try host.destroy(domain)
        case .forget: try host.forget(domain)
        }
    }
}
