// The store backend that keeps nothing: the tree lives as long as the process.

import XenStorePlugin

/// What the base class does is all of it: nothing to hand back, and every batch final at once, since nothing
/// is promised about it.
public final class MemoryStore: StoreBackend {}

public let memoryStore = Plugin(
    backend: MemoryStore.init, name: "memory", version: "1.0",
    summary: "Keeps nothing: the tree ends with the process.", isDurable: false, options: [])
