// libFuzzer's entry point for configuration files (XenStoreTestKit, FuzzConfiguration.swift).

import XenStoreTestKit

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    _ = fuzzConfiguration([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}
