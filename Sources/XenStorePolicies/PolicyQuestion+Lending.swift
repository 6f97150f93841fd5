// The core's questions as C has them. Unsafe code.

import CXenStorePlugin
import XenStore
import XenStoreTypes

extension PolicyQuestion {
    /// Calls `body` with the question, which is lent for the call.
    func lend<R>(_ body: (UnsafePointer<xenstore_question>) -> R) -> R {
        var lent = xenstore_question()
        lent.size = UInt32(MemoryLayout<xenstore_question>.size)
        if isDryRun { lent.flags |= UInt32(XENSTORE_DRY_RUN) }
        if isInTransaction { lent.flags |= UInt32(XENSTORE_IN_TRANSACTION) }
        if nodeExists { lent.flags |= UInt32(XENSTORE_NODE_EXISTS) }
        lent.operation = operation
        lent.request = request
        lent.now = now
        lent.subject = subject.lent
        lent.path = lentBytes(path)
        lent.component_ends = componentEnds.baseAddress
        lent.component_count = componentEnds.count
        lent.before = before.baseAddress?.assumingMemoryBound(to: xenstore_permission.self)
        lent.before_count = before.count / 4
        lent.after = after.baseAddress?.assumingMemoryBound(to: xenstore_permission.self)
        lent.after_count = after.count / 4
        lent.value = lentBytes(value)
        lent.object = object?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.second_object = secondObject?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        return subject.peer.groups.withUnsafeBufferPointer { groups in
            lent.groups = groups.baseAddress
            lent.group_count = groups.count
            return lend(&lent, body)
        }
    }

    private func lend<R>(
        _ lent: inout xenstore_question, _ body: (UnsafePointer<xenstore_question>) -> R
    ) -> R {
        if arguments.isEmpty { return body(&lent) }
        return withUnsafeTemporaryAllocation(of: xenstore_bytes.self, capacity: arguments.count) { words in
            for (index, argument) in arguments.enumerated() {
                words.initializeElement(at: index, to: lentBytes(argument))
            }
            lent.arguments = UnsafePointer(words.baseAddress)
            lent.argument_count = words.count
            return body(&lent)
        }
    }
}

private func lentBytes(_ bytes: UnsafeRawBufferPointer) -> xenstore_bytes {
    xenstore_bytes(start: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count: bytes.count)
}

extension PolicySubject {
    fileprivate var lent: xenstore_subject {
        var lent = xenstore_subject()
        if isPrivileged { lent.flags |= UInt32(XENSTORE_SUBJECT_PRIVILEGED) }
        if isSocket { lent.flags |= UInt32(XENSTORE_SUBJECT_SOCKET) }
        if isReadOnly { lent.flags |= UInt32(XENSTORE_SUBJECT_READ_ONLY) }
        lent.domain = domain?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.target = target?.rawValue ?? UInt16(XENSTORE_NO_DOMAIN)
        lent.uid = peer.user
        lent.gid = peer.group
        lent.pid = peer.process
        lent.connection = UInt64(connection)
        return lent
    }
}
