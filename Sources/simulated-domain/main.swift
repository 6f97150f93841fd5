// The command's entry point.

import Glibc
import XenStoreHost

/// Writes `text` and a newline.
func say(_ text: String, to descriptor: Int32) {
    let line = Array((text + "\n").utf8)
    _ = line.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
}

do {
    let command = try SimulatedDomainCommand.parse()
    try command.run()
} catch let failure as SimulationFailure {
    say("simulated-domain: \(failure)", to: STDERR_FILENO)
    exit(1)
} catch {
    let isHelp = SimulatedDomainCommand.exitCode(for: error) == .success
    say(SimulatedDomainCommand.fullMessage(for: error), to: isHelp ? STDOUT_FILENO : STDERR_FILENO)
    exit(isHelp ? 0 : 2)
}
