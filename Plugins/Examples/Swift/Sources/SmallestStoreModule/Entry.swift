// The entry point of libxenstore-smallest-store.so.

import CXenStorePlugin
import SmallestStore

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { smallestStore.pointer }
