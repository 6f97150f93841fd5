// The modules that need no file, as in the daemon.

import AppendLogStore
import AuditTrail
import MemoryStore
import PathRulesFile
import RateLimitOptions
import TypeLabelsFile
import XenStoreHost

let builtInModules = [memoryStore, appendLogStore, pathRules, typeLabels, rateLimit, auditTrail].map {
    BuiltInModule($0.pointer)
}
