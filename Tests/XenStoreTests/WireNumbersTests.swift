// Are the wire's numbers those of Xen's own header, xen/io/xs_wire.h?

import CXen
import Testing
import XenStoreTypes

@Suite struct WireNumbersTests {
    /// The header's names beside ours. GET_FEATURE and later are newer than Debian 12's header.
    static let types: [(MessageType, xsd_sockmsg_type)] = [
        (.control, XS_CONTROL), (.directory, XS_DIRECTORY), (.read, XS_READ), (.getPermissions, XS_GET_PERMS),
        (.watch, XS_WATCH), (.unwatch, XS_UNWATCH), (.transactionStart, XS_TRANSACTION_START),
        (.transactionEnd, XS_TRANSACTION_END), (.introduce, XS_INTRODUCE), (.release, XS_RELEASE),
        (.getDomainPath, XS_GET_DOMAIN_PATH), (.write, XS_WRITE), (.makeDirectory, XS_MKDIR),
        (.remove, XS_RM), (.setPermissions, XS_SET_PERMS), (.watchEvent, XS_WATCH_EVENT), (.error, XS_ERROR),
        (.isDomainIntroduced, XS_IS_DOMAIN_INTRODUCED), (.resume, XS_RESUME), (.setTarget, XS_SET_TARGET),
        (.resetWatches, XS_RESET_WATCHES), (.directoryPart, XS_DIRECTORY_PART),
    ]

    @Test func typesAreTheHeaders() {
        for (ours, theirs) in Self.types {
            #expect(ours.rawValue == theirs.rawValue, "\(ours)")
        }
    }

    @Test func noTypeIsLeftOut() {
        let compared = Set(Self.types.map { $0.1.rawValue })
        let restrict = MessageType.restrict.rawValue  // removed from the header, its number left free
        let missing = (0..<XS_TYPE_COUNT.rawValue).filter { !compared.contains($0) && $0 != restrict }
        #expect(missing == [])
        #expect(MessageType(rawValue: XS_INVALID.rawValue) == nil)
    }

    @Test func newerTypesFollowInOrder() {
        let newer: [MessageType] = [.getFeature, .setFeature, .getQuota, .setQuota]
        #expect(newer.map(\.rawValue) == [23, 24, 25, 26])
    }

    @Test func sizes() {
        #expect(MessageHeader.size == MemoryLayout<xsd_sockmsg>.size)
        #expect(MessageHeader.payloadMax == Int(XENSTORE_PAYLOAD_MAX))
    }

    @Test func fieldsStandWhereTheHeaderHasThem() {
        var message = xsd_sockmsg(type: 1, req_id: 2, tx_id: 3, len: 4)
        let header = withUnsafeBytes(of: &message) { MessageHeader(reading: $0.bytes) }
        #expect(header == MessageHeader(type: 1, requestID: 2, transactionID: 3, length: 4))
    }

    /// The header's table of error names, in its order.
    @Test func errorNamesAreTheHeaders() {
        let theirs = [
            "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO", "ENOTEMPTY",
            "ENOSYS",
            "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM",
        ]
        #expect(ErrorName.allCases.map { "\($0.name)" } == theirs)
    }
}
