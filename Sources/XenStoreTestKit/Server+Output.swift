// What a server has for its connections, as copies.

import XenStore

extension Server {
    /// The bytes that may be sent now.
    public func output(_ id: ConnectionID) -> [UInt8] {
        var copy: [UInt8] = []
        withOutput(id) { copy = [UInt8](copying: $0) }
        return copy
    }

    /// All bytes that are queued, those too that must not be seen yet.
    public func queued(_ id: ConnectionID) -> [UInt8] {
        var copy: [UInt8] = []
        withQueued(id) { copy = [UInt8](copying: $0) }
        return copy
    }
}
