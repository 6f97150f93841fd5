// libFuzzer's entry point for what a session journal hands over (XenStoreTestKit, FuzzStore.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzSessions(UnsafeBufferPointer(start: bytes, count: count))
    return 0
}
