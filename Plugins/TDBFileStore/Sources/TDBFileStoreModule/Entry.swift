// The entry point of libxenstore-tdb-file.so, and nothing else, so that the module can also be linked in.

import CXenStorePlugin
import TDBFileStore

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { tdbFileStore.pointer }
