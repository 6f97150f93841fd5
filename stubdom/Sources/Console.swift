// Text for people: Xen's debug port, and the console ring once there is one.
//
// The console ring's page, as far as we use it:
//
//     offset  size  meaning
//     1024    2048  output bytes; byte number i stands at i modulo 2048
//     3080    4     out_cons: bytes that the reader has taken
//     3084    4     out_prod: bytes that we have put
//
// A reader that is late, or none at all, never holds us up: what does not fit is dropped.

import CMachine

enum Console {
    /// The console ring, and our port of its event channel.
    nonisolated(unsafe) private static var ring: UnsafeMutableRawPointer?
    nonisolated(unsafe) private static var port: UInt32 = 0
    /// Where Xen (a line at a time, in its own log) and qemu (-debugcon) take characters.
    private static let debugPort: UInt16 = 0xE9

    private enum Ring {
        static let bytes = 1024
        static let count: UInt32 = 2048
        static let consumer = 3080
        static let producer = 3084
    }

    /// From now on text goes to this ring too.
    static func attach(_ page: UnsafeMutableRawPointer, port: UInt32) {
        ring = page
        self.port = port
    }

    /// From now on it does not any more.
    static func detach() { (ring, port) = (nil, 0) }

    @inline(never) static func put(byte: UInt8) {
        machine_out8(debugPort, byte)
        guard let ring else { return }
        let producer = machine_load32(ring + Ring.producer)
        let waiting = producer &- machine_load32(ring + Ring.consumer)
        if waiting >= Ring.count { return }
        ring.storeBytes(
            of: byte, toByteOffset: Ring.bytes + Int(producer & (Ring.count - 1)), as: UInt8.self)
        machine_store32(ring + Ring.producer, producer &+ 1)
    }

    @inline(never) static func put(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount { put(byte: text.utf8Start[index]) }
    }

    static func put(_ text: UnsafeRawBufferPointer) {
        for byte in text { put(byte: byte >= 0x20 && byte < 0x7F ? byte : 0x3F) }
    }

    static func put(_ number: Int) {
        if number < 0 { put(byte: 0x2D) }
        put(digits: UInt64(number.magnitude))
    }

    private static func put(digits: UInt64) {
        if digits >= 10 { put(digits: digits / 10) }
        put(byte: 0x30 + UInt8(digits % 10))
    }

    static func put(hexadecimal number: UInt64) {
        put("0x")
        var shift = 60
        while shift > 0 && number >> UInt64(shift) == 0 { shift -= 4 }
        while shift >= 0 {
            let digit = UInt8(number >> UInt64(shift) & 15)
            put(byte: digit < 10 ? 0x30 + digit : 0x57 + digit)
            shift -= 4
        }
    }

    /// Ends a line, and tells the reader.
    @inline(never) static func endLine() {
        if ring != nil { put(byte: 0x0D) }
        put(byte: 0x0A)
        if port != 0 { signalConsole(port) }
    }

    /// A line that begins as all of ours do.
    static func beginLine(_ kind: StaticString) {
        put("xenstored: ")
        put(kind)
        put(": ")
    }
}

/// Why something failed, as one line: what was tried, on which text or number if any, and with which error.
struct Failure: Error {
    var what: StaticString
    var text: [UInt8] = []
    var number: Int?
    /// Xen's error, a negative errno; 0: none.
    var code = 0

    @inline(never) init(_ what: StaticString, _ number: Int? = nil, code: Int = 0) {
        self.what = what
        self.number = number
        self.code = code
    }

    init(_ what: StaticString, text: [UInt8]) {
        self.what = what
        self.text = text
    }

    func put() {
        Console.put(what)
        text.withUnsafeBytes { Console.put($0) }
        if let number { Console.put(number) }
        if code != 0 {
            Console.put(": error ")
            Console.put(code)
        }
    }
}

/// How many lines may tell of what fails again and again: ten at once, then one a second.
struct ComplaintLimit {
    private var left = 10
    /// When the last one was added to what is left.
    private var added: UInt64 = 0

    /// Whether there may be one at `now`, in nanoseconds.
    mutating func allows(at now: UInt64) -> Bool {
        if now >= added + 1_000_000_000 {
            left = min(left + Int((now - added) / 1_000_000_000), 10)
            added = now
        }
        if left == 0 { return false }
        left -= 1
        return true
    }
}

/// Ends the domain for a reason that its console shows.
func stop(_ failure: Failure) -> Never {
    Console.beginLine("stopped")
    failure.put()
    Console.endLine()
    shutDown(.crash)
}

func stop(_ what: StaticString, _ number: Int? = nil) -> Never { stop(Failure(what, number)) }
