// The entry point of libxenstore-memory.so, and nothing else, so that the module can also be linked in.

import CXenStorePlugin
import MemoryStore

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { memoryStore.pointer }
