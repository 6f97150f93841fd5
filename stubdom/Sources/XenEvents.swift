// Event channels by hypercalls: the FIFO ABI where Xen has it, else the 2-level one.
//
// shared_info, as far as it is about events (EventQueues.swift has the rest):
//
//     offset  size  meaning
//     0       1     upcall_pending: some event is
//
// Invariants:
// - A port that is bound has a word, and is not masked.

import CMachine
import XenStoreTypes

final class XenEvents {
    private let shared: UnsafeMutableRawPointer
    private let bits: EventBits
    /// Nil: the 2-level ABI is used.
    private var queues: EventQueues?

    private enum Command: UInt64 {
        case bindInterdomain = 0
        case bindVirtual = 1
        case close = 3
        case send = 4
        case unmask = 9
        case initControl = 11
        case expandArray = 12
    }

    /// `shared`: shared_info, in which no port is bound yet. Throws where Xen has the FIFO ABI, but no page
    /// of it can be had.
    init(_ shared: UnsafeMutableRawPointer) throws(Failure) {
        self.shared = shared
        bits = EventBits(shared)
        let control = Self.newPage()
        let arguments = Arguments()
        arguments.set(0, Self.frame(control))
        if Hypercall.call(.eventChannel, Command.initControl.rawValue, arguments) != 0 {
            control.deallocate()
            return
        }
        queues = EventQueues(control)
        try expand()
    }

    private static func newPage() -> UnsafeMutableRawPointer {
        let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        page.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        return page
    }

    private static func frame(_ page: UnsafeMutableRawPointer) -> UInt64 {
        UInt64(UInt(bitPattern: page) / 4096)
    }

    /// Ports that there are words for at present, and whether they can become more.
    var portCount: Int { queues?.portCount ?? EventBits.portCount }
    var usesQueues: Bool { queues != nil }

    /// Words for another 1024 ports.
    private func expand() throws(Failure) {
        let page = Self.newPage()
        EventQueues.prepare(page)
        let arguments = Arguments()
        arguments.set(0, Self.frame(page))
        let code = Hypercall.call(.eventChannel, Command.expandArray.rawValue, arguments)
        if code != 0 {
            page.deallocate()
            throw Failure("cannot add event channels to ", portCount, code: code)
        }
        queues?.add(page)
    }

    // MARK: Binding

    func bindVirtual(_ number: UInt32) throws(Failure) -> UInt32 {
        let arguments = Arguments()
        arguments.set(0, number)
        let code = Hypercall.call(.eventChannel, Command.bindVirtual.rawValue, arguments)
        if code != 0 { throw Failure("cannot bind virtual interrupt ", Int(number), code: code) }
        return try begin(arguments.get(8, UInt32.self))
    }

    func bind(_ domain: DomainID, remotePort: UInt32) throws(Failure) -> UInt32 {
        let arguments = Arguments()
        arguments.set(0, domain.rawValue)
        arguments.set(4, remotePort)
        let code = Hypercall.call(.eventChannel, Command.bindInterdomain.rawValue, arguments)
        if code != 0 { throw Failure("cannot bind event channel port ", Int(remotePort), code: code) }
        return try begin(arguments.get(8, UInt32.self))
    }

    /// Lets events of a port that Xen has bound come. Closes it again if that cannot be.
    private func begin(_ port: UInt32) throws(Failure) -> UInt32 {
        do throws(Failure) {
            while Int(port) >= portCount {
                if !usesQueues { throw Failure("the 2-level ABI has no event channel port ", Int(port)) }
                try expand()
            }
            let code = command(.unmask, port)
            if code != 0 { throw Failure("cannot unmask event channel port ", Int(port), code: code) }
        } catch {
            command(.close, port)
            throw error
        }
        return port
    }

    /// Throws where Xen keeps the port, of which nothing is heard any more.
    func unbind(_ port: UInt32) throws(Failure) {
        if queues == nil { bits.mask(port) } else { queues?.mask(port) }
        let code = command(.close, port)
        if queues == nil { bits.forget(port) }
        if code != 0 { throw Failure("cannot close event channel port ", Int(port), code: code) }
    }

    func notify(_ port: UInt32) throws(Failure) {
        let code = command(.send, port)
        if code != 0 { throw Failure("cannot signal event channel port ", Int(port), code: code) }
    }

    @discardableResult
    private func command(_ command: Command, _ port: UInt32) -> Int {
        let arguments = Arguments()
        arguments.set(0, port)
        return Hypercall.call(.eventChannel, command.rawValue, arguments)
    }

    // MARK: Taking

    /// Hands over ports that are pending, and makes them not pending; perhaps not all (`hasMore`), and with
    /// the FIFO ABI perhaps one twice.
    func take(_ body: (UInt32) -> Void) {
        machine_store8(shared, 0)
        if queues == nil { bits.take(body) } else { queues?.take(body) }
    }

    /// Some are left that Xen will not tell of again.
    var hasMore: Bool { queues?.hasMore ?? false }
}
