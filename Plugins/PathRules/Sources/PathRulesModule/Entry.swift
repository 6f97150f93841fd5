// The entry point of libxenstore-path-rules.so, and nothing else, so that the module can also be linked in.

import CXenStorePlugin
import PathRulesFile

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { pathRules.pointer }
