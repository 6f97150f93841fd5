// The entry point of libxenstore-smallest-policy.so.

import CXenStorePlugin
import SmallestPolicy

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { smallestPolicy.pointer }
