// From the entry to the loop.
//
//     start   what the loader left, Xen, memory, exceptions; options; server, rings; domain 0's ring
//     loop    events, requests, replies, signals; then it waits

import CMachine
import XenStore
import XenStoreTypes

@_cdecl("kernel_main")
public func main(_ place: UInt) -> Never {
    Machine.catchExceptions()
    let hasXen = Hypercall.prepare()
    if hasXen { XenHypervisor.attachConsole() }
    let start = Start(place)
    let options = KernelOptions(start.commandLine)
    if !hasXen && !options.isSimulated { stop("there is no Xen here") }
    let memoryEnd = hasXen ? XenHypervisor.memoryEnd : start.mappedEnd
    let gap = start.longestGap(below: memoryEnd)
    if gap.end < gap.start + 256 << 10 { stop("expected 256 KiB of free memory, found: ", Int(memoryEnd)) }
    heap = Heap(gap.start, gap.end)
    Machine.protectPages()
    do throws(Failure) {
        if options.isSimulated {
            let hypervisor = SimulatedHypervisor()
            let kernel = try Kernel(hypervisor, options)
            kernel.run(simulated: hypervisor)
        } else {
            try Kernel(try XenHypervisor(memoryEnd: memoryEnd), options).run()
        }
    } catch {
        stop(error)
    }
}

/// One server and its rings.
final class Kernel {
    private let hypervisor: any Hypervisor
    private let rings: Rings
    private let server: Server
    private let world: KernelWorld
    private let privileged: DomainID
    /// How often it is looked whether there is memory again for the rings that wait for it, in nanoseconds.
    private static let holdPause: UInt64 = 10_000_000

    init(_ hypervisor: any Hypervisor, _ options: KernelOptions) throws(Failure) {
        guard let port = options.port ?? (options.isSimulated ? 1 : nil) else {
            throw Failure("the command line: expected --event N, the port of domain 0, found none")
        }
        self.hypervisor = hypervisor
        rings = Rings(hypervisor)
        var configuration = ServerConfiguration()
        configuration.domain = hypervisor.ownDomain
        configuration.privilegedDomain = DomainID(options.controlDomain)
        configuration.hashSeed = Randomness.seed()
        configuration.snapshotMemory = (heap?.total ?? 0) / 8
        privileged = configuration.privilegedDomain
        world = KernelWorld(rings, logLevel: .info, controlDomain: privileged)
        server = Server(configuration, world: world)
        server.advance(to: hypervisor.now)
        do throws(ErrorName) {
            try server.introduce(configuration.privilegedDomain, gfn: 0, port: port)
        } catch {
            throw Failure("the ring of the control domain cannot be had: domain ", Int(options.controlDomain))
        }
        Console.beginLine("notice")
        Console.put("domain ")
        Console.put(Int(hypervisor.ownDomain.rawValue))
        Console.put(" serves XenStore; memory in KiB: ")
        Console.put((heap?.total ?? 0) / 1024)
        Console.endLine()
    }

    /// Turns for ever.
    func run() -> Never {
        while true {
            runTurn()
            wait()
        }
    }

    /// The same, with its time taken.
    func run(simulated: SimulatedHypervisor) -> Never {
        simulated.startedAfter = machine_time_stamp() - machine_load64(machine_place_start_time())
        while true {
            let start = machine_time_stamp()
            runTurn()
            simulated.busy += machine_time_stamp() - start
            wait()
        }
    }

    private func wait() {
        if rings.hasWork { return }
        var deadline = server.nextDeadline
        if rings.isHolding { deadline = min(deadline ?? .max, hypervisor.now + Self.holdPause) }
        hypervisor.wait(until: deadline)
    }

    private func runTurn() {
        server.advance(to: hypervisor.now)
        if rings.beginTurn(server, isStarved: world.isStarved, privileged: privileged) {
            server.domainsChanged()
        }
        while let connection = server.nextChanged() {
            if let ring = rings.ring(of: connection) { rings.settle(ring, server) }
        }
        server.commit()
        rings.endTurn(server)
    }
}
