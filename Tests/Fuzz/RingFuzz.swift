// libFuzzer's entry point for programs of calls on a shared page, compared with a reference page
// (XenStoreTestKit, FuzzRing.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzRing(UnsafeBufferPointer(start: bytes, count: count))
    return 0
}
