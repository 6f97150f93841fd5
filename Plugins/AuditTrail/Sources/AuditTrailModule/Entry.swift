// The entry point of libxenstore-audit-trail.so, and nothing else, so that the module can also be linked in.

import AuditTrail
import CXenStorePlugin

@c(xenstore_plugin_entry)
public func entry() -> UnsafePointer<xenstore_plugin> { auditTrail.pointer }
