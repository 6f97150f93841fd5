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
    if options.port == nil && !options.isSimulated {
        stop("the command line: expected --event N, the port of domain 0, found none")
    }
    if !hasXen && !options.isSimulated { stop("there is no Xen here") }
    let memoryEnd = hasXen ? XenHypervisor.memoryEnd : options.memoryEnd(of: start.mappedEnd)
    let gap = start.longestGap(below: memoryEnd)
    if gap.end < gap.start + 256 << 10 { stop("expected 256 KiB of free memory, found: ", Int(memoryEnd)) }
    heap = Heap(gap.start, gap.end)
    let spare = start.longestGap(from: memoryEnd, below: options.isSimulated ? start.mappedEnd : 0)
    Machine.protectPages()
    do throws(Failure) {
        let settings = try readSettings(start.module)
        if options.isSimulated {
            let hypervisor = SimulatedHypervisor(spare)
            let kernel = try Kernel(hypervisor, options, settings)
            kernel.run(simulated: hypervisor)
        } else {
            try Kernel(try XenHypervisor(memoryEnd: memoryEnd), options, settings).run()
        }
    } catch {
        stop(error)
    }
}

/// The ramdisk's; without one, the defaults.
private func readSettings(_ module: UnsafeRawBufferPointer) throws(Failure) -> KernelConfiguration {
    if module.isEmpty { return KernelConfiguration() }
    do throws(KernelConfiguration.Mistake) {
        return try KernelConfiguration(compiled: module.bindMemory(to: UInt8.self).span)
    } catch {
        switch error {
        case .isNone: throw Failure("the ramdisk is no configuration that --compile-config has written")
        case .version(let found):
            throw Failure("the ramdisk is a configuration of a version that is not known: ", Int(found))
        case .isDamaged: throw Failure("the ramdisk is a configuration that is damaged or cut short")
        case .section(let kind):
            throw Failure("the ramdisk has a part that this kernel does not know, or none: ", Int(kind))
        case .setting(let offset): throw Failure("the ramdisk has a setting out of range, at ", offset)
        case .policy(let number): throw Failure("the ramdisk has a policy without a name, number ", number)
        }
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

    init(
        _ hypervisor: any Hypervisor, _ options: KernelOptions, _ settings: KernelConfiguration
    ) throws(Failure) {
        let port = options.port ?? 1  // Simulated: all others have one.
        self.hypervisor = hypervisor
        rings = Rings(hypervisor)
        var configuration = ServerConfiguration()
        configuration.domain = hypervisor.ownDomain
        configuration.privilegedDomain =
            options.controlDomain.map { DomainID($0) } ?? settings.privilegedDomain
        configuration.quotas = settings.quotas
        configuration.tracing = settings.tracing
        configuration.hashSeed = Randomness.seed()
        configuration.snapshotMemory = min(settings.snapshotMemory, (heap?.total ?? 0) / 8)
        privileged = configuration.privilegedDomain
        world = KernelWorld(rings, logLevel: settings.logLevel, controlDomain: privileged)
        server = Server(configuration, world: world)
        server.advance(to: hypervisor.now)
        server.setPolicies(try openPolicies(settings, hypervisor))
        do throws(ErrorName) {
            try server.introduce(configuration.privilegedDomain, gfn: 0, port: port)
        } catch {
            throw Failure("the ring of the control domain cannot be had, domain ", Int(privileged.rawValue))
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
            let hadWork = rings.hasWork
            let start = machine_time_stamp()
            runTurn()
            let spent = machine_time_stamp() - start - simulated.takeForeign()
            if hadWork || simulated.isWoken { simulated.busy += spent }
            wait()
        }
    }

    /// Returns when there may be something to do.
    func wait() {
        if rings.hasWork { return }
        var deadline = server.nextDeadline
        if rings.isHolding { deadline = min(deadline ?? .max, hypervisor.now + Self.holdPause) }
        hypervisor.wait(until: deadline)
    }

    /// Serves what has come until now.
    func runTurn() {
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
