// The modules that need no file, as in the daemon.

import MemoryStore
import XenStoreHost

let builtInModules = [BuiltInModule(memoryStore.pointer)]
