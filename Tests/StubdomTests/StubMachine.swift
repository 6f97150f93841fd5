// The stub domain's kernel in a machine of qemu's, without Xen: the domains and their guests live inside the
// kernel (stubdom/Sources/SimulatedHypervisor.swift, where the frames are described), and this speaks for
// them over the serial port.
//
// Everything is bounded in time; the machine ends with this object.

import Foundation
import Glibc
import XenStoreTestKit
import XenStoreTypes

/// Why a machine cannot be had, or has gone.
struct StubFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

final class StubMachine {
    /// The kernel that is tested; nil: none, and the tests that need one are not run (`make test-stubdom`).
    static let kernel = ProcessInfo.processInfo.environment["STUBDOM_KERNEL"]

    enum Kind: UInt8 {
        case create = 1
        case flags, destroy, bytes, domainEvent, reconnect, breakRing, unattachable, answer, powerOff, figures
        case wordChanged = 12
        case series = 13
        static let mistake = Kind.wordChanged
    }

    /// What the kernel tells of itself.
    struct Figures {
        /// Bytes: all of the heap, what is free in whole pages, and in one piece.
        var memory, free, largest: Int
        /// Ticks of the processor's clock that were spent in turns, but for what the simulated guests and
        /// machine took of them; from the entry to the first turn; and to the first reply, without waiting.
        var busy, start, answer: UInt64
    }

    /// timeout, which runs qemu; 0: it has ended, with `ending`.
    private var process: pid_t = 0
    private var ending: Int32 = -1
    private let directory: String
    private var file: Int32 = -1
    private var input: [UInt8] = []
    private var received: [UInt16: [UInt8]] = [:]
    /// The error words that the kernel has written to pages.
    private(set) var errors: [UInt16: UInt32] = [:]
    private var figures: [UInt64] = []

    var console: String { (try? String(contentsOfFile: "\(directory)/console", encoding: .utf8)) ?? "" }

    /// Starts it with so many MiB, and as many more for its guests' pages. `ready`: waits until it serves.
    /// It ends after so many seconds.
    init(
        memory: Int = 32, guestMemory: Int = 0, commandLine: String = "simulated", ramdisk: [UInt8]? = nil,
        ready: Bool = true, counting: Bool = false, seconds: Int = 60
    ) throws {
        guard let kernel = Self.kernel else { throw StubFailure("STUBDOM_KERNEL names no kernel") }
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("stub-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var arguments = [
            "timeout", "-k", "1", "\(seconds)", "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-m",
            "\(memory + guestMemory)", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", kernel, "-append",
            guestMemory == 0 ? commandLine : "\(commandLine) simulated-memory \(memory)",
            "-chardev", "socket,id=s,path=\(directory)/serial,server=on,wait=off",
            "-serial", "chardev:s", "-debugcon", "file:\(directory)/console",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        ]
        if let ramdisk {
            try Data(ramdisk).write(to: URL(fileURLWithPath: "\(directory)/ramdisk"))
            arguments += ["-initrd", "\(directory)/ramdisk"]
        }
        if counting { arguments += ["-icount", "shift=0"] }
        try start(arguments)
        if !ready { return }
        try connect()
        guard takeFrame()?.kind == Kind.answer.rawValue else { throw StubFailure("it is silent: \(console)") }
    }

    deinit {
        if isRunning { kill(process, SIGTERM) }
        _ = status()
        if file >= 0 { close(file) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    private func start(_ arguments: [String]) throws {
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        for descriptor in [0, 1, 2] as [Int32] {
            posix_spawn_file_actions_addopen(&files, descriptor, "/dev/null", O_RDWR, 0)
        }
        // The test's threads may have signals blocked, SIGTERM too.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        let code = posix_spawnp(&process, "timeout", &files, &attributes, &words, environ)
        if code != 0 { throw StubFailure("timeout cannot be started, errno \(code)") }
    }

    private var isRunning: Bool {
        if process == 0 { return false }
        var state: Int32 = 0
        if waitpid(process, &state, WNOHANG) != process { return true }
        process = 0
        ending = state & 0x7F == 0 ? state >> 8 & 0xFF : -1
        return false
    }

    /// The status with which qemu ended, within ten seconds; nil: it has not. 1: the kernel has powered off,
    /// 7: it has crashed.
    func status() -> Int32? {
        for _ in 0..<1000 where isRunning { usleep(10_000) }
        return isRunning ? nil : ending
    }

    // MARK: Frames

    private func connect() throws {
        for _ in 0..<1000 {
            file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = UInt16(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(directory)/serial".utf8) }
            let status = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(file, $0, UInt32(MemoryLayout<sockaddr_un>.size))
                }
            }
            if status == 0 { return }
            close(file)
            file = -1
            if !isRunning { break }
            usleep(5000)
        }
        throw StubFailure("qemu listens to nobody")
    }

    /// False: the machine is gone, or takes nothing.
    @discardableResult
    func send(_ kind: Kind, _ domain: UInt16 = 0, _ body: [UInt8] = []) -> Bool {
        var frame = [kind.rawValue, 0, UInt8(domain & 0xFF), UInt8(domain >> 8)]
        withUnsafeBytes(of: UInt32(body.count)) { frame += $0 }
        frame += body
        var sent = 0
        while sent < frame.count {
            // While the machine takes nothing it may be waiting for us to take something.
            var ready = pollfd(fd: file, events: Int16(POLLIN | POLLOUT), revents: 0)
            guard poll(&ready, 1, 20_000) > 0 else { return false }
            if ready.revents & Int16(POLLIN) != 0 && !read() { return false }
            if ready.revents & Int16(POLLOUT) == 0 { continue }
            let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
            let count = frame.withUnsafeBytes {
                Glibc.send(file, $0.baseAddress! + sent, frame.count - sent, flags)
            }
            if count <= 0 && errno != EAGAIN { return false }
            sent += max(count, 0)
        }
        return true
    }

    private func takeFrame() -> (kind: UInt8, domain: UInt16, body: [UInt8])? {
        while true {
            if input.count >= 8 {
                let count = input[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
                if input.count >= 8 + count {
                    let body = Array(input[8..<8 + count])
                    let frame = (input[0], UInt16(input[2]) | UInt16(input[3]) << 8, body)
                    input.removeFirst(8 + count)
                    return frame
                }
            }
            var waiting = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, 20_000) > 0, read() else { return nil }
        }
    }

    /// Takes what has come. False: the machine is gone.
    private func read() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = recv(file, &buffer, buffer.count, 0)
        if count <= 0 { return false }
        input += buffer[..<count]
        return true
    }

