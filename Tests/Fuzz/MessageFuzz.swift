// libFuzzer's entry point for raw bytes of several connections (XenStoreTestKit, Fuzz.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzMessages(UnsafeBufferPointer(start: bytes, count: count))
    return 0
}
