// The modules that need no file, as in the daemon.

import AppendLogStore
import MemoryStore
import XenStoreHost

let builtInModules = [BuiltInModule(memoryStore.pointer), BuiltInModule(appendLogStore.pointer)]
