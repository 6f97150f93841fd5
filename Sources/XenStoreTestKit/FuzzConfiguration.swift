// The configuration under any bytes: the entry of its fuzz target and of the mutation test.

import XenStoreHost

/// Reads `bytes` as a configuration file and traps unless it is one or all its mistakes can be found.
///
/// Promised for all bytes: reading ends; it yields a configuration within its bounds, or mistakes that each
/// have text, a single line each, and a place inside the file (or none, for a file that is too large); the
/// same bytes read the same a second time; and the configuration is unchanged where there is a mistake.
///
/// - Returns: whether it is a configuration.
@discardableResult
public func fuzzConfiguration(_ bytes: [UInt8]) -> Bool {
    // No users of this machine: the outcome depends on the bytes alone.
    let accounts = Accounts(
        user: { $0 == "root" ? 0 : nil }, group: { $0 == "root" ? 0 : nil })
    let first = outcome(bytes, accounts)
    precondition(first == outcome(bytes, accounts), "the same bytes were read differently")
    switch first {
    case .success(let configuration):
        check(configuration)
        return true
    case .failure(let mistakes):
        check(mistakes, lineCount: 1 + bytes.count { $0 == 0x0A || $0 == 0x0D || $0 >= 0x80 })
        return false
    }
}

private func outcome(
    _ bytes: [UInt8], _ accounts: Accounts
) -> Result<Configuration, ConfigurationMistakes> {
    var configuration = Configuration()
    do {
        try configuration.read(bytes, file: "fuzz", accounts: accounts)
        return .success(configuration)
    } catch {
        precondition(configuration == Configuration(), "mistakes were found, and yet something changed")
        return .failure(error)
    }
}

private func check(_ configuration: Configuration) {
    precondition((1...16).contains(configuration.sockets.count))
    precondition(Set(configuration.sockets.map(\.path)).count == configuration.sockets.count)
    for socket in configuration.sockets {
        precondition(socket.path.hasPrefix("/") && socket.path.utf8.count <= 107)
        let isOwners = socket.mode.value & 0o077 == 0
        precondition(isOwners || !configuration.policies.isEmpty)
        precondition(socket.mode.value <= 0o777)
    }
    precondition(configuration.transactions.snapshotMemory >= 64 << 10)
    precondition(configuration.domain.rawValue < 0x7FF0 && configuration.privilegedDomain.rawValue < 0x7FF0)
}

/// `lineCount` is an upper bound: YAML's further line ends (U+0085, U+2028, U+2029) are not ASCII.
private func check(_ mistakes: ConfigurationMistakes, lineCount: Int) {
    precondition(!mistakes.all.isEmpty)
    for mistake in mistakes.all {
        precondition(!mistake.text.isEmpty)
        precondition(mistake.text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F })
        if let place = mistake.place {
            precondition((1...lineCount).contains(place.line) && place.column >= 1, "\(mistake)")
        }
    }
}
