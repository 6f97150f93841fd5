// libFuzzer's entry point for what a store hands over at recovery (XenStoreTestKit, FuzzStore.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    fuzzRecords(UnsafeBufferPointer(start: bytes, count: count))
    return 0
}
