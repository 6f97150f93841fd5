// libFuzzer's entry point for programs of requests, compared with the reference store (XenStoreTestKit,
// Fuzz.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzRequests(UnsafeBufferPointer(start: bytes, count: count))
    return 0
}
