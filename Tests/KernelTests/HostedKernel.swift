// The kernel on a hosted Xen, and its guests' side.

import CMachine
import XenStoreRing
import XenStoreTestKit
import XenStoreTypes

@testable import StubKernel
@testable import XenStore

final class HostedKernel {
    let xen: HostedXen
    let kernel: Kernel
    private var received: [UInt16: [UInt8]] = [:]

    init(_ xen: HostedXen) throws {
        self.xen = xen
        // As `main` does.
        guard Hypercall.prepare() else { throw Failure("there is no Xen here") }
        XenHypervisor.attachConsole()
        defer { Console.detach() }
        let line = Array("--event 7".utf8)
        let options = line.withUnsafeBytes { KernelOptions($0) }
        kernel = try Kernel(
            try XenHypervisor(memoryEnd: HostedXen.memoryEnd), options, KernelConfiguration())
        turn()
    }

    func turn() {
        for _ in 0..<8 {
            kernel.runTurn()
            kernel.wait()
        }
    }

    /// What a domain's request is answered with; nil: nothing.
    @discardableResult
    func ask(_ domain: UInt16, _ type: MessageType, _ arguments: [String]) -> String? {
        guard let ring = xen.ring(of: domain) else { return nil }
        var bytes = Message(type, [UInt8](strings: arguments)).bytes
        for _ in 0..<64 {
            if case .moved(let count) = ring.sendRequest(bytes.span) { bytes.removeFirst(count) }
            xen.raise(by: domain)
            turn()
            guard let ring = xen.ring(of: domain) else { return nil }
            take(from: ring, domain)
            while let message = Message.take(from: &received[domain, default: []]) {
                if message.type == MessageType.watchEvent.rawValue { continue }
                return message.errorName ?? String(decoding: message.payload, as: UTF8.self)
            }
        }
        return nil
    }

    private func take(from ring: RingPage, _ domain: UInt16) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 16)
        defer { buffer.deallocate() }
        while case .moved(let count) = ring.receiveResponse(into: buffer), count > 0 {
            received[domain, default: []] += buffer[..<count]
            xen.raise(by: domain)
        }
    }

    func makeDomain(_ domain: UInt16, handle: UInt8 = 1) {
        xen.domains[domain] = HostedXen.Domain(handle: handle, ports: [3])
        received[domain] = nil
    }

    func end(_ domain: UInt16, isGone: Bool) {
        if isGone { xen.domains[domain] = nil } else { xen.domains[domain]?.flags |= 1 }
        xen.tellOfDomains()
        turn()
    }
}
