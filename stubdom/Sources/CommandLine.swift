// The kernel's command line: what init-xenstore-domain passes, and what its --param adds.
//
//     --event N          the port of domain 0 for its ring; must be there
//     --master-domid N   the domain that --event is about and that may do everything (else the
//                        configuration's privileged-domain)
//     simulated          no Xen is looked for: a test drives the machine (SimulatedHypervisor)
//     simulated-memory N so many MiB are the kernel's, and the rest of the machine's are its guests'
//
// A word that is none of these is a mistake: better no XenStore than one that does not do what was asked for.

struct KernelOptions {
    var port: UInt32?
    /// Nil: as the configuration says.
    var controlDomain: UInt16?
    var isSimulated = false
    /// MiB; nil: all that there are, for the kernel and its simulated guests.
    private var simulatedMemory: UInt?

    /// Stops at a mistake.
    init(_ line: UnsafeRawBufferPointer) {
        var words = Words(line)
        while let word = words.next() {
            if word.equals("--event") {
                port = words.number(of: "--event", from: 1, to: 0xFFFF_FFFF)
            } else if word.equals("--master-domid") {
                controlDomain = UInt16(words.number(of: "--master-domid", from: 0, to: 0x7FEF))
            } else if word.equals("simulated") {
                isSimulated = true
            } else if word.equals("simulated-memory") {
                simulatedMemory = UInt(words.number(of: "simulated-memory", from: 1, to: 2048))
            } else {
                Self.mistake("the command line", "--event N or --master-domid N", word)
            }
        }
    }

    /// Where the kernel's memory ends in a machine without Xen. Of so many MiB Xen keeps eight pages.
    func memoryEnd(of machineEnd: UInt) -> UInt {
        guard let simulatedMemory else { return machineEnd }
        let end = simulatedMemory << 20 - 8 * 4096
        if end > machineEnd { stop("the machine has less memory than simulated-memory: ", Int(machineEnd)) }
        return end
    }

    fileprivate static func mistake(
        _ place: StaticString, _ expected: StaticString, _ found: UnsafeRawBufferPointer?
    ) -> Never {
        Console.beginLine("stopped")
        Console.put(place)
        Console.put(": found ")
        if let found { Console.put(found) } else { Console.put("the end of the command line") }
        Console.put(", expected ")
        Console.put(expected)
        Console.endLine()
        shutDown(.crash)
    }
}

/// The words of a line, which blanks separate.
private struct Words {
    private var rest: UnsafeRawBufferPointer

    init(_ line: UnsafeRawBufferPointer) { rest = line }

    mutating func next() -> UnsafeRawBufferPointer? {
        var start = 0
        while start < rest.count && rest[start] == 0x20 { start += 1 }
        if start == rest.count { return nil }
        var end = start
        while end < rest.count && rest[end] != 0x20 { end += 1 }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest[end...]) }
        return UnsafeRawBufferPointer(rebasing: rest[start..<end])
    }

    /// The number that follows an option. Stops if there is none.
    mutating func number(of option: StaticString, from least: UInt64, to most: UInt64) -> UInt32 {
        let word = next()
        guard let value = word?.decimal, value >= least, value <= most else {
            KernelOptions.mistake(option, least == 0 ? "a decimal number" : "a number from 1 on", word)
        }
        return UInt32(value)
    }
}

extension UnsafeRawBufferPointer {
    func equals(_ text: StaticString) -> Bool {
        if count != text.utf8CodeUnitCount { return false }
        for index in 0..<count where self[index] != text.utf8Start[index] { return false }
        return true
    }

    /// The number that at most 10 decimal digits write; nil if they are none.
    var decimal: UInt64? {
        if isEmpty || count > 10 { return nil }
        var value: UInt64 = 0
        for byte in self {
            let digit = byte &- 0x30
            if digit > 9 { return nil }
            value = value * 10 + UInt64(digit)
        }
        return value
    }
}