    /// Waits until all that was sent is carried out. False: the machine does not answer.
    @discardableResult
    func settle() -> Bool {
        send(.answer)
        while let frame = takeFrame() {
            if frame.kind == Kind.answer.rawValue { return true }
            note(frame)
        }
        return false
    }

    private func note(_ frame: (kind: UInt8, domain: UInt16, body: [UInt8])) {
        switch frame.kind {
        case Kind.bytes.rawValue: received[frame.domain, default: []] += frame.body
        case Kind.wordChanged.rawValue:
            errors[frame.domain] = frame.body.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        default:
            figures = frame.body.withUnsafeBytes { all in
                stride(from: 0, to: all.count, by: 8).map {
                    all.loadUnaligned(fromByteOffset: $0, as: UInt64.self)
                }
            }
        }
    }

    /// A domain's next message, while others go on working. Nil: nothing comes for 20 seconds.
    func receiveMeanwhile(_ domain: UInt16) -> Message? {
        while true {
            if let message = Message.take(from: &received[domain, default: []]) { return message }
            guard let frame = takeFrame(), frame.kind != Kind.answer.rawValue else { return nil }
            note(frame)
        }
    }

    // MARK: Guests

    func receive(_ domain: UInt16) -> Message? {
        if let message = Message.take(from: &received[domain, default: []]) { return message }
        settle()
        return Message.take(from: &received[domain, default: []])
    }

    /// A domain's next message of those that have come.
    func takeReceived(_ domain: UInt16) -> Message? { Message.take(from: &received[domain, default: []]) }

    /// How many messages have come for a guest and wait to be looked at.
    func waiting(_ domain: UInt16) -> Int {
        var bytes = received[domain] ?? []
        var count = 0
        while Message.take(from: &bytes) != nil { count += 1 }
        return count
    }

    func forget(_ domain: UInt16) { received[domain] = nil }

    /// What a request is answered with, as text; nil: nothing.
    @discardableResult
    func ask(_ domain: UInt16, _ type: MessageType, _ arguments: [String]) -> String? {
        ask(domain, Message(type, [UInt8](strings: arguments)))
    }

    func ask(_ domain: UInt16, _ request: Message) -> String? {
        send(.bytes, domain, request.bytes)
        while let message = receive(domain) {
            if message.type != MessageType.watchEvent.rawValue {
                return message.errorName ?? String(decoding: message.payload, as: UTF8.self)
            }
        }
        return nil
    }

    /// Requests that a guest makes by itself, one for each number: `#####` in the arguments becomes it.
    /// `waits` until all are carried out. False: the machine does not answer.
    func makeSeries(
        _ domain: UInt16, _ numbers: Range<Int>, _ type: MessageType, _ payload: [UInt8], waits: Bool = true
    ) -> Bool {
        var body: [UInt8] = []
        for bound in [numbers.lowerBound, numbers.upperBound] {
            withUnsafeBytes(of: UInt32(bound)) { body += $0 }
        }
        send(.series, domain, body + Message(type, payload).bytes)
        return waits ? settle() : true
    }

    /// A domain, introduced.
    func makeGuest(_ domain: UInt16) -> Bool {
        send(.create, domain)
        return ask(0, .introduce, ["\(domain)", "1", "1"]) == "OK\0"
    }

    func takeFigures() throws -> Figures {
        send(.figures)
        guard settle(), figures.count == 6 else { throw StubFailure("no figures: \(console)") }
        return Figures(
            memory: Int(figures[0]), free: Int(figures[1]), largest: Int(figures[2]), busy: figures[3],
            start: figures[4], answer: figures[5])
    }
}
