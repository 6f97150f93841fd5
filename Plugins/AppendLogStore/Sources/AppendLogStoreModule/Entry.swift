// The entry point of libxenstore-append-log.so, and nothing else, so that the module can also be linked in.

import AppendLogStore
import CXenStorePlugin

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { appendLogStore.pointer }
