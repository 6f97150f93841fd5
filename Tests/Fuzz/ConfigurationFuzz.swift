// libFuzzer's entry point for the configuration: any bytes are a configuration or a list of mistakes, each with a
// place and a text, and never anything worse.

import XenStoreHost

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var configuration = Configuration()
    do throws(ConfigurationMistakes) {
        try configuration.read([UInt8](UnsafeBufferPointer(start: bytes, count: count)), file: "fuzz.yaml")
    } catch {
        precondition(!"\(error)".isEmpty)
    }
    return 0
}
