// What a store or a session journal hands over may be anybody's: the entries of their fuzz targets, and of
// tests.

import XenStore
import XenStoreTypes

/// Bytes as what a backend hands over at recovery. Traps when the server that comes of it breaks an
/// invariant, or when a second one, recovered from what the first keeps, has another tree.
public func fuzzRecords(_ bytes: UnsafeBufferPointer<UInt8>) {
    let world = TestWorld(domains: [0, 1, 2])
    world.canIntroduce = true
    let backend = TestBackend()
    let server = Server(ServerConfiguration(), world: world, backend: backend)
    _ = server.recover(UnsafeRawBufferPointer(bytes))
    let boot = Array("boot".utf8)
    _ = server.finishRecovery(sequence: 0, boot: boot.span, keep: [Array("/a".utf8)])
    server.restore(SessionImage())
    server.commit()
    precondition(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
    let client = Client(server, domain: 0)
    _ = client.request(.write, ["/a/b"])
    _ = client.request(.remove, ["/local"])
    server.commit()
    precondition(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
}

/// Bytes as the frames of a session journal: two bytes of length, and so many bytes, again and again. Traps
/// when the server that takes them up breaks an invariant, or writes down other sessions than it has.
public func fuzzSessions(_ bytes: UnsafeBufferPointer<UInt8>) {
    var image = SessionImage()
    var position = 0
    while position + 2 <= bytes.count {
        let count = Int(bytes[position]) | Int(bytes[position + 1]) << 8
        let end = min(position + 2 + count, bytes.count)
        if !image.add([UInt8](bytes[(position + 2)..<end]).span) { break }
        position = end
    }
    let world = TestWorld(domains: [0, 1, 2])
    world.canIntroduce = true
    let server = Server(ServerConfiguration(), world: world, backend: TestBackend())
    _ = server.recover([], sequence: 0)
    server.restore(image)
    server.recordSessions(true)
    let boot = Array("boot".utf8)
    let frame = server.takeAllSessions(boot.span) { [UInt8](copying: $0) }
    server.commit()
    precondition(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
    var written = SessionImage()
    precondition(written.add(frame.span), "the server's own frame is none")
    server.proceed()
    server.commit()
    precondition(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
    for ring in world.rings.values { _ = Client(server, connection: ring).drain() }
    world.domains = [:]
    server.domainsChanged()
    precondition(server.checkInvariants() == 0, "\(world.lines.map(\.text))")
}

/// What a server writes down in a short life: batches, and frames as `fuzzSessions` reads them. Seeds for the
/// two.
public func storeSeeds(_ seed: UInt64) throws -> (records: [UInt8], frames: [UInt8]) {
    let simulation = try DurableSimulation(seed: seed)
    var random = SplitMix64(seed: seed)
    for _ in 0..<40 { try simulation.take(DurableStep(from: &random)) }
    var frames: [UInt8] = []
    for frame in simulation.journal where frame.bytes.count < 65536 {
        frames += [UInt8(frame.bytes.count & 255), UInt8(frame.bytes.count >> 8)] + frame.bytes
    }
    return (simulation.backend.records, frames)
}
