// The entry point of libxenstore-type-labels.so, and nothing else, so that the module can also be linked in.

import CXenStorePlugin
import TypeLabelsFile

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { typeLabels.pointer }
