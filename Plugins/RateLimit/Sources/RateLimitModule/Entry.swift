// The entry point of libxenstore-rate-limit.so, and nothing else, so that the module can also be linked in.

import CXenStorePlugin
import RateLimitOptions

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { rateLimit.pointer }
